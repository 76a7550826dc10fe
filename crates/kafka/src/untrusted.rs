//! What brokers and other members may send: no panic, bounded memory. How to run it longer: `crates/fuzz`.
//!
//! Whole answers of all APIs are `anabranch-wire`'s to test; here is what lies in them as bytes.

use std::{collections::BTreeSet, sync::Arc};

use anabranch_core::group::{Subscription, TopicPartition};
use anabranch_fuzz::Fuzz;
use bytes::Bytes;

use crate::{
    batch::{Aborted, Partition, Producing, encode_batch, read_partition},
    config::Isolation,
    group::wire::{decode_assignment, decode_subscription, encode_assignment, encode_subscription},
    types::{Header, OutRecord},
};

const MAX_BATCH_BYTES: usize = 64 << 10;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Batches as Java wrote them, and one of ours.
fn batches() -> Vec<Vec<u8>> {
    let mut batches: Vec<_> = [
        include_str!("batch/vectors/none.hex"),
        include_str!("batch/vectors/gzip.hex"),
        include_str!("batch/vectors/snappy.hex"),
        include_str!("batch/vectors/lz4.hex"),
        include_str!("batch/vectors/zstd.hex"),
        include_str!("batch/vectors/transactions.hex"),
    ]
    .map(unhex)
    .to_vec();
    let header = Header { name: "h".into(), value: None };
    let record = OutRecord { key: Some("k".into()), value: None, headers: vec![header; 40], ..OutRecord::default() };
    let producing = Producing { producer_id: 7, producer_epoch: 0, base_sequence: 0, attributes: 0x10 };
    batches.push(encode_batch(&vec![record; 20], producing, 1_000).to_vec());
    batches.push(batches.concat());
    batches
}

/// Makes the checksums of whatever looks like a batch right, so that damage gets past them.
fn with_checksums(input: &[u8]) -> Bytes {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while let Some(length) = bytes.get(at + 8..at + 12) {
        let length = i32::from_be_bytes(length.try_into().unwrap());
        let Some(end) = usize::try_from(length).ok().map(|length| at + 12 + length) else { break };
        if end > bytes.len() || end < at + 61 {
            break;
        }
        let crc = crc32c::crc32c(&bytes[at + 21..end]);
        bytes[at + 17..at + 21].copy_from_slice(&crc.to_be_bytes());
        at = end;
    }
    bytes.into()
}

#[test]
fn any_record_batches() {
    // What is unpacked, what is made of it, and both while a buffer grows.
    let floor = 6 * MAX_BATCH_BYTES as u64 + (64 << 10);
    Fuzz::new("any record batches").corpus(batches()).allocating(8, floor).run(|input| {
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            for bytes in [Bytes::copy_from_slice(input), with_checksums(input)] {
                let asked = Partition {
                    topic: Arc::from("t"),
                    partition: 0,
                    fetch_offset: 1,
                    isolation,
                    max_batch_bytes: MAX_BATCH_BYTES,
                };
                let aborted = vec![Aborted { producer_id: 7, first_offset: 0 }];
                if let Ok((records, next)) = read_partition(&asked, bytes, aborted, &mut 0) {
                    assert!(next >= 1 && records.iter().all(|r| r.offset >= 1));
                }
            }
        }
    });
}

#[test]
fn any_subscription_and_assignment() {
    let owned: BTreeSet<_> = (0..30).map(|p| TopicPartition::new(if p % 2 == 0 { "a" } else { "bc" }, p)).collect();
    let subscription = Subscription { topics: [Arc::from("a")].into(), owned: owned.clone(), generation: 3 };
    let mut corpus =
        vec![encode_subscription(&subscription).unwrap().to_vec(), encode_assignment(&owned).unwrap().to_vec()];
    // The version, then two billion topics: a dozen bytes from another member.
    corpus.push(vec![0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 1, b't', 0, 0, 0, 0]);
    corpus.push(vec![0, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    Fuzz::new("any subscription and assignment").corpus(corpus).allocating(200, 64 << 10).run(|input| {
        let bytes = Bytes::copy_from_slice(input);
        if let Some(read) = decode_subscription(bytes.clone()) {
            let again = encode_subscription(&read).ok().and_then(decode_subscription);
            assert!(again.is_none_or(|again| again == read));
        }
        if let Some(read) = decode_assignment(bytes) {
            assert_eq!(encode_assignment(&read).ok().and_then(decode_assignment), Some(read));
        }
    });
}
