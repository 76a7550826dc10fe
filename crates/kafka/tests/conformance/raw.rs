//! Requests this crate has no call for, straight on a socket.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    indexmap::IndexMap,
    messages::{
        ApiKey, DeleteRecordsRequest, GroupId, OffsetCommitRequest, ProduceRequest, RequestHeader, ResponseHeader,
        TopicName, TransactionalId,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
    records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

pub fn topic_name(s: &str) -> TopicName {
    TopicName(text(s))
}

/// One connection, one request at a time.
pub struct Raw {
    stream: TcpStream,
    next: i32,
}

impl Raw {
    pub async fn connect(address: &str) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), next: 1 }
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let api = ApiKey::try_from(R::KEY).unwrap();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(text("raw")));
        self.next += 1;
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, api.request_header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let length = i32::try_from(frame.len() - 4).unwrap();
        frame[0..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.unwrap();
        let length = self.stream.read_i32().await.unwrap();
        let mut answer = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut answer).await.unwrap();
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        let decoded = R::Response::decode(&mut answer, version).unwrap();
        assert!(!answer.has_remaining(), "an answer of another version");
        decoded
    }
}

/// Who produces a raw batch.
#[derive(Debug, Clone, Default)]
pub struct From {
    pub transactional_id: Option<String>,
    pub producer: Option<(i64, i16)>,
    pub sequence: i32,
}

pub fn batch(from: &From, values: &[&str], compression: Compression) -> Bytes {
    let (producer_id, producer_epoch) = from.producer.unwrap_or((-1, -1));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let records: Vec<Record> = values
        .iter()
        .zip(0_i32..)
        .map(|(value, index)| Record {
            transactional: from.transactional_id.is_some(),
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(index),
            sequence: if from.producer.is_some() { from.sequence + index } else { index - 1 },
            timestamp: i64::try_from(now.as_millis()).unwrap(),
            key: None,
            value: Some(Bytes::from((*value).to_owned())),
            headers: IndexMap::new(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &RecordEncodeOptions { version: 2, compression }).unwrap();
    bytes.freeze()
}

/// Codes of a leader that does not know yet that it is one.
const NOT_LEADER_YET: [i16; 3] = [3, 5, 6];

/// Appends a batch. Returns the base offset.
pub async fn produce(raw: &mut Raw, from: &From, topic: &str, partition: i32, batch: Bytes) -> i64 {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_transactional_id(from.transactional_id.as_deref().map(|id| TransactionalId(text(id))))
        .with_topic_data(vec![topic]);
    loop {
        let answer = raw.call(7, &request).await;
        let p = &answer.responses[0].partition_responses[0];
        if p.error_code == 0 {
            return p.base_offset;
        }
        assert!(NOT_LEADER_YET.contains(&p.error_code), "code {}", p.error_code);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Moves the start of a log.
pub async fn delete_records(raw: &mut Raw, topic: &str, partition: i32, before: i64) {
    let p = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before);
    let t = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![p]);
    let answer = raw.call(1, &DeleteRecordsRequest::default().with_topics(vec![t]).with_timeout_ms(10_000)).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

/// Commits as somebody who is no member of the group.
pub async fn foreign_commit(
    raw: &mut Raw,
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
    metadata: &str,
) -> i16 {
    let p = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(metadata)));
    let t = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![p]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![t]);
    raw.call(7, &request).await.topics[0].partitions[0].error_code
}
