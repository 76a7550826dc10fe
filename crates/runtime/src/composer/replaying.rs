//! A case that was decided, decided again: the same join and the same composer, given what came and when.

use std::sync::Arc;

use anabranch_core::join::{Due, Join, Log};
use anabranch_kafka::OutRecord;
use anabranch_protocol::Timestamp;
use anabranch_protocol::replay::{CaseAgain, CaseDone, Turn};
use anabranch_sdk::composer::Composer;

use super::outputs::Outputs;
use super::partition::{Fault, PartitionJoin};
use super::payloads::{Address, Payloads};
use super::state;
use super::work::Work;
use crate::replay::{record_of, written};
use crate::site::Site;

/// Takes the turns again, and says what would have been written.
pub(crate) fn again<C: Composer>(composer: C, site: Site, asked: CaseAgain) -> CaseDone {
    let join = Join::new(state::policy(&site.topology));
    let mut join = PartitionJoin::new(asked.partition, join, Arc::new(composer), site, asked.review_partitions);
    let (mut payloads, mut copies) = (Payloads::default(), 0);
    let (mut all, mut stopped) = (Vec::new(), None);
    for turn in asked.turns {
        match join.turn(turn, &mut payloads, &mut copies) {
            Ok(records) => all.extend(records.into_iter().map(written)),
            Err(fault) => {
                stopped = Some(fault.to_string());
                break;
            }
        }
    }
    CaseDone { version: C::VERSION.to_owned(), written: all, stopped }
}

impl<C: Composer> PartitionJoin<C> {
    /// Takes a turn. Payloads of parked cases are copied as they would be to the state, where so many `copies` lie.
    fn turn(&mut self, turn: Turn, payloads: &mut Payloads, copies: &mut i64) -> Result<Vec<OutRecord>, Fault> {
        let (now, mut out) = (turn.now, Outputs::default());
        // What is to be forgotten by then is, whatever came.
        let due = self.join.due(now, usize::MAX);
        let works = match turn.record {
            Some(record) => vec![self.read(&record_of(record))],
            None => due.into_iter().filter_map(|due| when_due(due, now)).collect(),
        };
        for work in works {
            self.apply(&work, now, payloads, &mut out)?;
        }
        let (records, copied) = out.settle(&mut self.join);
        for (id, piece, payload) in copied {
            self.join.found(id.as_str(), piece, *copies);
            payloads.came(Address { log: Log::State, partition: self.partition, offset: *copies }, payload);
            *copies += 1;
        }
        Ok(records)
    }
}

fn when_due(due: Due, now: Timestamp) -> Option<Work> {
    match due {
        Due::Overdue(id) => Some(Work::Overdue(id, now)),
        Due::Bell(id) => Some(Work::Bell(id, now)),
        Due::Forgotten(_) => None,
    }
}
