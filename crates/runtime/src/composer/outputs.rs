//! What is to be written because of what was done, all of it in one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_core::join::{Join, Piece, Place};
use anabranch_kafka::OutRecord;
use anabranch_protocol::CorrelationId;

use super::payloads::Payload;
use super::state;
use crate::emit::EmitError;

/// What is to be written for one partition.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// Outbound, follow-ups, late records, dead letters.
    records: Vec<OutRecord>,
    /// Cases whose state is to be saved or removed.
    touched: BTreeSet<CorrelationId>,
    /// Payloads of parked cases, to be copied.
    copies: Vec<Copy>,
    bytes: usize,
}

/// A payload that is to be copied from where it lies.
#[derive(Debug)]
struct Copy {
    id: CorrelationId,
    piece: Piece,
    from: Place,
    payload: Arc<Payload>,
}

/// A payload of a parked case.
pub(super) type Parked = (CorrelationId, Piece, Arc<Payload>);

/// A copy in a batch; where it lies is known once it is written.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) partition: i32,
    pub(super) id: CorrelationId,
    pub(super) piece: Piece,
    /// Its place in the batch.
    pub(super) index: usize,
}

impl Outputs {
    /// About how many records this makes.
    pub(super) fn len(&self) -> usize {
        self.records.len() + self.touched.len() + self.copies.len()
    }

    /// Whether there is something that others wait for. Where a case stands can wait, as long as offsets wait with it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.records.is_empty()
    }

    /// About how many bytes, states left out.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, record: OutRecord) {
        self.bytes += record.value.as_ref().map_or(0, bytes::Bytes::len);
        self.records.push(record);
    }

    /// The state of a case is to be saved.
    pub(super) fn touch(&mut self, id: &CorrelationId) {
        if !self.touched.contains(id) {
            self.touched.insert(id.clone());
        }
    }

    /// A payload is to be copied, unless the case refers to something else by then.
    pub(super) fn copy(&mut self, id: &CorrelationId, piece: Piece, from: Place, payload: &Arc<Payload>) {
        self.bytes += payload.data.len();
        self.copies.push(Copy { id: id.clone(), piece, from, payload: payload.clone() });
    }

    /// What leaves, in order, and what would be copied. The cases are what they are once all of it is written; where the
    /// copies lie is for the caller to say.
    pub(super) fn settle(mut self, join: &mut Join) -> (Vec<OutRecord>, Vec<Parked>) {
        self.copies.retain(|copy| join.keep(&copy.id, copy.piece, copy.from));
        for id in &self.touched {
            join.save(id);
        }
        join.take_released();
        let copies = self.copies.into_iter().map(|Copy { id, piece, payload, .. }| (id, piece, payload));
        (self.records, copies.collect())
    }

    /// Adds all of it to a batch: what leaves, copies that are not needed any more, new copies, and the cases as they are.
    ///
    /// # Errors
    /// If a state cannot be written as JSON.
    pub(super) fn write(
        &self,
        topic: &str,
        partition: i32,
        join: &mut Join,
        records: &mut Vec<OutRecord>,
        copied: &mut Vec<Copied>,
    ) -> Result<(), EmitError> {
        let kept: Vec<&Copy> = self.copies.iter().filter(|c| join.keep(&c.id, c.piece, c.from)).collect();
        let saved = self.touched.iter().map(|id| state::case_record(topic, partition, id, join.save(id)));
        let saved = saved.collect::<Result<Vec<OutRecord>, EmitError>>()?;
        records.extend(self.records.iter().cloned());
        let released = join.take_released();
        records.extend(released.iter().map(|(id, piece)| state::copy_removed(topic, partition, id, *piece)));
        for Copy { id, piece, payload, .. } in kept {
            copied.push(Copied { partition, id: id.clone(), piece: *piece, index: records.len() });
            records.push(state::copy_record(topic, partition, id.as_str(), *piece, payload));
        }
        records.extend(saved);
        Ok(())
    }
}
