//! What is to be done about one record, or about a deadline; read from the record once, done when its payloads are at hand.

use anabranch_core::join::Event;
use anabranch_kafka::{Record, TopicPartition};
use anabranch_protocol::{
    CorrelationId, Decoded, Envelope, InformationProvided, Partial, Plan, PlanId, ReviewDecision, Step, Timestamp,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Something to do, in order.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are records")]
pub(super) enum Work {
    /// A record.
    Record(Record, Message),
    /// A deadline had passed at this time.
    Overdue(CorrelationId, Timestamp),
    /// Something was due of a parked case at this time.
    Bell(CorrelationId, Timestamp),
    /// Reading went on to there; offsets before it may be committed.
    ReadTo(TopicPartition, i64),
}

/// What a record says.
#[derive(Debug)]
pub(super) enum Message {
    Plan(Decoded, PlanHead),
    Partial(Decoded, Box<Partial>),
    Review(Envelope, ReviewDecision),
    Information(Decoded, InformationProvided),
    Unreadable(String),
}

/// A plan without its request.
#[derive(Debug, Deserialize)]
pub(super) struct PlanHead {
    pub(super) plan_id: PlanId,
    pub(super) steps: Vec<Step>,
    /// It must be there, and is read when it is needed.
    #[serde(rename = "request")]
    _request: IgnoredAny,
}

impl Message {
    /// Reads a record of the results topic, or of the review topic.
    pub(super) fn read(record: &Record, is_review: bool) -> Self {
        let read = Envelope::decode(&record.view()).and_then(|decoded| match decoded.envelope.kind.as_str() {
            InformationProvided::TYPE if is_review => decoded.json().map(|given| Self::Information(decoded, given)),
            // People's tools need not know our types.
            _ if is_review => decoded.json().map(|decision| Self::Review(decoded.envelope, decision)),
            Plan::TYPE => decoded.json().map(|plan| Self::Plan(decoded, plan)),
            Partial::TYPE => decoded.json().map(|partial| Self::Partial(decoded, Box::new(partial))),
            other => Ok(Self::Unreadable(format!("{other:?} is no type that belongs on this topic"))),
        });
        read.unwrap_or_else(|error| Self::Unreadable(error.to_string()))
    }
}

impl Work {
    /// The case it is about, and what happens to it.
    pub(super) fn event(&self) -> Option<(&CorrelationId, Event<'_>)> {
        match self {
            Self::Record(_, Message::Plan(decoded, plan)) => {
                Some((&decoded.envelope.correlation_id, Event::Plan(&plan.plan_id)))
            }
            Self::Record(_, Message::Partial(decoded, partial)) => {
                Some((&decoded.envelope.correlation_id, Event::Partial(partial)))
            }
            Self::Record(_, Message::Review(envelope, _)) => Some((&envelope.correlation_id, Event::Review)),
            Self::Record(_, Message::Information(decoded, _)) => {
                Some((&decoded.envelope.correlation_id, Event::Information))
            }
            Self::Overdue(id, _) => Some((id, Event::Overdue)),
            Self::Bell(id, _) => Some((id, Event::Bell)),
            Self::Record(_, Message::Unreadable(_)) | Self::ReadTo(..) => None,
        }
    }

    /// About how many bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Record(record, _) => record.value.as_ref().map_or(0, bytes::Bytes::len),
            Self::Overdue(..) | Self::Bell(..) | Self::ReadTo(..) => 0,
        }
    }
}
