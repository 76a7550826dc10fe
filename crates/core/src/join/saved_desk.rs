//! What concerns people in a case, as it is written to the state topic beside the case.

use anabranch_protocol::{EventId, Timestamp};
use serde::{Deserialize, Serialize};

use super::desk::{Alarm, Awaited, Desk, Judged};
use super::place::Log;
use super::saved::SavedPlace;

/// Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedDesk {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    codes: Vec<String>,
    #[serde(default, skip_serializing_if = "is_off")]
    remind: SavedAlarm,
    #[serde(default, skip_serializing_if = "is_off")]
    escalate: SavedAlarm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expire_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    awaited: Option<SavedAwaited>,
    #[serde(default, skip_serializing_if = "is_zero")]
    requests: u32,
    /// Places on the review topic, or kept beside the case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    information: Vec<SavedPlace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    judged: Option<SavedJudged>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedAlarm {
    #[default]
    Off,
    AtMs(i64),
    RangMs(i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedAwaited {
    needs: Vec<String>,
    asks: Vec<(String, String)>,
    until: SavedAlarm,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedJudged {
    id: EventId,
    reviewer: String,
    decision: String,
    at_ms: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_off(alarm: &SavedAlarm) -> bool {
    *alarm == SavedAlarm::Off
}

impl From<Alarm> for SavedAlarm {
    fn from(alarm: Alarm) -> Self {
        match alarm {
            Alarm::Off => Self::Off,
            Alarm::At(at) => Self::AtMs(at.as_millis()),
            Alarm::Rang(at) => Self::RangMs(at.as_millis()),
        }
    }
}

impl From<SavedAlarm> for Alarm {
    fn from(saved: SavedAlarm) -> Self {
        match saved {
            SavedAlarm::Off => Self::Off,
            SavedAlarm::AtMs(ms) => Self::At(Timestamp::from_millis(ms)),
            SavedAlarm::RangMs(ms) => Self::Rang(Timestamp::from_millis(ms)),
        }
    }
}

impl SavedDesk {
    pub(super) fn of(desk: &Desk) -> Self {
        let awaited = |awaited: &Awaited| SavedAwaited {
            needs: awaited.needs.clone(),
            asks: awaited.asks.clone(),
            until: awaited.until.into(),
        };
        let judged = desk.judged.as_ref().map(Self::judged).unwrap_or_default();
        Self {
            codes: desk.codes.clone(),
            remind: desk.remind.into(),
            escalate: desk.escalate.into(),
            expire_ms: desk.expire.map(Timestamp::as_millis),
            awaited: desk.awaited.as_ref().map(awaited),
            requests: desk.requests,
            information: desk.information.iter().copied().map(SavedPlace::of).collect(),
            ..judged
        }
    }

    /// Of a case of which nothing else is remembered.
    pub(super) fn judged(judged: &Judged) -> Self {
        let judged = SavedJudged {
            id: judged.id.clone(),
            reviewer: judged.reviewer.clone(),
            decision: judged.decision.clone(),
            at_ms: judged.at.as_millis(),
        };
        Self { judged: Some(judged), ..Self::default() }
    }

    pub(super) fn judgement(&self) -> Option<Judged> {
        let judged = self.judged.clone()?;
        let at = Timestamp::from_millis(judged.at_ms);
        Some(Judged { id: judged.id, reviewer: judged.reviewer, decision: judged.decision, at })
    }

    pub(super) fn desk(self) -> Desk {
        let judged = self.judgement();
        let awaited = |saved: SavedAwaited| Awaited { needs: saved.needs, asks: saved.asks, until: saved.until.into() };
        Desk {
            codes: self.codes,
            remind: self.remind.into(),
            escalate: self.escalate.into(),
            expire: self.expire_ms.map(Timestamp::from_millis),
            awaited: self.awaited.map(awaited),
            requests: self.requests,
            information: self.information.into_iter().map(|saved| saved.place(Log::Review)).collect(),
            judged,
        }
    }
}
