//! Payloads at hand: recent ones, in a cache of bounded size, and those that were fetched for what is done next.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use anabranch_core::join::{Log, Place};
use anabranch_protocol::{Decoded, Envelope};
use bytes::Bytes;

/// Most bytes of recent payloads.
const RECENT_BYTES: usize = 32 * 1024 * 1024;
/// What a payload takes beside its data, about: the envelope.
const ENVELOPE_BYTES: usize = 768;

/// Where a payload lies in the logs of this composer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    pub(super) log: Log,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl Address {
    pub(super) fn of(partition: i32, place: Place) -> Self {
        Self { log: place.log, partition, offset: place.offset }
    }
}

/// A plan or an answer as it was written.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) envelope: Envelope,
    pub(super) data: Bytes,
}

impl Payload {
    /// With a copy of the data: a slice of a fetched buffer would keep all of it.
    pub(super) fn of(decoded: &Decoded) -> Self {
        Self { envelope: decoded.envelope.clone(), data: Bytes::copy_from_slice(&decoded.data) }
    }

    fn bytes(&self) -> usize {
        self.data.len() + ENVELOPE_BYTES
    }
}

/// What reading a payload came to: it, or why it cannot be read any more.
pub(super) type Loaded = Result<Arc<Payload>, String>;

/// Payloads at hand.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    recent: HashMap<Address, Arc<Payload>>,
    /// Oldest first.
    order: VecDeque<Address>,
    bytes: usize,
    /// What is needed next, whatever becomes of the recent ones.
    pinned: HashMap<Address, Loaded>,
}

impl Payloads {
    /// A payload, or why there is none; `None`: it is not at hand.
    pub(super) fn get(&self, address: Address) -> Option<Loaded> {
        if address.offset == Place::UNKNOWN {
            return Some(Err("its copy is not on the state topic".to_owned()));
        }
        self.pinned.get(&address).cloned().or_else(|| self.recent.get(&address).cloned().map(Ok))
    }

    /// Takes in a payload that just came. What is over the bound goes with the next [`trim`](Self::trim).
    pub(super) fn came(&mut self, address: Address, payload: Arc<Payload>) {
        let bytes = payload.bytes();
        if self.recent.insert(address, payload).is_none() {
            self.order.push_back(address);
            self.bytes += bytes;
        }
    }

    /// Lets the oldest go, down to the bound.
    pub(super) fn trim(&mut self) {
        while self.bytes > RECENT_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            let gone = self.recent.remove(&oldest).map_or(0, |payload| payload.bytes());
            self.bytes = self.bytes.saturating_sub(gone);
        }
    }

    /// Holds on to `needed`, and to nothing else that was fetched. Returns those of it that are to be fetched.
    pub(super) fn pin(&mut self, needed: &BTreeSet<Address>) -> BTreeSet<Address> {
        let mut lacking = BTreeSet::new();
        let mut pinned = HashMap::with_capacity(needed.len());
        for address in needed {
            match self.get(*address) {
                Some(loaded) => drop(pinned.insert(*address, loaded)),
                None => drop(lacking.insert(*address)),
            }
        }
        self.pinned = pinned;
        lacking
    }

    /// Takes in what was fetched.
    pub(super) fn fetched(&mut self, address: Address, loaded: Loaded) {
        self.pinned.insert(address, loaded);
    }
}

#[cfg(test)]
mod tests {
    use anabranch_protocol::RecordView;

    use super::*;

    fn payload(bytes: usize) -> Arc<Payload> {
        let value = Bytes::from(vec![b' '; bytes]);
        let (topic, headers) = ("t", &[]);
        let view =
            RecordView { topic, partition: 0, offset: 0, timestamp_ms: 0, key: None, value: Some(&value), headers };
        Arc::new(Payload::of(&Envelope::decode(&view).unwrap()))
    }

    fn address(offset: i64) -> Address {
        Address { log: Log::Results, partition: 0, offset }
    }

    #[test]
    fn recent_payloads_are_bounded_and_what_is_needed_stays() {
        let mut payloads = Payloads::default();
        for offset in 0..100 {
            payloads.came(address(offset), payload(1024 * 1024));
        }
        assert!(payloads.get(address(0)).is_some(), "nothing goes while an event is applied");
        let needed = [address(0), address(200)].into();
        assert_eq!(payloads.pin(&needed), [address(200)].into());
        payloads.trim();
        assert!(payloads.bytes <= RECENT_BYTES && payloads.recent.len() == payloads.order.len());
        assert!(payloads.get(address(0)).is_some() && payloads.get(address(1)).is_none());
        assert!(payloads.get(address(99)).is_some());
        payloads.fetched(address(200), Err("gone".to_owned()));
        assert!(payloads.get(address(200)).unwrap().is_err());
        assert!(payloads.pin(&BTreeSet::new()).is_empty() && payloads.get(address(0)).is_none());
        let unknown = Address { log: Log::State, partition: 0, offset: Place::UNKNOWN };
        assert!(payloads.get(unknown).unwrap().is_err(), "no fetch finds it");
    }
}
