//! The join: what counts, what comes too late, and that no case ever has two outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_protocol::{
    Completion, CorrelationId, Envelope, EventId, FollowUpKind, Partial, PartialStatus, Plan, PlanId, Step, TaskId,
    Timestamp, TraceParent, Work,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);
const MEMORY: Duration = Duration::from_secs(600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn join() -> Join {
    Join::new(JoinPolicy { deadline: DEADLINE, closed_memory: MEMORY, max_follow_up_rounds: 2 })
}

fn id() -> CorrelationId {
    CorrelationId::new("case")
}

fn envelope(case: &CorrelationId) -> Envelope {
    let id = EventId::new("request");
    Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: "/test".into(),
        kind: Plan::TYPE.into(),
        subject: None,
        time: at(0),
        correlation_id: case.clone(),
        causation_id: None,
        deadline: None,
        trace_state: None,
    }
}

fn step(agent: &str, after: &[&str]) -> Step {
    let after = after.iter().map(|a| (*a).to_owned()).collect();
    Step { agent: agent.into(), required: true, after, version: None }
}

fn plan(name: &str, steps: Vec<Step>) -> Plan {
    Plan { plan_id: PlanId::new(name), request: json!({"n": 1}), steps }
}

fn answer(plan: &str, agent: &str, round: u32, status: PartialStatus) -> Partial {
    let plan_id = PlanId::new(plan);
    Partial {
        task_id: TaskId::derive(&plan_id, agent, round),
        plan_id,
        agent: agent.into(),
        agent_version: "1".into(),
        round,
        status,
        work: Work { started_at: at(0), finished_at: at(1), attempts: 1 },
    }
}

fn yes() -> PartialStatus {
    PartialStatus::Completed(Completion { output: json!("yes"), confidence: Some(1.0), disposition: None })
}

/// A case of two steps side by side, planned at 0.
fn two_steps() -> Join {
    let mut join = join();
    assert!(join.plan(envelope(&id()), plan("p", vec![step("a", &[]), step("b", &[])])).changed);
    join
}

fn close() -> Decision {
    Decision::Close { outcome: None }
}

#[test]
fn composes_once_all_have_answered() {
    let mut join = two_steps();
    let first = join.partial(&id(), answer("p", "a", 0, yes()));
    assert_eq!((first.part.as_deref(), &first.compose), (Some("a"), &None));
    let second = join.partial(&id(), answer("p", "b", 0, yes()));
    assert_eq!(second.compose, Some(vec![]));
    let decided = join.decide(&id(), close(), at(2)).unwrap();
    assert!(decided.changed && decided.follow_ups.is_empty());
    assert_eq!(join.phases(), (0, 0, 1));
}

#[test]
fn a_failed_part_counts_as_missing_and_says_why() {
    let mut join = two_steps();
    let failed = join.partial(&id(), answer("p", "a", 0, PartialStatus::Failed { reason: "no".into() }));
    assert_eq!(failed.part, None, "a failure is no part to look at");
    let missing = join.partial(&id(), answer("p", "b", 0, PartialStatus::Expired)).compose.unwrap();
    let why: Vec<(&str, &WhyMissing)> = missing.iter().map(|m| (m.agent.as_str(), &m.why)).collect();
    assert_eq!(why, [("a", &WhyMissing::Failed("no".into())), ("b", &WhyMissing::Late)]);
}

#[test]
fn what_comes_too_late_changes_nothing_and_says_why() {
    let mut join = two_steps();
    let late = |join: &mut Join, partial| {
        let effects = join.partial(&id(), partial);
        assert!(!effects.changed && effects.compose.is_none());
        effects.late
    };
    assert_eq!(join.partial(&CorrelationId::new("?"), answer("p", "a", 0, yes())).late, Some(LateReason::UnknownCase));
    assert_eq!(late(&mut join, answer("other", "a", 0, yes())), Some(LateReason::OtherPlan));
    assert_eq!(late(&mut join, answer("p", "c", 0, yes())), Some(LateReason::NotAsked));
    assert_eq!(late(&mut join, answer("p", "a", 1, yes())), Some(LateReason::NotAsked), "a round nobody asked for");
    assert!(join.partial(&id(), answer("p", "a", 0, yes())).changed);
    assert_eq!(late(&mut join, answer("p", "a", 0, yes())), Some(LateReason::Repeated));
    assert_eq!(join.review(&id()), Some(LateReason::NotParked));
    let _ = join.decide(&id(), close(), at(2)).unwrap();
    assert_eq!(late(&mut join, answer("p", "b", 0, yes())), Some(LateReason::Closed));
    assert_eq!(join.review(&id()), Some(LateReason::Closed));
}

#[test]
fn the_first_plan_counts_and_its_tasks_are_asked_for_again() {
    let mut join = two_steps();
    assert!(join.partial(&id(), answer("p", "a", 0, yes())).changed);
    let same = join.plan(envelope(&id()), plan("p", vec![step("a", &[]), step("b", &[])]));
    assert_eq!((same.late, same.follow_ups.len()), (Some(LateReason::Repeated), 0));
    let other = join.plan(envelope(&id()), plan("q", vec![step("a", &[])]));
    assert_eq!(other.late, Some(LateReason::OtherPlan));
    assert_eq!(other.follow_ups[0].kind, FollowUpKind::Replan);
    let agents: Vec<&str> = other.follow_ups[0].tasks.iter().map(|t| t.agent.as_str()).collect();
    assert_eq!(agents, ["b"], "only what has not answered");
    assert_eq!(other.follow_ups[0].plan_id, PlanId::new("p"));
}

#[test]
fn a_step_runs_once_what_it_waits_for_is_in_and_sees_it() {
    let mut join = join();
    let steps = vec![step("a", &[]), step("b", &["a"]), step("c", &["b", "a"])];
    assert!(join.plan(envelope(&id()), plan("p", steps)).changed);
    let ready = join.partial(&id(), answer("p", "a", 0, yes()));
    assert_eq!(ready.follow_ups[0].kind, FollowUpKind::StepReady);
    let task = &ready.follow_ups[0].tasks[0];
    assert_eq!((task.agent.as_str(), task.parts["a"].output.clone()), ("b", json!("yes")));
    // One that failed does not hold up what waits for it.
    let next = join.partial(&id(), answer("p", "b", 0, PartialStatus::Expired));
    let task = &next.follow_ups[0].tasks[0];
    let parts: Vec<&str> = task.parts.keys().map(String::as_str).collect();
    assert_eq!((task.agent.as_str(), parts), ("c", vec!["a"]));
    assert_eq!(next.compose, None);
}

#[test]
fn a_round_asks_again_and_only_its_answer_counts() {
    let mut join = two_steps();
    for agent in ["a", "b"] {
        assert!(join.partial(&id(), answer("p", agent, 0, yes())).changed);
    }
    let asked = join.decide(&id(), Decision::FollowUp(vec![("a".into(), "sure?".into())]), at(3)).unwrap();
    let task = &asked.follow_ups[0].tasks[0];
    assert_eq!((task.round, task.question.as_deref()), (1, Some("sure?")));
    assert_eq!(task.task_id, TaskId::derive(&PlanId::new("p"), "a", 1));
    assert_eq!(task.parts["a"].output, json!("yes"), "its own earlier answer");
    assert_eq!(join.partial(&id(), answer("p", "a", 0, yes())).late, Some(LateReason::Superseded));
    let done = join.partial(&id(), answer("p", "a", 1, yes()));
    assert_eq!(done.compose, Some(vec![]));
    assert_eq!(join.case(&id()).unwrap().round, 1);
}

#[test]
fn a_decision_that_cannot_be_followed_changes_nothing() {
    let mut join = two_steps();
    let ask = |agent: &str| Decision::FollowUp(vec![(agent.into(), "?".into())]);
    let before = join.case(&id()).unwrap().clone();
    assert_eq!(join.decide(&id(), Decision::FollowUp(vec![]), at(1)), Err(DecisionError::Empty));
    assert_eq!(join.decide(&id(), ask("z"), at(1)), Err(DecisionError::NoSuchStep("z".into())));
    assert_eq!(join.decide(&id(), ask("a"), at(60)), Err(DecisionError::TooLate));
    assert_eq!(join.case(&id()), Some(&before));
    for _ in 0..2 {
        assert!(join.decide(&id(), ask("a"), at(1)).is_ok());
    }
    assert_eq!(join.decide(&id(), ask("a"), at(1)), Err(DecisionError::TooManyRounds(3)));
}

#[test]
fn the_deadline_composes_with_what_is_missing_and_a_closed_case_is_forgotten_in_its_time() {
    let mut join = two_steps();
    assert!(join.partial(&id(), answer("p", "a", 0, yes())).changed);
    assert_eq!(join.next_due(), Some(at(60)));
    assert_eq!(join.due(at(59), 10), []);
    let due = join.due(at(60), 10);
    let [Due::Overdue(case, effects)] = &due[..] else { panic!("{due:?}") };
    assert_eq!((case, effects.compose.as_ref().unwrap()[0].agent.as_str()), (&id(), "b"));
    let _ = join.decide(&id(), Decision::Park { outcome: None, reason: "b".into() }, at(60)).unwrap();
    assert_eq!(join.next_due(), None, "a parked case waits for days");
    assert_eq!(join.partial(&id(), answer("p", "b", 0, yes())).late, Some(LateReason::Parked));
    assert_eq!(join.review(&id()), None);
    let _ = join.decide(&id(), close(), at(100_000)).unwrap();
    assert_eq!(join.due(at(100_600), 10), [Due::Forgotten(id())]);
    assert!(join.is_empty());
}

#[test]
fn steps_after_the_outcome_are_asked_each_time_there_is_one_and_have_no_vote() {
    let mut join = join();
    let steps = vec![step("a", &[]), step("letter", &[Step::OUTCOME])];
    assert!(join.plan(envelope(&id()), plan("p", steps)).changed);
    assert_eq!(join.partial(&id(), answer("p", "a", 0, yes())).compose, Some(vec![]), "letter is not waited for");
    let park = Decision::Park { outcome: Some(json!("parked")), reason: "low".into() };
    let parked = join.decide(&id(), park, at(2)).unwrap();
    let task = &parked.follow_ups[0].tasks[0];
    assert_eq!((task.agent.as_str(), task.round, task.outcome.clone()), ("letter", 0, Some(json!("parked"))));
    let told = join.partial(&id(), answer("p", "letter", 0, yes()));
    assert_eq!((told.part.as_deref(), told.late), (Some("letter"), None), "also of a parked case");
    let closed = join.decide(&id(), Decision::Close { outcome: Some(json!("done")) }, at(9)).unwrap();
    assert_eq!(closed.follow_ups[0].tasks[0].round, 1, "a second outcome is a second task");
    assert_eq!(join.partial(&id(), answer("p", "letter", 1, yes())).part.as_deref(), Some("letter"));
}

#[test]
fn a_restored_case_is_the_same_case() {
    let mut join = two_steps();
    assert!(join.partial(&id(), answer("p", "a", 0, yes())).changed);
    assert_eq!((join.next_place(&id(), "t", "k"), join.next_place(&id(), "t", "k")), (0, 1));
    let saved = serde_json::to_vec(join.case(&id()).unwrap()).unwrap();
    let mut restored = self::join();
    restored.restore(serde_json::from_slice(&saved).unwrap());
    assert_eq!(restored.case(&id()), join.case(&id()));
    assert_eq!(restored.next_due(), join.next_due());
    assert_eq!(restored.next_place(&id(), "t", "k"), 2);
    assert_eq!(restored.partial(&id(), answer("p", "b", 0, yes())).compose, Some(vec![]));
    restored.drop_case(&id());
    assert!(restored.is_empty() && restored.next_due().is_none());
}

/// Something that happens to a case.
#[derive(Debug, Clone)]
enum Happening {
    Plan(bool),
    Partial { agent: usize, round: u32, ok: bool, other_plan: bool },
    Time(i64),
    Review,
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        1 => any::<bool>().prop_map(Happening::Plan),
        8 => (0..4_usize, 0..3_u32, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(agent, round, ok, other_plan)| Happening::Partial { agent, round, ok, other_plan }),
        2 => (0..40_i64).prop_map(Happening::Time),
        1 => Just(Happening::Review),
        1 => Just(Happening::Restart),
    ]
}

const AGENTS: [&str; 4] = ["a", "b", "c", "after"];

/// Plays the composer: decides by chance, as often as it is asked.
struct Play {
    join: Join,
    now: i64,
    outcomes: u32,
    dice: u64,
    asked: BTreeMap<String, BTreeSet<u32>>,
}

impl Play {
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.dice >> 33
    }

    fn note(&mut self, effects: &Effects) {
        for task in effects.follow_ups.iter().filter(|f| f.kind != FollowUpKind::Replan).flat_map(|f| &f.tasks) {
            let rounds = self.asked.entry(task.agent.clone()).or_default();
            assert!(rounds.insert(task.round), "{} was asked twice in round {}", task.agent, task.round);
        }
    }

    fn follow(&mut self, effects: &Effects) {
        self.note(effects);
        assert!(effects.late.is_none() || !effects.changed, "what is late changes nothing");
        if effects.compose.is_some() {
            self.decide();
        }
    }

    fn decide(&mut self) {
        let decision = match self.roll() % 3 {
            0 => Decision::FollowUp(vec![(AGENTS[(self.roll() % 3) as usize].into(), "?".into())]),
            1 => Decision::Park { outcome: None, reason: "r".into() },
            _ => close(),
        };
        let closes = matches!(decision, Decision::Close { .. });
        match self.join.decide(&id(), decision, at(self.now)) {
            Ok(effects) => {
                self.outcomes += u32::from(closes);
                self.note(&effects);
            }
            Err(_) => {
                self.join.abandon(&id(), at(self.now));
                self.outcomes += 1;
            }
        }
        assert!(self.outcomes <= 1, "a second outcome");
    }

    fn happen(&mut self, happening: &Happening) {
        let steps = vec![step("a", &[]), step("b", &[]), step("c", &["a"]), step("after", &[Step::OUTCOME])];
        match *happening {
            Happening::Plan(first) => {
                let effects = self.join.plan(envelope(&id()), plan(if first { "p" } else { "q" }, steps));
                self.follow(&effects);
            }
            Happening::Partial { agent, round, ok, other_plan } => {
                let counts = self.join.case(&id()).map_or("p", |c| c.plan.plan_id.as_str()).to_owned();
                let status = if ok { yes() } else { PartialStatus::Expired };
                let name = if other_plan { "stranger" } else { &counts };
                let effects = self.join.partial(&id(), answer(name, AGENTS[agent], round, status));
                self.follow(&effects);
            }
            Happening::Time(seconds) => {
                self.now += seconds;
                for due in self.join.due(at(self.now), 10) {
                    let Due::Overdue(_, effects) = due else { panic!("forgotten within its time") };
                    self.follow(&effects);
                }
            }
            Happening::Review => {
                if self.join.review(&id()).is_none() {
                    self.decide();
                }
            }
            Happening::Restart => {
                let saved = self.join.case(&id()).map(|c| serde_json::to_vec(c).unwrap());
                self.join = join();
                if let Some(saved) = saved {
                    self.join.restore(serde_json::from_slice(&saved).unwrap());
                }
            }
        }
        let (joining, parked, closed) = self.join.phases();
        assert_eq!(joining + parked + closed, self.join.len());
        assert_eq!(self.outcomes as usize, closed, "closed means that there was an outcome");
        assert_eq!(self.join.next_due().is_some(), joining + closed > 0, "every open case has a time");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn never_two_outcomes_and_always_one_in_the_end(
        happenings in prop::collection::vec(happening(), 1..60),
        dice in any::<u64>(),
    ) {
        let mut play = Play { join: join(), now: 0, outcomes: 0, dice, asked: BTreeMap::new() };
        play.happen(&Happening::Plan(true));
        for happening in happenings {
            // Stays within the memory of closed cases.
            if play.now < 500 {
                play.happen(&happening);
            }
        }
        // Time alone brings it to an outcome or to a person, and a person to an outcome.
        for _ in 0..20 {
            play.happen(&Happening::Time(0));
            let due = play.join.next_due().filter(|_| play.join.phases().2 == 0);
            if let Some(due) = due {
                play.now = play.now.max(due.as_millis() / 1000);
            }
            play.happen(&Happening::Review);
        }
        prop_assert!(play.outcomes == 1 || play.join.phases().1 == 1, "neither decided nor parked");
    }
}
