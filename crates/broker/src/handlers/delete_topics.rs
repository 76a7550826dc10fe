//! DeleteTopics.

use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteTopicsRequest, DeleteTopicsResponse, TopicName, delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
};

use super::{find, names, told};
use crate::{
    log::Refusal,
    node::Node,
    server::dispatch::{Api, Call},
};

/// What is to be deleted, in whichever way the version says it.
fn wanted(request: &DeleteTopicsRequest) -> Vec<DeleteTopicState> {
    let named = |name: &TopicName| DeleteTopicState::default().with_name(Some(name.clone()));
    request.topics.iter().cloned().chain(request.topic_names.iter().map(named)).collect()
}

fn result(topic: &DeleteTopicState, result: &Result<(), Refusal>) -> DeletableTopicResult {
    let (code, message) = told(result);
    DeletableTopicResult::default()
        .with_name(topic.name.clone())
        .with_topic_id(topic.topic_id)
        .with_error_code(code)
        .with_error_message(message)
}

fn delete(node: &Node, wanted: &DeleteTopicState) -> DeletableTopicResult {
    let refuse = |error: ResponseError| result(wanted, &Err(Refusal::new(error, error.to_string())));
    if wanted.name.is_some() && !wanted.topic_id.is_nil() {
        return refuse(ResponseError::InvalidRequest);
    }
    match find(node, &wanted.name.clone().unwrap_or_default(), wanted.topic_id) {
        Err(error) => refuse(error),
        Ok(topic) => {
            let deleted = node.topics.delete(&topic);
            if deleted.is_ok()
                && let Err(error) = node.groups.topic_deleted(&topic.name)
            {
                tracing::warn!(topic = topic.name, %error, "offsets of a deleted topic are still there");
            }
            let name = kafka_protocol::protocol::StrBytes::from_string(topic.name.clone());
            result(wanted, &deleted).with_name(Some(name.into())).with_topic_id(topic.id)
        }
    }
}

impl Api for DeleteTopicsRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(wanted(self).iter().filter_map(|topic| topic.name.as_ref()))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        let refused = |topic: &DeleteTopicState| result(topic, &Err(Refusal::new(error, error.to_string())));
        DeleteTopicsResponse::default().with_responses(wanted(self).iter().map(refused).collect())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        let responses = wanted(&self).iter().map(|topic| delete(call.node, topic)).collect();
        DeleteTopicsResponse::default().with_responses(responses)
    }
}
