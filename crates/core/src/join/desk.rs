//! What concerns people in a case that was parked: when they are told of it, what they decided, and what was asked of others.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_protocol::{Answered, EventId, FollowUpKind, NoticeKind, ReviewDecision, Standing, Timestamp};
use anabranch_topology::ParkingSettings;

use super::case::{Case, Phase};
use super::effects::{Ask, Asks, DecisionError, Effects};
use super::place::{Log, Piece, Place};
use super::policy::JoinPolicy;

/// Longest name of a reviewer, and longest decision, in bytes: they are remembered as long as the case.
const LONGEST_WORD: usize = 256;

/// What concerns people in a case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desk {
    /// Why it is parked, in codes.
    pub codes: Vec<String>,
    /// When people are reminded.
    pub remind: Alarm,
    /// When it is escalated.
    pub escalate: Alarm,
    /// When nobody needs to decide any more.
    pub expire: Option<Timestamp>,
    /// What was asked for and has not come.
    pub awaited: Option<Awaited>,
    /// How often something was asked for.
    pub requests: u32,
    /// Where what came lies. Each began a follow-up round of its own.
    pub information: Vec<Place>,
    /// The latest decision of a person that counted.
    pub judged: Option<Judged>,
}

/// Something that happens once, at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Alarm {
    /// Never.
    #[default]
    Off,
    /// It will be then.
    At(Timestamp),
    /// It was then.
    Rang(Timestamp),
}

impl Alarm {
    fn after(since: Timestamp, span: Option<Duration>) -> Self {
        span.map_or(Self::Off, |span| Self::At(since.plus(span)))
    }

    /// When it will be.
    pub fn due(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::Off | Self::Rang(_) => None,
        }
    }
}

/// Information that a case waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// What, by name.
    pub needs: Vec<String>,
    /// Who is asked again once it is there, and what.
    pub asks: Vec<(String, String)>,
    /// Until when. Once that was, a person decides without it.
    pub until: Alarm,
}

/// A decision of a person that counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// `ce_id` of its record.
    pub id: EventId,
    /// Whose.
    pub reviewer: String,
    /// What.
    pub decision: String,
    /// When it counted.
    pub at: Timestamp,
}

impl Judged {
    /// A decision that counts now.
    pub fn new(id: &EventId, decision: &ReviewDecision, at: Timestamp) -> Self {
        Self { id: id.clone(), reviewer: decision.reviewer.clone(), decision: decision.decision.clone(), at }
    }

    /// What a decision is told that came after this one.
    pub(super) fn answer(&self, id: &EventId, decision: &ReviewDecision) -> Answered {
        if self.id == *id || (self.reviewer == decision.reviewer && self.decision == decision.decision) {
            return Answered::Repeat { decided_at: self.at };
        }
        Answered::AlreadyDecided { by: self.reviewer.clone(), was: self.decision.clone(), decided_at: self.at }
    }
}

/// How a case is parked. Times that are not given are the policy's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parking {
    /// Why, for people.
    pub reason: String,
    /// Why, in codes.
    pub codes: Vec<String>,
    /// When people are reminded.
    pub remind_after: Option<Duration>,
    /// When it is escalated.
    pub escalate_after: Option<Duration>,
    /// When nobody needs to decide any more.
    pub expire_after: Option<Duration>,
    /// What it waits for beside a decision.
    pub request: Option<Request>,
}

/// Information that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What, by name.
    pub needs: Vec<String>,
    /// Who is asked again once it is there, and what.
    pub asks: Vec<(String, String)>,
    /// How long it is waited for; the policy's time if it is not given.
    pub within: Option<Duration>,
}

/// What became due of a parked case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bell {
    /// People are to be told.
    Notice(NoticeKind),
    /// Nobody has decided in time: the composer is to be asked.
    Expiry,
}

/// Why a decision can never count, whatever its case; `None`: it may.
pub fn unfit(decision: &ReviewDecision) -> Option<String> {
    for (what, word) in [("reviewer", &decision.reviewer), ("decision", &decision.decision)] {
        if word.trim().is_empty() {
            return Some(format!("it names no {what}"));
        }
        if word.len() > LONGEST_WORD {
            return Some(format!("its {what} is longer than {LONGEST_WORD} bytes"));
        }
    }
    None
}

impl Desk {
    /// What is due next, and when.
    fn next(&self) -> Option<(Timestamp, Bell)> {
        let notice = |alarm: Alarm, kind| alarm.due().map(|at| (at, Bell::Notice(kind)));
        let awaited = self.awaited.as_ref().map_or(Alarm::Off, |awaited| awaited.until);
        let bells = [
            notice(self.remind, NoticeKind::Reminder),
            notice(self.escalate, NoticeKind::Escalation),
            notice(awaited, NoticeKind::InformationOverdue),
            self.expire.map(|at| (at, Bell::Expiry)),
        ];
        bells.into_iter().flatten().min()
    }

    fn rang(&mut self, bell: Bell, now: Timestamp) {
        match (bell, &mut self.awaited) {
            (Bell::Notice(NoticeKind::Reminder), _) => self.remind = Alarm::Rang(now),
            (Bell::Notice(NoticeKind::Escalation), _) => self.escalate = Alarm::Rang(now),
            (Bell::Notice(NoticeKind::InformationOverdue), Some(awaited)) => awaited.until = Alarm::Rang(now),
            // What follows it is decided.
            (Bell::Notice(NoticeKind::InformationOverdue), None) | (Bell::Expiry, _) => {}
        }
    }

    /// What outlasts the parking: what came, and what was decided.
    fn left(&mut self) {
        let (requests, information) = (self.requests, std::mem::take(&mut self.information));
        *self = Self { requests, information, judged: self.judged.take(), ..Self::default() };
    }
}

impl Case {
    /// What concerns people; `None`: nothing yet.
    pub fn desk(&self) -> Option<&Desk> {
        self.desk.as_deref()
    }

    /// Which time that the case is parked this is, from 1, or how often it was.
    pub fn parking(&self) -> u32 {
        self.outcomes
    }

    /// Where it stands, in a word.
    pub fn standing(&self) -> Standing {
        let waits = |desk: &Desk| desk.awaited.as_ref().is_some_and(|awaited| awaited.until.due().is_some());
        match self.phase {
            Phase::Joining => Standing::Joining,
            Phase::Parked { .. } if self.desk().is_some_and(waits) => Standing::WaitsForInformation,
            Phase::Parked { .. } => Standing::Parked,
            Phase::Closed { .. } => Standing::Closed,
        }
    }

    pub(super) fn judged(&self) -> Option<&Judged> {
        self.desk()?.judged.as_ref()
    }

    /// How often information came.
    pub fn informations(&self) -> usize {
        self.desk().map_or(0, |desk| desk.information.len())
    }

    /// How many follow-up rounds it may have: information brings a round of its own.
    pub fn rounds_allowed(&self, max_rounds: u32) -> u32 {
        max_rounds.saturating_add(u32::try_from(self.informations()).unwrap_or(u32::MAX))
    }

    pub(super) fn information_places(&self) -> impl Iterator<Item = (Piece, Place)> + '_ {
        let places = self.desk().into_iter().flat_map(|desk| desk.information.iter().copied());
        places.enumerate().map(|(index, place)| (Piece::Information(index), place))
    }

    /// Parks it.
    pub(super) fn park(
        &mut self,
        parking: Parking,
        now: Timestamp,
        settings: &ParkingSettings,
    ) -> Result<(), DecisionError> {
        let awaited = parking.request.map(|request| self.awaited(request, now, settings)).transpose()?;
        let mut desk = self.desk.take().unwrap_or_default();
        desk.left();
        desk.codes = parking.codes;
        desk.remind = Alarm::after(now, parking.remind_after.or(settings.remind_after));
        desk.escalate = Alarm::after(now, parking.escalate_after.or(settings.escalate_after));
        desk.expire = Alarm::after(now, parking.expire_after.or(settings.expire_after)).due();
        desk.requests += u32::from(awaited.is_some());
        desk.awaited = awaited;
        self.phase = Phase::Parked { since: now, reason: parking.reason };
        self.desk = (*desk != Desk::default()).then_some(desk);
        Ok(())
    }

    fn awaited(&self, request: Request, now: Timestamp, settings: &ParkingSettings) -> Result<Awaited, DecisionError> {
        if request.needs.is_empty() || request.asks.is_empty() {
            return Err(DecisionError::Empty);
        }
        let asked = self.desk().map_or(0, |desk| desk.requests);
        if asked >= settings.max_information_requests {
            return Err(DecisionError::TooManyRequests(asked + 1));
        }
        for (agent, _) in &request.asks {
            self.votes(agent)?;
        }
        let until = Alarm::At(now.plus(request.within.unwrap_or(settings.information_within)));
        Ok(Awaited { needs: request.needs, asks: request.asks, until })
    }

    /// It is not parked any more.
    pub(super) fn unpark(&mut self) {
        if let Some(desk) = &mut self.desk {
            desk.left();
        }
        let _ = self.desk.take_if(|desk| **desk == Desk::default());
    }

    /// When something is due of it while it is parked.
    pub(super) fn next_bell(&self) -> Option<(Timestamp, Bell)> {
        let parked = matches!(self.phase, Phase::Parked { .. });
        self.desk().filter(|_| parked)?.next()
    }

    /// Takes what is due.
    pub(super) fn ring(&mut self, now: Timestamp) -> Option<Bell> {
        let (_, bell) = self.next_bell().filter(|(at, _)| *at <= now)?;
        self.desk.as_mut()?.rang(bell, now);
        Some(bell)
    }

    /// What a decision is answered without asking the composer; `None`: the composer is to be asked.
    pub(super) fn answer(&self, id: &EventId, decision: &ReviewDecision) -> Option<Answered> {
        let parked = matches!(self.phase, Phase::Parked { .. });
        let outdated = decision.parking.is_some_and(|about| about != self.parking());
        match self.judged() {
            Some(judged) if judged.id == *id || !parked || outdated => Some(judged.answer(id, decision)),
            None if !parked => Some(Answered::NotParked { case: self.standing() }),
            None if outdated => {
                let why = format!("the case has changed since: it is parked for the {}. time now", self.parking());
                Some(Answered::Refused { why })
            }
            _ => None,
        }
    }

    /// What was asked for has come, and lies there.
    pub(super) fn inform<V>(
        &mut self,
        fields: &BTreeMap<String, V>,
        at: Place,
        now: Timestamp,
        policy: &JoinPolicy,
    ) -> Result<Effects, Answered> {
        if !matches!(self.phase, Phase::Parked { .. }) {
            return Err(Answered::NotParked { case: self.standing() });
        }
        let refused = |why: &str| Answered::Refused { why: why.to_owned() };
        let awaited = self.desk().and_then(|desk| desk.awaited.as_ref());
        let awaited = awaited.ok_or_else(|| refused("nothing was asked for"))?;
        if awaited.until.due().is_none_or(|until| until <= now) {
            return Err(refused("the time for it is over: a person decides"));
        }
        if let Some(why) = unfitting(&awaited.needs, fields) {
            return Err(refused(&why));
        }
        let asks = awaited.asks.clone();
        if let Some(desk) = &mut self.desk {
            desk.information.push(at);
        }
        self.deadline = self.deadline.max(now.plus(policy.deadline));
        match self.ask_again(asks, now, policy.max_follow_up_rounds) {
            Ok(asks) => Ok(Effects { changed: true, asks: vec![asks], ..Effects::default() }),
            Err(error) => {
                if let Some(desk) = &mut self.desk {
                    desk.information.pop();
                }
                Err(refused(&error.to_string()))
            }
        }
    }

    /// Another round, in which these are asked.
    pub(super) fn ask_again(
        &mut self,
        asks: Vec<(String, String)>,
        now: Timestamp,
        max_rounds: u32,
    ) -> Result<Asks, DecisionError> {
        if asks.is_empty() {
            return Err(DecisionError::Empty);
        }
        if now >= self.deadline {
            return Err(DecisionError::TooLate);
        }
        if self.round >= self.rounds_allowed(max_rounds) {
            return Err(DecisionError::TooManyRounds(self.round + 1));
        }
        let mut tasks: Vec<Ask> = Vec::with_capacity(asks.len());
        for (agent, question) in asks {
            let step = self.votes(&agent)?;
            // An agent has one task in a round: of several questions the last counts.
            tasks.retain(|ask| ask.step != step);
            tasks.push(Ask { step, round: self.round + 1, question: Some(question) });
        }
        self.unpark();
        self.phase = Phase::Joining;
        self.round += 1;
        tasks.iter().for_each(|ask| self.states[ask.step].asked = Some(self.round));
        Ok(Asks { kind: FollowUpKind::Round, tasks })
    }

    /// The step of an agent, if it has a vote.
    fn votes(&self, agent: &str) -> Result<usize, DecisionError> {
        let step = self.step(agent).filter(|step| !self.steps[*step].follows_outcome());
        step.ok_or_else(|| DecisionError::NoSuchStep(agent.to_owned()))
    }
}

/// Why these fields are not what is needed.
fn unfitting<V>(needs: &[String], fields: &BTreeMap<String, V>) -> Option<String> {
    let missing: Vec<&str> = needs.iter().filter(|name| !fields.contains_key(*name)).map(String::as_str).collect();
    let foreign: Vec<&str> = fields.keys().filter(|name| !needs.contains(name)).map(String::as_str).collect();
    match (missing.is_empty(), foreign.is_empty()) {
        (false, _) => Some(format!("it lacks {}", missing.join(", "))),
        (true, false) => Some(format!("nobody asked for {}", foreign.join(", "))),
        (true, true) => None,
    }
}

impl Place {
    /// On the review topic.
    pub fn review(offset: i64, bytes: usize) -> Self {
        Self { log: Log::Review, ..Self::results(offset, bytes) }
    }
}
