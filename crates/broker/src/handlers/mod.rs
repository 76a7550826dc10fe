//! What each request does. A file for each family; decisions are in `log`, `topics`, `group` and `txn`.

pub(crate) mod api_versions;
mod cluster;
mod configs;
mod create_topics;
mod delete_topics;
mod fetch;
mod groups;
mod list_offsets;
mod metadata;
mod partitions;
mod produce;
mod transactions;

use kafka_protocol::{ResponseError, messages::TopicName, protocol::StrBytes};
use uuid::Uuid;

use crate::{log::Refusal, node::Node, topics::Topic};

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// Code and message of a result; 0 and none for success.
fn told<T>(result: &Result<T, Refusal>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(_) => (0, None),
        Err(refusal) => (refusal.error.code(), Some(text(refusal.message.clone()))),
    }
}

/// The topic that a request names by name or, in newer versions, by id.
fn find(node: &Node, name: &TopicName, id: Uuid) -> Result<std::sync::Arc<Topic>, ResponseError> {
    if id.is_nil() {
        node.topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition)
    } else {
        node.topics.by_id(id).ok_or(ResponseError::UnknownTopicId)
    }
}

/// The names of topics that a request names by name or by id; unknown ids are left out.
fn known_names<'a>(node: &Node, topics: impl Iterator<Item = (&'a TopicName, Uuid)>) -> Vec<String> {
    let name = |(name, id): (&TopicName, Uuid)| match id.is_nil() {
        true => Some(name.as_str().to_owned()),
        false => Some(node.topics.by_id(id)?.name.clone()),
    };
    topics.filter_map(name).collect()
}

fn names<'a>(names: impl Iterator<Item = &'a TopicName>) -> Vec<String> {
    names.map(|name| name.as_str().to_owned()).collect()
}
