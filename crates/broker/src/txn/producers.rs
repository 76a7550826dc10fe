//! InitProducerId: who a producer is, and whom it fences.

use kafka_protocol::{
    error::ResponseError,
    messages::{InitProducerIdRequest, InitProducerIdResponse},
};

use super::{
    Inner, Moment, Transactional, known_to,
    transaction::{Phase, Transaction},
};
use crate::ports::Producer;

/// What InitProducerId came to under the lock.
enum Init {
    Done(Producer),
    /// A transaction is in the way and is to be aborted first, as decided now.
    Abort(Producer),
}

impl Transactional {
    /// InitProducerId, versions 0 to 5. An ongoing transaction of an earlier instance is aborted before the answer.
    pub(crate) fn init_producer_id(&self, request: &InitProducerIdRequest, version: i16) -> InitProducerIdResponse {
        let response = InitProducerIdResponse::default();
        match self.init(request) {
            Ok(producer) => response.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch),
            Err(error) => {
                let error = known_to(version, 4, error);
                response.with_error_code(error.code()).with_producer_id((-1).into()).with_producer_epoch(-1)
            }
        }
    }

    fn init(&self, request: &InitProducerIdRequest) -> Result<Producer, ResponseError> {
        let Some(id) = &request.transactional_id else {
            return Ok(Producer { id: self.lock().fresh_id()?, epoch: 0 });
        };
        let given = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        if id.is_empty() || (given.id == -1) != (given.epoch == -1) {
            return Err(ResponseError::InvalidRequest);
        }
        let timeout_ms = request.transaction_timeout_ms;
        let longest = self.settings.max_timeout.as_millis();
        if timeout_ms <= 0 || u128::from(timeout_ms.unsigned_abs()) > longest {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let caller = (given.id != -1).then_some(given);
        let fenced = match self.lock().init(id, caller, timeout_ms)? {
            Init::Done(producer) => return Ok(producer),
            Init::Abort(fenced) => fenced,
        };
        self.finish(id)?;
        // Whoever aborted its own transaction this way goes on under the identity that it raised for that.
        match self.lock().init(id, caller.map(|_| fenced), timeout_ms)? {
            Init::Done(producer) => Ok(producer),
            // Another instance was quicker, and has begun a transaction already: the next attempt fences it.
            Init::Abort(_) => Err(ResponseError::ConcurrentTransactions),
        }
    }
}

impl Inner {
    fn init(&mut self, id: &str, caller: Option<Producer>, timeout_ms: i32) -> Result<Init, ResponseError> {
        let known = self.transactions.get(id).cloned();
        let mut transaction = match known {
            Some(transaction) => transaction,
            None => Transaction::new(self.fresh_id()?),
        };
        transaction.may_init(caller)?;
        if transaction.phase == Phase::Ongoing {
            transaction.fence();
            let fenced = transaction.identity();
            self.put(id, transaction)?;
            return Ok(Init::Abort(fenced));
        }
        let fresh = if transaction.needs_id(caller) { Some(self.fresh_id()?) } else { None };
        transaction.init(caller, fresh, timeout_ms);
        let producer = transaction.identity();
        self.put(id, transaction)?;
        Ok(Init::Done(producer))
    }

    /// Fences the producer of a transaction that ran out of time. Whether there was one.
    pub(super) fn fence_late(&mut self, id: &str) -> Result<bool, ResponseError> {
        self.update(id, |transaction, at: Moment| {
            let is_late = transaction.phase == Phase::Ongoing && transaction.deadline.is_some_and(|due| due <= at.now);
            if is_late {
                transaction.fence();
            }
            Ok(is_late)
        })
    }
}
