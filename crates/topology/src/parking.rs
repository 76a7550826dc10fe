//! Cases that wait for a person: when somebody is told, and when it ends.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::unit::Span;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Default of `information_within`.
const INFORMATION_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Default of `max_information_requests`.
const MAX_INFORMATION_REQUESTS: u32 = 2;

/// Cases that wait for a person.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct ParkingLine {
    /// A reminder leaves on `<name>.inbox` when nobody has decided for so long. Default: none.
    #[schemars(example = &"24h")]
    pub(crate) remind_after: Option<Span>,
    /// An escalation leaves on `<name>.inbox` when nobody has decided for so long. Default: none.
    #[schemars(example = &"72h")]
    pub(crate) escalate_after: Option<Span>,
    /// Nobody needs to decide any more: the composer is asked what becomes of the case; unless it knows, the case becomes a
    /// dead letter. Default: it waits for ever.
    #[schemars(example = &"30d")]
    pub(crate) expire_after: Option<Span>,
    /// How long information that a composer asked for is waited for, if the composer does not say. Default: 7d.
    #[schemars(example = &"7d")]
    pub(crate) information_within: Option<Span>,
    /// How often information may be asked for in one case. Default: 2.
    #[schemars(range(min = 0, max = 100), example = 2)]
    pub(crate) max_information_requests: Option<u32>,
}

/// Cases that wait for a person, defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkingSettings {
    /// When people are reminded that nobody has decided; `None`: never.
    pub remind_after: Option<Duration>,
    /// When it is escalated that nobody has decided; `None`: never.
    pub escalate_after: Option<Duration>,
    /// When nobody needs to decide any more; `None`: never.
    pub expire_after: Option<Duration>,
    /// How long information that was asked for is waited for.
    pub information_within: Duration,
    /// How often information may be asked for in one case.
    pub max_information_requests: u32,
}

impl Default for ParkingSettings {
    fn default() -> Self {
        filled(None)
    }
}

/// Fills in the defaults.
pub(crate) fn filled(line: Option<&ParkingLine>) -> ParkingSettings {
    let span = |get: fn(&ParkingLine) -> Option<Span>| line.and_then(get).map(|span| span.0);
    ParkingSettings {
        remind_after: span(|l| l.remind_after),
        escalate_after: span(|l| l.escalate_after),
        expire_after: span(|l| l.expire_after),
        information_within: span(|l| l.information_within).unwrap_or(INFORMATION_WITHIN),
        max_information_requests: line.and_then(|l| l.max_information_requests).unwrap_or(MAX_INFORMATION_REQUESTS),
    }
}

/// What to write instead of a time that must come after `before`.
pub(crate) fn later_than(before: Duration) -> Duration {
    before.saturating_mul(3).min(before.saturating_add(DAY * 30))
}
