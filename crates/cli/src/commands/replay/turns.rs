//! What the composer did for a case, one thing after the other, and when: from what it was given and what it wrote.
//!
//! Everything that the composer writes because of one thing says the same time, and what caused it. What it did without
//! writing anything has no time of its own: it gets that of the record, and its place by it.

use std::collections::BTreeSet;
use std::time::Duration;

use anabranch_core::join::LateReason;
use anabranch_kafka::Record;
use anabranch_protocol::dead_letter::Letter;
use anabranch_protocol::replay::Turn;
use anabranch_protocol::{
    Answered, Envelope, EventId, FollowUp, FollowUpKind, NoticeKind, Plan, ReviewAnswer, Standing, Timestamp,
    dead_letter, header,
};

use super::found::{Found, kept, read, written_at};

/// A record that the composer was given.
struct Input<'a> {
    record: &'a Record,
    id: Option<EventId>,
    /// It is a plan with steps that vote: what it causes beside its own tasks is due later.
    waits: bool,
    is_plan: bool,
    /// It came too late to count, for this reason: it led to nothing.
    late: Option<&'a str>,
    /// When it was written.
    own: Timestamp,
    /// When the composer did it, where that is known.
    known: Option<Timestamp>,
}

impl<'a> Input<'a> {
    fn of(found: &'a Found, record: &'a Record) -> Self {
        let envelope = Envelope::decode(&record.view()).ok().map(|decoded| decoded.envelope);
        let is_plan = envelope.as_ref().is_some_and(|envelope| envelope.kind == Plan::TYPE);
        let plan = read::<Plan>(record).filter(|_| is_plan);
        let waits = plan.is_some_and(|plan| plan.data.steps.iter().any(|step| !step.follows_outcome()));
        let is_it = |late: &Record| late.topic == record.topic && late.offset == record.offset;
        let answer = found.answers.iter().find(|answer| is_it(&answer.read.record));
        let (late, own) = (answer.and_then(|answer| answer.late.as_deref()), written_at(record));
        Self { record, id: envelope.map(|envelope| envelope.id), waits, is_plan, late, own, known: None }
    }

    fn known_by(&mut self, at: Timestamp) {
        self.known = Some(self.known.map_or(at, |known| known.min(at)));
    }
}

/// What the composer did, in order.
pub(super) fn turns(found: &Found) -> Vec<Turn> {
    let mut inputs: Vec<Input<'_>> =
        found.results.iter().chain(&found.reviews).map(|record| Input::of(found, record)).collect();
    let mut due = BTreeSet::new();
    for record in &found.written {
        place(record, &mut inputs, &mut due);
    }
    after_the_end(&mut inputs, &ends(found, &due));
    let (results, reviews) = inputs.split_at(found.results.len());
    let mut turns: Vec<Turn> = Vec::new();
    for log in [results, reviews] {
        let records = log.iter().zip(times(log));
        turns.extend(records.map(|(input, now)| Turn { now, record: Some(kept(input.record)) }));
    }
    turns.extend(due.into_iter().map(|(now, _)| Turn { now, record: None }));
    // Stable: each log stays in order, and what came stands before what was due at the same time.
    turns.sort_by_key(|turn| turn.now);
    turns
}

/// Finds out when it was that the composer did what led to this record.
fn place(record: &Record, inputs: &mut [Input<'_>], due: &mut BTreeSet<(Timestamp, String)>) {
    if let Some(letter) = dead_letter::read(&record.headers) {
        if let Some(at) = letter.last_failure {
            given_up(inputs, due, &letter, at);
        }
        return;
    }
    // A late record is as it came; when it was found to be late is not known.
    if header::last(&record.headers, header::LATE_REASON).is_some() {
        return;
    }
    let Ok(decoded) = Envelope::decode(&record.view()) else { return };
    let (at, kind) = (decoded.envelope.time, decoded.envelope.kind.as_str());
    if let Some(answer) = decoded.json::<ReviewAnswer>().ok().filter(|_| kind == ReviewAnswer::TYPE) {
        let is_it =
            |input: &&mut Input<'_>| input.record.offset == answer.offset && input.id.as_ref() == Some(&answer.to);
        if let Some(input) = inputs.iter_mut().find(is_it) {
            input.known_by(at);
        }
        return;
    }
    let Some(cause) = &decoded.envelope.causation_id else { return };
    let waits = inputs.iter().any(|input| input.waits && input.id.as_ref() == Some(cause));
    let replans = kind == FollowUp::TYPE && decoded.json().is_ok_and(|f: FollowUp| f.kind == FollowUpKind::Replan);
    let notices = [NoticeKind::Reminder, NoticeKind::Escalation, NoticeKind::InformationOverdue];
    let notice = notices.iter().any(|notice| notice.event_type() == kind);
    if notice || (waits && !replans) {
        let what = if notice { kind } else { "" };
        due.insert((at, what.to_owned()));
        return;
    }
    // Of records with the same id that count, the last that was there by then.
    let caused = |input: &&mut Input<'_>| input.late.is_none() && input.id.as_ref() == Some(cause);
    let first_or_last = inputs.iter_mut().filter(caused).fold(None::<&mut Input<'_>>, |chosen, next| match chosen {
        Some(before) if next.own > at => Some(before),
        _ => Some(next),
    });
    if let Some(input) = first_or_last {
        input.known_by(at);
    }
}

/// When the case may have been closed by something else than an answer: by a person, or because a time was over.
fn ends(found: &Found, due: &BTreeSet<(Timestamp, String)>) -> BTreeSet<Timestamp> {
    let answers = found.written.iter().filter_map(read::<ReviewAnswer>);
    let closing = answers.filter(|said| said.data.answer == Answered::Accepted { case: Standing::Closed });
    let over = due.iter().filter(|(_, notice)| notice.is_empty()).map(|(at, _)| *at);
    closing.map(|said| said.envelope.time).chain(over).collect()
}

/// An answer that was late as the case was closed came to the composer after that, whenever it was written.
fn after_the_end(inputs: &mut [Input<'_>], ends: &BTreeSet<Timestamp>) {
    let closed = LateReason::Closed.as_str();
    for input in inputs.iter_mut().filter(|input| input.late == Some(closed)) {
        if let Some(end) = ends.range(input.own..).next() {
            input.own = end.plus(Duration::from_millis(1));
        }
    }
}

/// A record was given up. If it is the case's plan, the case was: because of what came last, or because its time was over. A
/// plan that was copied when the case was parked has no place any more.
fn given_up(inputs: &mut [Input<'_>], due: &mut BTreeSet<(Timestamp, String)>, letter: &Letter<'_>, at: Timestamp) {
    let is_it = |input: &&mut Input<'_>| {
        *input.record.topic == *letter.topic && letter.place.is_some_and(|(_, offset)| offset == input.record.offset)
    };
    if let Some(input) = inputs.iter_mut().find(is_it).filter(|input| !input.is_plan) {
        input.known_by(at);
        return;
    }
    due.insert((at, String::new()));
    let of_log = |input: &&mut Input<'_>| *input.record.topic == *letter.topic && input.own <= at;
    if let Some(last) = inputs.iter_mut().rfind(of_log).filter(|input| input.known.is_none()) {
        last.known = Some(at);
    }
}

/// When the records of one log were done: never before an earlier one of it, and as it is known of some.
fn times(log: &[Input<'_>]) -> Vec<Timestamp> {
    let mut times = vec![Timestamp::from_millis(0); log.len()];
    let mut next: Option<Timestamp> = None;
    for (time, input) in times.iter_mut().zip(log).rev() {
        next = input.known.or(next);
        *time = input.known.unwrap_or_else(|| next.map_or(input.own, |next| next.min(input.own)));
    }
    for index in 1..times.len() {
        times[index] = times[index].max(times[index - 1]);
    }
    times
}
