//! A million events in random order, over several cases and all policies: no panic, never two outcomes, one time at which an
//! open case is due, and a restored join that behaves like the one it was saved from.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_protocol::FollowUpKind;

use super::*;

const CASES: usize = 6;
const AGENTS: [&str; 5] = ["a", "b", "c", "d", "after"];
const EVENTS: u32 = 1_000_000;
const EVENTS_A_RUN: u32 = 400;
/// So long a join and the one that it was restored from are given the same events.
const TWINS_FOR: u32 = 15;

fn case(number: usize) -> CorrelationId {
    CorrelationId::new(format!("case-{number}"))
}

fn steps() -> Vec<Step> {
    let optional = |agent: &str, after: &[&str]| Step { required: false, ..step(agent, after) };
    let mut steps = vec![step("a", &[]), step("b", &[]), step("c", &["a"]), optional("d", &[])];
    steps.push(optional("after", &[Step::OUTCOME]));
    steps
}

/// Numbers that a seed determines.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn index(&mut self, sides: usize) -> usize {
        usize::try_from(self.roll(sides as u64)).unwrap()
    }
}

/// What is known of a case from outside.
#[derive(Default)]
struct Seen {
    /// It was published, or it became a dead letter.
    outcomes: u32,
    /// It became a dead letter, after its request was sent back so often.
    given_up: Option<u32>,
    redrives: u32,
    asked: BTreeMap<usize, BTreeSet<u32>>,
}

/// Plays the composer, and the process that dies and comes back.
struct Play {
    policy: JoinPolicy,
    join: Join,
    /// The one that this was restored from, given the same events for a while.
    twin: Option<Join>,
    twin_until: u32,
    now: i64,
    offset: i64,
    dice: Dice,
    seen: Vec<Seen>,
    /// Where copies lie, as the state topic would have it.
    copies: BTreeMap<(String, Piece), i64>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let wait_for = [WaitFor::All, WaitFor::Required, WaitFor::Quorum(2)][dice.index(3)];
        let when_deadline_passes = [WhenDeadlinePasses::Compose, WhenDeadlinePasses::DeadLetter][dice.index(2)];
        let hour = Duration::from_secs(3600);
        let parking = ParkingSettings {
            remind_after: (dice.roll(2) == 0).then_some(Duration::from_secs(30)),
            escalate_after: (dice.roll(2) == 0).then_some(Duration::from_secs(60)),
            expire_after: (dice.roll(3) == 0).then_some(hour),
            ..ParkingSettings::default()
        };
        let policy = JoinPolicy { wait_for, when_deadline_passes, parking, ..policy() };
        let seen = (0..CASES).map(|_| Seen::default()).collect();
        let copies = BTreeMap::new();
        Self { policy, join: Join::new(policy), twin: None, twin_until: 0, now: 0, offset: 0, dice, seen, copies }
    }

    /// Calls both joins, which must answer alike.
    fn both<R: PartialEq + std::fmt::Debug>(&mut self, call: impl Fn(&mut Join) -> R) -> R {
        let result = call(&mut self.join);
        if let Some(twin) = &mut self.twin {
            assert_eq!(call(twin), result, "a restored join behaves like the one it was saved from");
        }
        result
    }

    fn place(&mut self) -> Place {
        self.offset += 1;
        place(self.offset)
    }

    fn event(&mut self) {
        let number = self.dice.index(CASES);
        self.twin_until = self.twin_until.saturating_sub(1);
        if self.twin_until == 0 {
            self.twin = None;
        }
        match self.dice.roll(60) {
            0..9 => self.plan(number),
            9..44 => self.partial(number),
            44..51 => self.time(),
            51..55 => self.review(number),
            55..58 => self.information(number),
            _ => self.restart(),
        }
        self.save(number);
        self.check();
    }

    fn plan(&mut self, number: usize) {
        let name = ["p", "q"][self.dice.index(2)];
        let (plan_id, at) = (PlanId::new(name), self.place());
        let envelope = Envelope { time: self::at(self.now), ..envelope(&case(number)) };
        let needs = self.both(|join| join.needs(&case(number), Event::Plan(&plan_id), self::at(0)));
        let redrives = [0, 0, self.dice.roll(4)][self.dice.index(3)];
        let redrives = u32::try_from(redrives).unwrap();
        let effects = self.both(|join| join.plan_again(&envelope, &plan_id, &steps(), at, redrives));
        if effects.changed {
            // A case that is new, or one that ended as a dead letter and was sent back since: never one with an outcome.
            let seen = &mut self.seen[number];
            assert!(seen.outcomes == 0 || seen.given_up.is_some_and(|before| redrives > before));
            *seen = Seen { redrives, ..Seen::default() };
        }
        assert!(effects.asks.is_empty() || needs == Needs::All, "tasks carry payloads");
        self.follow(number, &effects);
    }

    fn partial(&mut self, number: usize) {
        let counts = self.join.case(&case(number)).map_or("p", |c| c.plan_id.as_str()).to_owned();
        let status = [yes(), yes(), no(), PartialStatus::Expired][self.dice.index(4)].clone();
        let name = if self.dice.roll(12) == 0 { "stranger" } else { &counts };
        let round = u32::try_from(self.dice.roll(3)).unwrap();
        let partial = answer(name, AGENTS[self.dice.index(AGENTS.len())], round, status);
        let at = self.place();
        let needs = self.both(|join| join.needs(&case(number), Event::Partial(&partial), self::at(0)));
        let effects = self.both(|join| join.partial(&case(number), &partial, at));
        let shown = effects.compose.is_some() || !effects.asks.is_empty();
        assert!(!shown || needs == Needs::All);
        assert!(effects.part.is_none() || needs >= Needs::Plan);
        self.follow(number, &effects);
    }

    fn time(&mut self) {
        self.now += i64::try_from(self.dice.roll(40)).unwrap();
        let now = at(self.now);
        for due in self.both(|join| join.due(now, 100)) {
            match due {
                Due::Overdue(id) => {
                    let number = (0..CASES).find(|n| case(*n) == id).unwrap();
                    assert_eq!(self.both(|join| join.needs(&id, Event::Overdue, now)), Needs::All);
                    let effects = self.both(|join| join.overdue(&id, now));
                    assert!(effects.compose.is_some() != effects.give_up.is_some());
                    self.follow(number, &effects);
                    self.save(number);
                }
                Due::Bell(id) => {
                    let number = (0..CASES).find(|n| case(*n) == id).unwrap();
                    let needs = self.both(|join| join.needs(&id, Event::Bell, now));
                    match self.both(|join| join.ring(&id, now)) {
                        Some(Bell::Expiry) => {
                            assert_eq!(needs, Needs::All);
                            self.decide(number);
                        }
                        bell => assert!(bell.is_some() && needs == Needs::Plan, "due and not rung"),
                    }
                    self.save(number);
                }
                Due::Forgotten(id) => {
                    let number = (0..CASES).find(|n| case(*n) == id).unwrap();
                    assert_eq!(self.seen[number].outcomes, 1, "forgotten before its outcome");
                    self.seen[number] = Seen::default();
                    self.save(number);
                }
            }
        }
    }

    fn review(&mut self, number: usize) {
        let needs = self.both(|join| join.needs(&case(number), Event::Review, at(0)));
        let (event, decision) = (EventId::new(self.dice.roll(3).to_string()), says("ada", "approve"));
        let told = self.both(|join| join.review(&case(number), &event, &decision));
        if told.is_none() {
            assert_eq!(needs, Needs::All);
            let now = at(self.now);
            if self.dice.roll(2) == 0 {
                self.both(|join| join.extend(&case(number), now));
            }
            self.decide(number);
            self.both(|join| join.judged(&case(number), Judged::new(&event, &decision, now)));
        }
    }

    fn information(&mut self, number: usize) {
        let place = Place { log: Log::Review, ..self.place() };
        let fields: BTreeMap<String, ()> = [(["x", "y"][self.dice.index(2)].to_owned(), ())].into();
        let now = at(self.now);
        let needs = self.both(|join| join.needs(&case(number), Event::Information, now));
        if let Ok(effects) = self.both(|join| join.inform(&case(number), &fields, place, now)) {
            assert_eq!(needs, Needs::All);
            assert!(effects.changed && effects.asks.len() == 1);
            self.follow(number, &effects);
        }
    }

    fn follow(&mut self, number: usize, effects: &Effects) {
        self.note(number, effects);
        assert!(effects.late.is_none() || !effects.changed, "what is late changes nothing");
        if effects.give_up.is_some() {
            self.abandon(number);
        } else if effects.compose.is_some() {
            self.decide(number);
        }
    }

    fn note(&mut self, number: usize, effects: &Effects) {
        for asks in effects.asks.iter().filter(|asks| asks.kind != FollowUpKind::Replan) {
            assert!(!asks.tasks.is_empty());
            for ask in &asks.tasks {
                let rounds = self.seen[number].asked.entry(ask.step).or_default();
                assert!(rounds.insert(ask.round), "{} was asked twice in round {}", ask.step, ask.round);
            }
        }
    }

    fn abandon(&mut self, number: usize) {
        let now = at(self.now);
        self.both(|join| join.abandon(&case(number), now));
        self.outcome(number);
        self.seen[number].given_up = Some(self.seen[number].redrives);
    }

    fn decide(&mut self, number: usize) {
        let asked = AGENTS[self.dice.index(4)];
        let decision = match self.dice.roll(3) {
            0 => Decision::FollowUp(vec![(asked.into(), "?".into())]),
            1 if self.dice.roll(2) == 0 => {
                let (needs, within) = (vec!["x".to_owned()], Some(Duration::from_secs(50)));
                let request = Some(Request { needs, asks: vec![(asked.into(), "?".into())], within });
                Decision::Park(Parking { request, ..Parking::default() })
            }
            1 => park(),
            _ => Decision::Close,
        };
        let (now, closes) = (at(self.now), decision == Decision::Close);
        match self.both(|join| join.decide(&case(number), decision.clone(), now)) {
            Ok(effects) => {
                self.note(number, &effects);
                if closes {
                    self.outcome(number);
                }
            }
            Err(_) => self.abandon(number),
        }
    }

    fn outcome(&mut self, number: usize) {
        self.seen[number].outcomes += 1;
        assert_eq!(self.seen[number].outcomes, 1, "a second outcome of {}", case(number));
    }

    /// What a batch would write: copies for a parked case, the case, and removals.
    fn save(&mut self, number: usize) {
        let id = case(number);
        let parked = self.join.case(&id).filter(|c| matches!(c.phase, Phase::Parked { .. }));
        let places: Vec<(Piece, Place)> = parked.iter().flat_map(|c| c.places()).collect();
        for (piece, from) in places.into_iter().filter(|(_, p)| p.log != Log::State) {
            assert!(self.both(|join| join.keep(&id, piece, from)));
            let offset = self.place().offset;
            self.copies.insert((id.to_string(), piece), offset);
            assert!(self.both(|join| join.found(id.as_str(), piece, offset)));
        }
        if self.twin.is_some() {
            let _ = self.both(|join| saved(join, &id));
        } else {
            let _ = self.join.save(&id);
        }
        for (id, piece) in self.both(Join::take_released) {
            self.copies.remove(&(id.to_string(), piece));
        }
    }

    /// A process that comes back; the one it was saved from goes on beside it for a while.
    fn restart(&mut self) {
        let mut restored = Join::new(self.policy);
        for number in 0..CASES {
            if let Some(written) = saved(&mut self.join, &case(number)) {
                restored.restore(case(number).as_str(), Saved::read(&written).unwrap()).unwrap();
            }
        }
        assert!(self.join.take_released().is_empty(), "all was saved");
        for ((id, piece), offset) in &self.copies {
            assert!(restored.found(id, *piece, *offset), "a copy that nothing refers to stays for ever");
        }
        self.twin = Some(std::mem::replace(&mut self.join, restored));
        self.twin_until = TWINS_FOR;
    }

    fn check(&self) {
        let (joining, parked, closed) = self.join.phases();
        assert_eq!(joining + parked + closed, self.join.len());
        let closed_seen = self.seen.iter().filter(|seen| seen.outcomes > 0).count();
        assert_eq!(closed_seen, closed, "closed means that there was an outcome");
        let cases = (0..CASES).filter_map(|number| self.join.case(&case(number)));
        let bells = cases.filter(|case| case.next_bell().is_some()).count();
        assert_eq!(self.join.due_count(), joining + closed + bells, "every open case has one time");
    }

    /// Time and people bring every case to its end.
    fn finish(&mut self) {
        for _ in 0..100 {
            for number in 0..CASES {
                self.review(number);
                self.save(number);
            }
            if let Some(due) = self.join.next_due() {
                self.now = self.now.max(due.as_millis() / 1000);
            }
            self.time();
            self.check();
        }
        assert!(self.join.is_empty(), "{:?} left", self.join.phases());
        assert!(self.copies.is_empty(), "{:?} left", self.copies);
    }
}

#[test]
fn never_two_outcomes_and_always_one_in_the_end() {
    for seed in 0..u64::from(EVENTS / EVENTS_A_RUN) {
        let mut play = Play::new(seed);
        for _ in 0..EVENTS_A_RUN {
            play.event();
        }
        play.finish();
    }
}
