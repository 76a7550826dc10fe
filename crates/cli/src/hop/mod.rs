//! One record of a topology, as a person wants to see it: what kind, whose case, which agent, and what it says.
//!
//! Records may come from anybody: what cannot be read is shown as such, nothing is longer than it has to be, and
//! nothing in it steers a terminal.

use std::fmt;

use anabranch_core::join::{Phase, Piece, Saved, StateKey};
use anabranch_kafka::Record;
use anabranch_protocol::{
    AgentCard, CorrelationId, Decoded, Envelope, EnvelopeError, EventId, FollowUp, InformationProvided, NoticeKind,
    ParkedNotice, Partial, PartialStatus, Plan, ReviewAnswer, ReviewDecision, Task, Timestamp, Work, dead_letter,
    header,
};
use anabranch_topology::TopicRole;
use serde::Serialize;
use serde_json::Value;

use crate::console::plain;
use crate::masking::Masking;
use crate::reading::{case_of, state_key};

/// Header of late records: why they are late.
/// Characters of a text that are shown.
const SHOWN: usize = 200;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// It came in.
    Request,
    /// A person's decision.
    Review,
    /// What is to be done.
    Plan,
    /// Work for an agent.
    Task,
    /// An agent's answer.
    Partial,
    /// The composer asks for tasks.
    FollowUp,
    /// It leaves.
    Outcome,
    /// It came too late to count.
    Late,
    /// What people are told of a parked case.
    Notice,
    /// It was given up.
    DeadLetter,
    /// Where the case stands.
    State,
    /// An agent announces itself.
    Card,
    /// A step of an agent, journaled.
    Step,
    /// A model was asked.
    Call,
    /// A process says how much of a rate limit it could use.
    Demand,
    /// A dead letter was dealt with.
    Mark,
    /// It does not keep to the contract.
    Unreadable,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Request => "request",
            Self::Review => "review",
            Self::Plan => "plan",
            Self::Task => "task",
            Self::Partial => "partial",
            Self::FollowUp => "follow-up",
            Self::Outcome => "outcome",
            Self::Late => "late",
            Self::Notice => "notice",
            Self::DeadLetter => "dead-letter",
            Self::State => "state",
            Self::Card => "card",
            Self::Step => "step",
            Self::Call => "call",
            Self::Demand => "demand",
            Self::Mark => "mark",
            Self::Unreadable => "unreadable",
        })
    }
}

/// A record, read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Hop {
    /// The record's timestamp: when it was written.
    pub(crate) time: Timestamp,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) kind: Kind,
    pub(crate) case: CorrelationId,
    /// Its `ce_id`. A late record and a dead letter have that of their original.
    pub(crate) id: EventId,
    pub(crate) causation_id: Option<EventId>,
    /// Whom a task is for; else who wrote the record, if the runtime did.
    pub(crate) agent: Option<String>,
    /// One line on what it says.
    pub(crate) what: String,
    pub(crate) deadline: Option<Timestamp>,
    /// When an agent worked, in its answer.
    pub(crate) work: Option<Work>,
}

/// What the value says.
struct Content {
    kind: Kind,
    what: String,
    agent: Option<String>,
    work: Option<Work>,
}

impl Content {
    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), agent: None, work: None }
    }

    fn by(self, agent: impl Into<String>) -> Self {
        Self { agent: Some(agent.into()), ..self }
    }
}

impl Hop {
    /// Reads a record of a topic with this role.
    pub(crate) fn read(role: TopicRole, record: &Record, masking: &Masking) -> Self {
        let case = match (role, state_key(record)) {
            (TopicRole::State, Some(key)) => CorrelationId::new(key.id()),
            _ => case_of(record),
        };
        let (envelope, content) = match role {
            // The composer's own records: the value is the case, there are no headers.
            TopicRole::State => (None, state(record)),
            _ => match Envelope::decode(&record.view()) {
                Ok(decoded) => {
                    let content = content(role, record, &decoded, masking)
                        .unwrap_or_else(|error| Content::new(Kind::Unreadable, error.to_string()));
                    (Some(decoded.envelope), content)
                }
                Err(error) => (None, undecoded(role, record, &error, masking)),
            },
        };
        let written = |name| header::last(&record.headers, name).filter(|text| !text.is_empty());
        let id = written(header::ID).map(EventId::new);
        let mint = || EventId::mint(&record.topic, record.partition, record.offset);
        let agent = content.agent.or_else(|| envelope.as_ref().and_then(author));
        Self {
            time: Timestamp::from_millis(record.timestamp_ms),
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            kind: content.kind,
            case,
            id: envelope.as_ref().map(|e| e.id.clone()).or(id).unwrap_or_else(mint),
            causation_id: written(header::CAUSATION_ID).map(EventId::new),
            agent: agent.map(|a| short(&a)),
            what: short(&content.what),
            deadline: envelope.and_then(|e| e.deadline),
            work: content.work,
        }
    }

    /// `HH:MM:SS.mmm` where the reader is.
    pub(crate) fn time_of_day(&self) -> String {
        match jiff::Timestamp::from_millisecond(self.time.as_millis()) {
            Ok(at) => at.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string(),
            Err(_) => self.time.to_string(),
        }
    }
}

/// The last part of the source of a record that the runtime wrote: `/kyc/identity`.
fn author(envelope: &Envelope) -> Option<String> {
    envelope.causation_id.as_ref()?;
    let (_, name) = envelope.source.strip_prefix('/')?.split_once('/')?;
    Some(name.to_owned())
}

fn content(role: TopicRole, record: &Record, decoded: &Decoded, masking: &Masking) -> Result<Content, EnvelopeError> {
    Ok(match role {
        TopicRole::Requests => json_of(Kind::Request, decoded, masking)?,
        TopicRole::Outbound => json_of(Kind::Outcome, decoded, masking)?,
        TopicRole::Review if decoded.envelope.kind == InformationProvided::TYPE => information(&decoded.json()?),
        TopicRole::Review => review(&decoded.json()?),
        TopicRole::Inbox if decoded.envelope.kind == ReviewAnswer::TYPE => answer(&decoded.json()?),
        TopicRole::Inbox => notice(&decoded.json()?),
        TopicRole::Tasks | TopicRole::Retry => task(&decoded.json()?),
        TopicRole::FollowUps => follow_up(&decoded.json()?),
        TopicRole::Directory => card(&decoded.json()?),
        TopicRole::Results if decoded.envelope.kind == Plan::TYPE => plan(&decoded.json()?),
        TopicRole::Results => partial(&decoded.json()?),
        TopicRole::Journal => json_of(Kind::Step, decoded, masking)?,
        TopicRole::Ledger => json_of(Kind::Call, decoded, masking)?,
        TopicRole::Limits => json_of(Kind::Demand, decoded, masking)?,
        TopicRole::Marks => json_of(Kind::Mark, decoded, masking)?,
        TopicRole::Late => late(record, decoded),
        TopicRole::DeadLetters => dead(record, masking),
        TopicRole::State => state(record),
    })
}

/// A record whose envelope cannot be read. A dead letter is one nevertheless: that is often why it became one.
fn undecoded(role: TopicRole, record: &Record, error: &EnvelopeError, masking: &Masking) -> Content {
    match (role, error) {
        (TopicRole::DeadLetters, _) => dead(record, masking),
        (TopicRole::Directory, EnvelopeError::NoValue) => {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            Content::new(Kind::Card, "removed").by(key)
        }
        _ => Content::new(Kind::Unreadable, error.to_string()),
    }
}

fn json_of(kind: Kind, decoded: &Decoded, masking: &Masking) -> Result<Content, EnvelopeError> {
    let value: Value = masking.value(&decoded.json()?);
    let name = &decoded.envelope.kind;
    let what = if kind == Kind::Outcome && !name.is_empty() { format!("{name} {value}") } else { value.to_string() };
    Ok(Content::new(kind, what))
}

fn review(decision: &ReviewDecision) -> Content {
    let reason = decision.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    Content::new(Kind::Review, format!("{} by {}{reason}", decision.decision, decision.reviewer))
}

fn information(information: &InformationProvided) -> Content {
    let names: Vec<&str> = information.fields.keys().map(String::as_str).collect();
    let by = information.provided_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    Content::new(Kind::Review, format!("information{by}: {}", names.join(", ")))
}

fn answer(answer: &ReviewAnswer) -> Content {
    let said = answer.decision.as_deref().unwrap_or("information");
    let by = answer.reviewer.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    Content::new(Kind::Notice, format!("{said}{by}: {}", answer.answer))
}

fn notice(notice: &ParkedNotice) -> Content {
    let since = notice.parked_since;
    let what = match notice.notice {
        NoticeKind::Reminder => format!("reminder: nobody has decided since {since}"),
        NoticeKind::Escalation => format!("escalation: nobody has decided since {since}"),
        NoticeKind::InformationOverdue => format!("did not come in time: {}", notice.needs.join(", ")),
    };
    Content::new(Kind::Notice, what)
}

fn plan(plan: &Plan) -> Content {
    let steps = plan.steps.iter().map(|step| {
        let after = if step.after.is_empty() { String::new() } else { format!(" after {}", step.after.join("+")) };
        format!("{}{after}", step.agent)
    });
    Content::new(Kind::Plan, steps.collect::<Vec<_>>().join(", "))
}

fn task(task: &Task) -> Content {
    let what = match &task.question {
        Some(question) => format!("round {}: {question}", task.round),
        None if task.round > 0 => format!("round {}", task.round),
        None => String::new(),
    };
    Content::new(Kind::Task, what).by(&task.agent)
}

fn partial(partial: &Partial) -> Content {
    let mut what = match &partial.status {
        PartialStatus::Completed(answer) => {
            let disposition = answer.disposition.clone().unwrap_or_else(|| "answered".to_owned());
            let confidence = answer.confidence.map(|c| format!(", confidence {c:.2}")).unwrap_or_default();
            format!("{disposition}{confidence}")
        }
        PartialStatus::Failed { reason } => format!("failed: {reason}"),
        PartialStatus::Expired => "expired".to_owned(),
    };
    if partial.round > 0 {
        what.push_str(&format!(", round {}", partial.round));
    }
    if partial.work.attempts > 1 {
        what.push_str(&format!(", {} attempts", partial.work.attempts));
    }
    Content { work: Some(partial.work.clone()), ..Content::new(Kind::Partial, what).by(&partial.agent) }
}

fn follow_up(follow_up: &FollowUp) -> Content {
    let kind = serde_json::to_value(follow_up.kind).ok();
    let kind = kind.as_ref().and_then(Value::as_str).unwrap_or_default().replace('_', " ");
    let agents: Vec<&str> = follow_up.tasks.iter().map(|t| t.agent.as_str()).collect();
    Content::new(Kind::FollowUp, format!("{kind}: {}", agents.join(", ")))
}

fn card(card: &AgentCard) -> Content {
    Content::new(Kind::Card, format!("version {}", card.version)).by(&card.name)
}

fn late(record: &Record, decoded: &Decoded) -> Content {
    let reason = header::last(&record.headers, header::LATE_REASON).unwrap_or("no reason given");
    match decoded.json::<Partial>() {
        Ok(answer) => Content { kind: Kind::Late, what: reason.to_owned(), ..partial(&answer) },
        Err(_) => Content::new(Kind::Late, reason),
    }
}

fn dead(record: &Record, masking: &Masking) -> Content {
    let written = |name| header::last(&record.headers, name);
    let message = written(dead_letter::MESSAGE).unwrap_or("no reason given");
    let message = masking.words(record.value.as_deref(), message);
    let class = written(dead_letter::CLASS).map(|class| format!("{class}: ")).unwrap_or_default();
    let tried = written(dead_letter::DELIVERY_COUNT).filter(|n| *n != "1");
    let tried = tried.map(|n| format!(" (after {n} attempts)")).unwrap_or_default();
    let content = Content::new(Kind::DeadLetter, format!("{class}{message}{tried}"));
    match written(dead_letter::AGENT) {
        Some(agent) => content.by(agent),
        None => content,
    }
}

fn state(record: &Record) -> Content {
    let what = match (state_key(record), record.value.as_deref()) {
        (_, None) => "forgotten".to_owned(),
        (Some(StateKey::Kept(Piece::Plan, _)), _) => "the plan, kept while it is parked".to_owned(),
        (Some(StateKey::Kept(Piece::Answer(_), _)), _) => "an answer, kept while it is parked".to_owned(),
        (Some(StateKey::Kept(Piece::Information(_), _)), _) => "information, kept while it is parked".to_owned(),
        (_, Some(value)) => match describe_phase(value) {
            Ok(what) => what,
            Err(error) => return Content::new(Kind::Unreadable, error),
        },
    };
    Content::new(Kind::State, what).by(anabranch_topology::COMPOSER)
}

fn describe_phase(value: &[u8]) -> Result<String, String> {
    let saved = Saved::read(value).map_err(|error| error.to_string())?;
    Ok(match saved.phase().map_err(|error| error.to_string())? {
        Phase::Joining => {
            let (asked, answered) = saved.progress();
            let round = if saved.round() > 0 { format!(", round {}", saved.round()) } else { String::new() };
            format!("joining, {answered} of {asked} answered{round}")
        }
        Phase::Parked { reason, .. } => format!("parked: {reason}"),
        Phase::Closed { .. } => "closed".to_owned(),
    })
}

/// At most [`SHOWN`] characters on one line, none of which steers a terminal.
fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    plain(&shown.replace(['\n', '\t'], " "))
}

#[cfg(test)]
mod tests;
