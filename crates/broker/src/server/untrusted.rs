//! Any bytes as a request: carried out, refused, or the connection ends; never a panic, never more memory than a request
//! may cost. How to run it longer: `crates/fuzz`.

use std::{cell::RefCell, time::Duration};

use anabranch_fuzz::Fuzz;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ProduceRequest, RequestHeader,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::Encodable,
};

use super::{
    connection::handle,
    tests::{World, all_frames, text},
};

/// A request may make a topic of ten thousand partitions.
const FLOOR_BYTES: u64 = 48 << 20;
/// Requests that one broker sees before a new one takes its place.
const REQUESTS: u32 = 300;

/// A batch of one record to the world's topic.
fn produce(codec: i16) -> Bytes {
    let batch = crate::log::tests::one_batch(codec);
    let partition = PartitionProduceData::default().with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(text("topic").into()).with_partition_data(vec![partition]);
    let mut frame = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(ApiKey::Produce as i16).with_request_api_version(8);
    header.encode(&mut frame, 1).unwrap();
    ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]).encode(&mut frame, 8).unwrap();
    frame.freeze()
}

/// A forged request: its header, and a count of two billion where the body begins.
fn forged(key: ApiKey, version: i16) -> Bytes {
    let mut frame = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
    header.encode(&mut frame, key.request_header_version(version)).unwrap();
    frame.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x07]);
    frame.put_i32(i32::MAX);
    frame.freeze()
}

#[test]
fn any_request() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut corpus: Vec<Vec<u8>> = runtime.block_on(all_frames()).into_iter().map(Vec::from).collect();
    corpus.extend((0..=4).map(|codec| produce(codec).to_vec()));
    for key in [ApiKey::Metadata, ApiKey::DescribeGroups, ApiKey::DeleteGroups, ApiKey::CreateTopics, ApiKey::Fetch] {
        let versions = key.valid_versions();
        corpus.extend((versions.min..=versions.max).map(|version| forged(key, version).to_vec()));
    }
    let _entered = runtime.enter();
    let world = RefCell::new((World::new(), 0));
    Fuzz::new("any request").corpus(corpus).allocating(256, FLOOR_BYTES).run(|input| {
        let (world, requests) = &mut *world.borrow_mut();
        *requests += 1;
        if *requests % REQUESTS == 0 {
            *world = World::new();
        }
        runtime.block_on(async {
            // Joins and long polls wait for others, who do not come.
            let carried_out = handle(Bytes::copy_from_slice(input), "host", &world.node);
            drop(tokio::time::timeout(Duration::from_secs(3_600), carried_out).await);
        });
    });
}
