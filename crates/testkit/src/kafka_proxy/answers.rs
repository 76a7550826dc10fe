//! Answers that are changed on their way, and answers in the broker's place.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, ApiVersionsResponse,
    EndTxnResponse, FindCoordinatorResponse, InitProducerIdResponse, MetadataResponse, ProduceRequest, ProduceResponse,
    ProducerId, RequestHeader, ResponseHeader, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::caps::Caps;

/// Bytes of a frame's length, which comes before it.
pub(super) const LENGTH: usize = 4;

/// Why a frame cannot be passed on. Its connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("a frame of {0} bytes")]
    Length(i64),
    #[error("cannot be read or written: {0}")]
    Codec(String),
    #[error("there is no refusal of {0:?}")]
    NoRefusal(ApiKey),
    #[error("no port for another broker: {0}")]
    Port(#[from] std::io::Error),
}

fn codec(error: impl std::fmt::Display) -> Broken {
    Broken::Codec(error.to_string())
}

/// The first fields of a request. All its versions have them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) api: i16,
    pub(super) version: i16,
    pub(super) id: i32,
}

impl Head {
    /// Of a frame with its length.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let head = frame.get(LENGTH..LENGTH + 8)?;
        Some(Self {
            api: i16::from_be_bytes([head[0], head[1]]),
            version: i16::from_be_bytes([head[2], head[3]]),
            id: i32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        })
    }
}

/// The correlation id of an answer, of a frame with its length.
pub(super) fn answered(frame: &[u8]) -> Option<i32> {
    let id = frame.get(LENGTH..LENGTH + 4)?;
    Some(i32::from_be_bytes([id[0], id[1], id[2], id[3]]))
}

/// Puts a frame's length before it.
fn framed(write: impl FnOnce(&mut BytesMut) -> Result<(), Broken>) -> Result<Bytes, Broken> {
    let mut bytes = BytesMut::new();
    bytes.put_i32(0);
    write(&mut bytes)?;
    let length = i32::try_from(bytes.len() - LENGTH).map_err(codec)?;
    bytes[..LENGTH].copy_from_slice(&length.to_be_bytes());
    Ok(bytes.freeze())
}

/// An answer as the client is to see it: capped, and with the proxy's listener in the place of each broker's, as `listener`
/// tells it. What is of no interest passes undecoded.
pub(super) fn rewrite(
    caps: Caps,
    asked: Head,
    frame: Bytes,
    mut listener: impl FnMut(&str, i32) -> Result<i32, std::io::Error>,
) -> Result<Bytes, Broken> {
    let mut place = |host: &mut StrBytes, port: &mut i32| -> Result<(), Broken> {
        if !host.is_empty() {
            *port = listener(host, *port)?;
            *host = StrBytes::from_static_str("127.0.0.1");
        }
        Ok(())
    };
    match ApiKey::try_from(asked.api) {
        Ok(api @ ApiKey::ApiVersions) => change(api, asked, frame, |answer: &mut ApiVersionsResponse| {
            caps.apply(answer);
            Ok(())
        }),
        Ok(api @ ApiKey::Metadata) => change(api, asked, frame, |answer: &mut MetadataResponse| {
            answer.brokers.iter_mut().try_for_each(|broker| place(&mut broker.host, &mut broker.port))
        }),
        Ok(api @ ApiKey::FindCoordinator) => change(api, asked, frame, |answer: &mut FindCoordinatorResponse| {
            place(&mut answer.host, &mut answer.port)?;
            answer.coordinators.iter_mut().try_for_each(|c| place(&mut c.host, &mut c.port))
        }),
        _ => Ok(frame),
    }
}

fn change<R: Decodable + Encodable>(
    api: ApiKey,
    asked: Head,
    frame: Bytes,
    with: impl FnOnce(&mut R) -> Result<(), Broken>,
) -> Result<Bytes, Broken> {
    let mut body = frame.slice(LENGTH..);
    let header_version = api.response_header_version(asked.version);
    let header = ResponseHeader::decode(&mut body, header_version).map_err(codec)?;
    // A broker that does not know the version of an ApiVersions request answers in version 0.
    let version = match api {
        ApiKey::ApiVersions if body.starts_with(&UNSUPPORTED_VERSION.to_be_bytes()) => return Ok(frame),
        _ => asked.version,
    };
    let mut answer = R::decode(&mut body, version).map_err(codec)?;
    with(&mut answer)?;
    framed(|bytes| {
        header.encode(bytes, header_version).map_err(codec)?;
        answer.encode(bytes, version).map_err(codec)
    })
}

const UNSUPPORTED_VERSION: i16 = 35;

/// What is asked of the broker in the place of a request that it is not to hear: its answer keeps the order.
pub(super) fn harmless(asked: Head) -> Result<Bytes, Broken> {
    framed(|bytes| {
        bytes.put_i16(ApiKey::ApiVersions as i16);
        bytes.put_i16(0);
        bytes.put_i32(asked.id);
        bytes.put_i16(-1);
        Ok(())
    })
}

/// The answer to a request with an error code.
pub(super) fn refusal(asked: Head, frame: &Bytes, code: i16) -> Result<Bytes, Broken> {
    let version = asked.version;
    let api = ApiKey::try_from(asked.api).map_err(|()| Broken::Codec(format!("API {}", asked.api)))?;
    let mut body = frame.slice(LENGTH..);
    RequestHeader::decode(&mut body, api.request_header_version(version)).map_err(codec)?;
    framed(|out| {
        let header = ResponseHeader::default().with_correlation_id(asked.id);
        header.encode(out, api.response_header_version(version)).map_err(codec)?;
        match api {
            ApiKey::InitProducerId => InitProducerIdResponse::default()
                .with_error_code(code)
                .with_producer_id(ProducerId(-1))
                .encode(out, version),
            ApiKey::EndTxn => EndTxnResponse::default().with_error_code(code).encode(out, version),
            ApiKey::AddOffsetsToTxn => AddOffsetsToTxnResponse::default().with_error_code(code).encode(out, version),
            ApiKey::AddPartitionsToTxn => partitions(decode(&mut body, version)?, code).encode(out, version),
            ApiKey::TxnOffsetCommit => offsets(decode(&mut body, version)?, code).encode(out, version),
            ApiKey::Produce => produce(decode(&mut body, version)?, code).encode(out, version),
            other => return Err(Broken::NoRefusal(other)),
        }
        .map_err(codec)
    })
}

fn decode<R: Decodable>(body: &mut Bytes, version: i16) -> Result<R, Broken> {
    R::decode(body, version).map_err(codec)
}

fn partitions(request: AddPartitionsToTxnRequest, code: i16) -> AddPartitionsToTxnResponse {
    let partition = |index| {
        AddPartitionsToTxnPartitionResult::default().with_partition_index(index).with_partition_error_code(code)
    };
    let topics = request.v3_and_below_topics.into_iter().map(|topic| {
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name)
            .with_results_by_partition(topic.partitions.into_iter().map(partition).collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

fn offsets(request: TxnOffsetCommitRequest, code: i16) -> TxnOffsetCommitResponse {
    let partition = |p: TxnOffsetCommitRequestPartition| {
        TxnOffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code)
    };
    let topics = request.topics.into_iter().map(|topic| {
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(topic.partitions.into_iter().map(partition).collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

fn produce(request: ProduceRequest, code: i16) -> ProduceResponse {
    let partition = |p: PartitionProduceData| {
        PartitionProduceResponse::default().with_index(p.index).with_error_code(code).with_base_offset(-1)
    };
    let topics = request.topic_data.into_iter().map(|topic| {
        TopicProduceResponse::default()
            .with_name(topic.name)
            .with_partition_responses(topic.partition_data.into_iter().map(partition).collect())
    });
    ProduceResponse::default().with_responses(topics.collect())
}
