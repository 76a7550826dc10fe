//! Forged and damaged messages: no panic, and no more memory than promised.

use std::collections::BTreeSet;

use anabranch_fuzz::{Fuzz, mutate};
use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};

use super::{Entry, generate::message};
use crate::{BYTES_PER_BYTE, table};

/// What decoding may take whatever the size of a message: an error with its text and backtrace.
const FLOOR_BYTES: u64 = 32 << 10;
/// Items in the worst case.
const ITEMS: usize = 400;

/// Message and version by the first two bytes of an input.
fn pick(input: &[u8]) -> Option<(&'static Entry, i16, &[u8])> {
    let ([which, version], rest) = input.split_first_chunk::<2>()?;
    let entry = table::entries().nth(usize::from(*which) % table::entries().count())?;
    let versions = entry.versions.1 - entry.versions.0 + 1;
    Some((entry, entry.versions.0 + i16::from(*version) % versions, rest))
}

/// One good message of each kind and version.
fn corpus() -> Vec<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut corpus = Vec::new();
    for (which, entry) in table::entries().enumerate() {
        for version in 0..=(entry.versions.1 - entry.versions.0) {
            let mut input = vec![which as u8, version as u8];
            input.extend(message(&mut rng, &entry.shape, entry.versions.0 + version));
            corpus.push(input);
        }
    }
    corpus
}

#[test]
fn any_message_of_any_api() {
    Fuzz::new("any message of any API").corpus(corpus()).allocating(BYTES_PER_BYTE, FLOOR_BYTES).run(|input| {
        let Some((entry, version, rest)) = pick(input) else { return };
        let (walked, read) = ((entry.check)(rest, version), (entry.read)(Bytes::copy_from_slice(rest), version));
        if let Ok(left) = read {
            assert_eq!(walked, Ok(rest.len() - left), "{} version {version}", entry.name);
        }
    });
}

/// The dearest messages that are true to their lengths: as many of the smallest items as fit.
#[test]
fn the_worst_that_fits_costs_no_more_than_promised() {
    let (mut worst, mut culprit) = (0.0_f64, String::new());
    for entry in table::entries() {
        let (first, last) = entry.versions;
        let versions = BTreeSet::from([first, last, entry.shape.flexible_from.saturating_sub(1).clamp(first, last)]);
        for version in versions {
            for bytes in inflated(entry, version) {
                let size = bytes.len() as f64;
                let held = anabranch_fuzz::measure(|| drop((entry.read)(bytes, version))).bytes_max;
                let ratio = held as f64 / size;
                if ratio > worst {
                    (worst, culprit) = (ratio, format!("{} version {version}", entry.name));
                }
            }
        }
    }
    println!("worst: {worst:.1} bytes of memory for a byte of a message, in {culprit}");
    assert!(worst > 8.0 && worst < BYTES_PER_BYTE as f64, "{worst} in {culprit}");
}

/// Puts a large count at each place of a small message in turn and fills the rest with what the smallest items look like.
/// Returns those that the walk lets through, without what they do not use.
fn inflated(entry: &Entry, version: i16) -> Vec<Bytes> {
    let plain = message(&mut StdRng::seed_from_u64(3), &entry.shape, version);
    let count = match version >= entry.shape.flexible_from {
        true => vec![(ITEMS & 0x7f) as u8 | 0x80, (ITEMS >> 7) as u8],
        false => (ITEMS as i32).to_be_bytes().to_vec(),
    };
    let mut all = Vec::new();
    for at in 0..plain.len() {
        for filler in [&[0_u8][..], &[1], &[1, 0], &[1, 1, 0], &[0, 1]] {
            let mut bytes = [&plain[..at], &count, &filler.repeat(ITEMS * 40 / filler.len())].concat();
            if let Ok(used) = (entry.check)(&bytes, version) {
                bytes.truncate(used);
                all.extend((used > ITEMS).then_some(Bytes::from(bytes)));
            }
        }
    }
    all
}

#[test]
fn mutations_change_something() {
    let mut rng = StdRng::seed_from_u64(5);
    let corpus = corpus();
    let changed = corpus.iter().filter(|input| mutate(&mut rng, input, &corpus) != **input).count();
    assert!(changed * 10 > corpus.len() * 8, "{changed} of {}", corpus.len());
}
