//! Subscriptions and assignments as Java's consumers write them, so that Kafka's own tools can read them.

use std::{collections::BTreeSet, sync::Arc};

use anabranch_core::group::Subscription;
use anabranch_wire::decode;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment,
        consumer_protocol_subscription,
    },
    protocol::{Encodable, StrBytes},
};

use crate::{
    error::Error,
    offsets::{by_topic, topic_name},
    types::TopicPartition,
};

/// With owned partitions (KIP-429) and the generation they are of (KIP-792).
const SUBSCRIPTION_VERSION: i16 = 2;
/// All of them say the same.
const ASSIGNMENT_VERSION: i16 = 1;
/// The versions the codec reads; later ones begin with what these hold.
const MAX_VERSION: i16 = 3;

pub(crate) fn encode_subscription(subscription: &Subscription) -> Result<Bytes, Error> {
    let owned = by_topic(&subscription.owned)
        .into_iter()
        .map(|(topic, partitions)| {
            consumer_protocol_subscription::TopicPartition::default()
                .with_topic(topic_name(&topic))
                .with_partitions(partitions)
        })
        .collect();
    let topics = subscription.topics.iter().map(|t| StrBytes::from_string(t.to_string())).collect();
    let message = ConsumerProtocolSubscription::default()
        .with_topics(topics)
        .with_owned_partitions(owned)
        .with_generation_id(subscription.generation);
    encode(&message, SUBSCRIPTION_VERSION)
}

/// Reads what any member wrote; `None` when it cannot be read.
pub(crate) fn decode_subscription(mut bytes: Bytes) -> Option<Subscription> {
    let version = version(&mut bytes)?;
    let message = decode::<ConsumerProtocolSubscription>(&mut bytes, version).ok()?;
    let owned = message.owned_partitions.iter();
    Some(Subscription {
        topics: message.topics.iter().map(|t| Arc::from(t.as_str())).collect(),
        owned: owned.flat_map(|t| t.partitions.iter().map(|p| TopicPartition::new(t.topic.as_str(), *p))).collect(),
        generation: message.generation_id,
    })
}

pub(crate) fn encode_assignment(assignment: &BTreeSet<TopicPartition>) -> Result<Bytes, Error> {
    let assigned = by_topic(assignment)
        .into_iter()
        .map(|(topic, partitions)| {
            consumer_protocol_assignment::TopicPartition::default()
                .with_topic(topic_name(&topic))
                .with_partitions(partitions)
        })
        .collect();
    encode(&ConsumerProtocolAssignment::default().with_assigned_partitions(assigned), ASSIGNMENT_VERSION)
}

/// Reads an assignment; no bytes at all mean none. `None` when it cannot be read.
pub(crate) fn decode_assignment(mut bytes: Bytes) -> Option<BTreeSet<TopicPartition>> {
    if bytes.is_empty() {
        return Some(BTreeSet::new());
    }
    let version = version(&mut bytes)?;
    let message = decode::<ConsumerProtocolAssignment>(&mut bytes, version).ok()?;
    let topics = message.assigned_partitions.iter();
    Some(topics.flat_map(|t| t.partitions.iter().map(|p| TopicPartition::new(t.topic.as_str(), *p))).collect())
}

fn encode(message: &impl Encodable, version: i16) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    message.encode(&mut bytes, version).map_err(|e| Error::invalid("JoinGroup", e.to_string()))?;
    Ok(bytes.freeze())
}

fn version(bytes: &mut Bytes) -> Option<i16> {
    (bytes.len() >= 2).then(|| bytes.get_i16().clamp(0, MAX_VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tps(list: &[(&str, i32)]) -> BTreeSet<TopicPartition> {
        list.iter().map(|(t, p)| TopicPartition::new(*t, *p)).collect()
    }

    #[test]
    fn round_trips() {
        let subscription = Subscription {
            topics: [Arc::from("a"), Arc::from("b")].into(),
            owned: tps(&[("a", 0), ("a", 3), ("b", 1)]),
            generation: 7,
        };
        let bytes = encode_subscription(&subscription).unwrap();
        assert_eq!(decode_subscription(bytes), Some(subscription));
        let assignment = tps(&[("a", 1), ("b", 1)]);
        assert_eq!(decode_assignment(encode_assignment(&assignment).unwrap()), Some(assignment));
    }

    #[test]
    fn assignment_bytes_are_javas() {
        // ConsumerProtocol.serializeAssignment of topic "t", partitions 0 and 2.
        let expected = [0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 255, 255, 255, 255];
        assert_eq!(encode_assignment(&tps(&[("t", 0), ("t", 2)])).unwrap()[..], expected);
    }

    #[test]
    fn rubbish_is_none() {
        assert_eq!(decode_subscription(Bytes::from_static(b"\0")), None);
        assert_eq!(decode_subscription(Bytes::from_static(b"\0\x01\0\0\0\x09x")), None);
        assert_eq!(decode_assignment(Bytes::from_static(b"\0\x01\0\0\0\x09x")), None);
        assert_eq!(decode_assignment(Bytes::new()), Some(BTreeSet::new()));
    }
}
