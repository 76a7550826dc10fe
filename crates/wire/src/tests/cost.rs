//! What the walk costs beside the decoding it stands before. Printed; run with `--nocapture`.

use std::{hint::black_box, time::Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        FetchResponse,
        fetch_response::{FetchableTopicResponse, PartitionData},
    },
    protocol::{Decodable, Encodable, StrBytes},
};

use crate::check;

/// A fetch answer of one topic.
fn fetch(partitions: i32, record_bytes: usize) -> Bytes {
    let partition = |index| {
        PartitionData::default().with_partition_index(index).with_records(Some(Bytes::from(vec![0; record_bytes])))
    };
    let topic = FetchableTopicResponse::default()
        .with_topic(StrBytes::from_static_str("topic").into())
        .with_partitions((0..partitions).map(partition).collect());
    let mut bytes = BytesMut::new();
    FetchResponse::default().with_responses(vec![topic]).encode(&mut bytes, 12).unwrap();
    bytes.freeze()
}

/// Nanoseconds that one run takes.
fn time(mut run: impl FnMut()) -> u128 {
    const RUNS: u32 = 2_000;
    let started = Instant::now();
    (0..RUNS).for_each(|_| run());
    started.elapsed().as_nanos() / u128::from(RUNS)
}

#[test]
fn the_walk_looks_at_no_records() {
    let mut walks = Vec::new();
    for (partitions, record_bytes) in [(1, 100), (1, 1_000_000), (36, 100), (36, 100_000)] {
        let bytes = fetch(partitions, record_bytes);
        let walk = time(|| drop(black_box(check::<FetchResponse>(black_box(&bytes), 12))));
        let decode = time(|| drop(black_box(FetchResponse::decode(&mut bytes.clone(), 12))));
        println!("{partitions} partitions of {record_bytes} B: walk {walk} ns, decode {decode} ns");
        walks.push(walk);
    }
    // Ten thousand times the bytes in the same time, give or take a busy machine.
    assert!(walks[1] < walks[0] * 100 && walks[3] < walks[2] * 100, "{walks:?}");
}
