//! What people say about parked cases, and what they are told. When something was said is the record's `ce_time`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{CorrelationId, EventId};
use crate::time::Timestamp;

/// What a person decided about a parked case, on the review topic, keyed by the correlation id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReviewDecision {
    /// What was decided, in the application's words (`approve`, `reject`, …).
    pub decision: String,
    /// Who decided.
    pub reviewer: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is asked for, where the decision is to ask for something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Which time that the case was parked this is about, from 1: as it was when the reviewer looked. A decision about an
    /// earlier one changes nothing. Not there: about whichever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parking: Option<u32>,
}

impl ReviewDecision {
    /// The `ce_id` of this decision about `case`: the same one again is recognised by it, whoever sends it.
    pub fn id(&self, case: &CorrelationId) -> EventId {
        let about = self.parking.unwrap_or_default().to_string();
        let said = [self.reviewer.as_str(), &self.decision, &about, self.reason.as_deref().unwrap_or_default()];
        EventId::said(case, "review-decision", said.into_iter().chain(self.needs.iter().map(String::as_str)))
    }
}

/// What was asked for, on the review topic, keyed by the correlation id: a record of this type is no decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InformationProvided {
    /// What was asked for, by name: exactly that. Each takes the place of the request's member of that name.
    pub fields: BTreeMap<String, Value>,
    /// Who provides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provided_by: Option<String>,
}

impl InformationProvided {
    /// `ce_type`.
    pub const TYPE: &'static str = "anabranch.information-provided.v1";

    /// The `ce_id` of this information about `case`.
    pub fn id(&self, case: &CorrelationId) -> EventId {
        let fields = self.fields.iter().map(|(name, value)| format!("{name}={value}"));
        let said: Vec<String> = self.provided_by.iter().cloned().chain(fields).collect();
        EventId::said(case, "information", said.iter().map(String::as_str))
    }
}

/// The answer to one record of the review topic, on the inbox topic, keyed by the correlation id. Every readable one has
/// exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReviewAnswer {
    /// `ce_id` of what is answered.
    pub to: EventId,
    /// Where that lay.
    pub partition: i32,
    /// Where that lay.
    pub offset: i64,
    /// Who had decided or provided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewer: Option<String>,
    /// What had been decided; `None` of information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub answer: Answered,
}

impl ReviewAnswer {
    /// `ce_type`.
    pub const TYPE: &'static str = "anabranch.review-answer.v1";
}

/// What became of what a person said. Only `accepted` changed anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answered {
    /// It counts.
    Accepted {
        /// Where the case stands now.
        case: Standing,
    },
    /// The same decision of the same person counted before.
    Repeat {
        /// When.
        decided_at: Timestamp,
    },
    /// Another one came first in the log.
    AlreadyDecided {
        /// Whose.
        by: String,
        /// What it was.
        was: String,
        /// When it counted.
        decided_at: Timestamp,
    },
    /// The case does not wait for a person, and no person decided it.
    NotParked {
        /// Where it stands.
        case: Standing,
    },
    /// No such case is known: it was never planned, or was forgotten after its time.
    UnknownCase,
    /// It cannot be followed; the case stays as it is.
    Refused {
        /// Why, for the person who said it.
        why: String,
    },
    /// It could not be followed to its end: the case became a dead letter.
    DeadLetter {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { case } => write!(f, "accepted, the case {case}"),
            Self::Repeat { decided_at } => write!(f, "a repeat: the same decision counted at {decided_at}"),
            Self::AlreadyDecided { by, was, decided_at } => write!(f, "already decided by {by} at {decided_at}: {was}"),
            Self::NotParked { case } => write!(f, "the case does not wait for a person: it {case}"),
            Self::UnknownCase => f.write_str("no such case is known"),
            Self::Refused { why } => write!(f, "refused, the case stays as it is: {why}"),
            Self::DeadLetter { why } => write!(f, "the case became a dead letter: {why}"),
        }
    }
}

/// Where a case stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Answers are coming in.
    Joining,
    /// It waits for a person.
    Parked,
    /// It waits for information that was asked for.
    WaitsForInformation,
    /// It has its outcome.
    Closed,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joining => "waits for answers of agents",
            Self::Parked => "waits for a person",
            Self::WaitsForInformation => "waits for information",
            Self::Closed => "is closed",
        })
    }
}

/// A parked case that people are to be told of, on the inbox topic, keyed by the correlation id. Of each kind there is at
/// most one for each time that a case is parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParkedNotice {
    /// Why they are told.
    pub notice: NoticeKind,
    /// Since when the case is parked.
    pub parked_since: Timestamp,
    /// Which time that it is parked this is, from 1.
    pub parking: u32,
    /// Why it is parked.
    pub reason: String,
    /// The same in codes, if the composer gave any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<String>,
    /// What was asked for and has not come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

/// Why people are told of a parked case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// Nobody has decided for a while.
    Reminder,
    /// Nobody has decided for too long.
    Escalation,
    /// What was asked for did not come in time: a person must decide without it.
    InformationOverdue,
}

impl NoticeKind {
    /// `ce_type`.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Reminder => "anabranch.parked-reminder.v1",
            Self::Escalation => "anabranch.parked-escalation.v1",
            Self::InformationOverdue => "anabranch.information-overdue.v1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision() -> ReviewDecision {
        ReviewDecision { decision: "approve".into(), reviewer: "ada".into(), parking: Some(1), ..Default::default() }
    }

    #[test]
    fn the_same_decision_has_the_same_id_and_no_other_has() {
        let case = CorrelationId::new("c");
        let id = decision().id(&case);
        assert_eq!(decision().id(&case), id);
        let others = [
            ReviewDecision { decision: "reject".into(), ..decision() },
            ReviewDecision { reviewer: "bob".into(), ..decision() },
            ReviewDecision { parking: Some(2), ..decision() },
            ReviewDecision { reason: Some("seen".into()), ..decision() },
            ReviewDecision { needs: vec!["address".into()], ..decision() },
        ];
        for other in others {
            assert_ne!(other.id(&case), id, "{other:?}");
        }
        assert_ne!(decision().id(&CorrelationId::new("d")), id);
    }

    #[test]
    fn an_answer_reads_as_plain_json() {
        let answer = ReviewAnswer {
            to: EventId::new("d-1"),
            partition: 2,
            offset: 7,
            reviewer: Some("bob".into()),
            decision: Some("reject".into()),
            answer: Answered::AlreadyDecided {
                by: "ada".into(),
                was: "approve".into(),
                decided_at: Timestamp::from_millis(0),
            },
        };
        let text = serde_json::to_string(&answer).unwrap();
        let expected = r#""answer":"already-decided","by":"ada","was":"approve","decided_at":"1970-01-01T00:00:00"#;
        assert!(text.contains(expected), "{text}");
        assert_eq!(serde_json::from_str::<ReviewAnswer>(&text).unwrap(), answer);
        let closed = Answered::Accepted { case: Standing::Closed };
        assert_eq!(serde_json::to_string(&closed).unwrap(), r#"{"answer":"accepted","case":"closed"}"#);
        assert_eq!(serde_json::to_string(&Answered::UnknownCase).unwrap(), r#"{"answer":"unknown-case"}"#);
    }
}
