//! A case that was decided, decided again: the same join and the same composer, given what came and when.

use std::sync::Arc;

use anabranch_core::join::{Due, Join};
use anabranch_kafka::OutRecord;
use anabranch_protocol::Timestamp;
use anabranch_protocol::replay::{CaseAgain, CaseDone, Turn};
use anabranch_sdk::composer::Composer;

use super::outputs::Outputs;
use super::partition::{Fault, PartitionJoin};
use super::payloads::Payloads;
use super::state;
use super::work::Work;
use crate::replay::{record_of, written};
use crate::site::Site;

/// Takes the turns again, and says what would have been written.
pub(crate) fn again<C: Composer>(composer: C, site: Site, asked: CaseAgain) -> CaseDone {
    let join = Join::new(state::policy(&site.topology));
    let mut join = PartitionJoin::new(asked.partition, join, Arc::new(composer), site, asked.review_partitions);
    let mut payloads = Payloads::default();
    let (mut all, mut stopped) = (Vec::new(), None);
    for turn in asked.turns {
        match join.turn(turn, &mut payloads) {
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
    fn turn(&mut self, turn: Turn, payloads: &mut Payloads) -> Result<Vec<OutRecord>, Fault> {
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
        Ok(out.settle(&mut self.join))
    }
}

fn when_due(due: Due, now: Timestamp) -> Option<Work> {
    match due {
        Due::Overdue(id) => Some(Work::Overdue(id, now)),
        Due::Bell(id) => Some(Work::Bell(id, now)),
        Due::Forgotten(_) => None,
    }
}
