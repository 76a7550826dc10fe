//! What is known of the steps of one task.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use serde_json::Value;

use super::{Applied, Step};

/// What is known of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// It was begun.
    Begun,
    /// It was done, with this result.
    Done(Arc<Value>),
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    known: Known,
    /// By which run, and its place in that run.
    written: (Arc<str>, u64),
}

/// What is recorded of one task, by name and occurrence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entries(BTreeMap<(String, u32), Entry>);

impl Entries {
    /// What is known of a step.
    pub fn get(&self, name: &str, index: u32) -> Option<&Known> {
        self.entry(name, index).map(|entry| &entry.known)
    }

    /// Whether it was this run that wrote what is known of a step.
    pub fn is_of(&self, name: &str, index: u32, run: &str) -> bool {
        self.entry(name, index).is_some_and(|entry| *entry.written.0 == *run)
    }

    /// The results there are, by name and occurrence.
    pub fn done(&self) -> impl Iterator<Item = (&str, u32, &Value)> {
        self.0.iter().filter_map(|((name, index), entry)| match &entry.known {
            Known::Done(value) => Some((name.as_str(), *index, &**value)),
            Known::Begun => None,
        })
    }

    /// All that is known.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<((String, u32), Known)> {
        self.0.iter().map(|(step, entry)| (step.clone(), entry.known.clone())).collect()
    }

    fn entry(&self, name: &str, index: u32) -> Option<&Entry> {
        // The key is owned; a lookup is per step, not per record.
        self.0.get(&(name.to_owned(), index))
    }

    /// Notes what a step's line says, if it says more than is known.
    pub(super) fn note(&mut self, written: (Arc<str>, u64), step: &Step) -> Applied {
        let known = match &step.result {
            Some(result) => Known::Done(Arc::new(result.clone())),
            None => Known::Begun,
        };
        match self.0.entry((step.name.clone(), step.index)) {
            Slot::Vacant(slot) => {
                slot.insert(Entry { known, written });
                Applied::Counts
            }
            Slot::Occupied(mut slot) => {
                let was = slot.get();
                let newer = was.written.0 == written.0 && was.written.1 < written.1;
                let more = match (&was.known, &known) {
                    (_, Known::Begun) => false,
                    (Known::Begun, Known::Done(_)) => true,
                    // What an earlier run had recorded has been read, and used, by this one.
                    (Known::Done(_), Known::Done(_)) => newer,
                };
                if more {
                    slot.insert(Entry { known, written });
                }
                if more { Applied::Counts } else { Applied::Repeats }
            }
        }
    }
}
