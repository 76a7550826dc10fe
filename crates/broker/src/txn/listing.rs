//! What tools ask about transactions.

use std::collections::BTreeMap;

use kafka_protocol::{
    error::ResponseError,
    messages::{
        DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
        TransactionalId,
        describe_transactions_response::{TopicData, TransactionState as Described},
        list_transactions_response::TransactionState as Listed,
    },
    protocol::StrBytes,
};
use regex::Regex;

use super::{
    Moment, Transactional,
    transaction::{Phase, Transaction},
};

impl Phase {
    const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

impl Transactional {
    /// ListTransactions, versions 0 to 2. A pattern has to match a whole transactional id.
    pub(crate) fn list_transactions(&self, request: &ListTransactionsRequest) -> ListTransactionsResponse {
        let pattern = request.transactional_id_pattern.as_ref().filter(|pattern| !pattern.is_empty());
        let Ok(pattern) = pattern.map(|pattern| Regex::new(&format!("^(?:{})$", pattern.as_str()))).transpose() else {
            let code = ResponseError::InvalidRegularExpression.code();
            return ListTransactionsResponse::default().with_error_code(code);
        };
        let at = Moment::present();
        let unknown = request.state_filters.iter().filter(|name| !Phase::ALL.iter().any(|p| p.name() == name.as_str()));
        let matches = |transaction: &Transaction| {
            let (states, producers) = (&request.state_filters, &request.producer_id_filters);
            let runs = if transaction.started < 0 { -1 } else { at.wall.saturating_sub(transaction.started) };
            (states.is_empty() || states.iter().any(|name| name.as_str() == transaction.phase.name()))
                && (producers.is_empty() || producers.iter().any(|id| id.0 == transaction.producer))
                && (request.duration_filter < 0 || runs > request.duration_filter)
        };
        let inner = self.lock();
        let listed = inner.transactions.iter().filter(|(id, transaction)| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(id)) && matches(transaction)
        });
        let state = |(id, transaction): (&String, &Transaction)| {
            Listed::default()
                .with_transactional_id(TransactionalId(StrBytes::from_string(id.clone())))
                .with_producer_id(transaction.producer.into())
                .with_transaction_state(StrBytes::from_static_str(transaction.phase.name()))
        };
        ListTransactionsResponse::default()
            .with_unknown_state_filters(unknown.cloned().collect())
            .with_transaction_states(listed.map(state).collect())
    }

    /// DescribeTransactions, version 0.
    pub(crate) fn describe_transactions(&self, request: &DescribeTransactionsRequest) -> DescribeTransactionsResponse {
        let inner = self.lock();
        let describe = |id: &TransactionalId| {
            let described = match inner.transactions.get(id.as_str()) {
                Some(transaction) => described(transaction),
                None => Described::default().with_error_code(ResponseError::TransactionalIdNotFound.code()),
            };
            described.with_transactional_id(id.clone())
        };
        DescribeTransactionsResponse::default()
            .with_transaction_states(request.transactional_ids.iter().map(describe).collect())
    }
}

fn described(transaction: &Transaction) -> Described {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &transaction.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let topic = |(name, partitions): (&str, Vec<i32>)| {
        TopicData::default().with_topic(StrBytes::from_string(name.to_owned()).into()).with_partitions(partitions)
    };
    Described::default()
        .with_transaction_state(StrBytes::from_static_str(transaction.phase.name()))
        .with_transaction_timeout_ms(transaction.timeout_ms)
        .with_transaction_start_time_ms(transaction.started)
        .with_producer_id(transaction.producer.into())
        .with_producer_epoch(transaction.epoch)
        .with_topics(topics.into_iter().map(topic).collect())
}
