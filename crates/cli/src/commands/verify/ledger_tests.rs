use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn place(topic: &str, offset: i64) -> Place {
    Place { topic: topic.to_owned(), partition: 0, offset }
}

fn seen(case: &str, role: Role, place: Place, id: &str) -> Seen {
    let (case, id, time) = (CorrelationId::new(case), EventId::new(id), Timestamp::from_millis(1_500));
    Seen { case, role, place, id, time }
}

fn outcome(case: &str, topic: &str, offset: i64) -> Seen {
    seen(case, Role::Outcome, place(topic, offset), &format!("{topic}-{offset}"))
}

fn dead(case: &str, origin: i64, offset: i64) -> Seen {
    seen(case, Role::DeadLetter(place("requests", origin)), place("requests.dlq", offset), "as-the-request")
}

fn ledger(acknowledged: &[&str]) -> Ledger {
    let mut ledger = Ledger::default();
    for case in acknowledged {
        ledger.sending(CorrelationId::new(*case), false, Timestamp::from_millis(1_000));
        ledger.sent(&CorrelationId::new(*case), Sending::Acknowledged);
    }
    ledger
}

#[test]
fn one_end_each_is_what_was_promised() {
    let mut ledger = ledger(&["a", "b", "c"]);
    assert_eq!(ledger.lost(), Some(Violation::Lost { case: CorrelationId::new("a") }));
    assert_eq!(ledger.take(outcome("a", "decisions", 0)), None);
    assert_eq!(ledger.take(outcome("b", "cases", 0)), None);
    assert_eq!(ledger.take(dead("c", 2, 0)), None);
    assert_eq!((ledger.lost(), ledger.open()), (None, 0));
    let counts = ledger.counts();
    assert_eq!((counts.acknowledged, counts.dead_letters), (3, 1));
    assert_eq!(counts.outcomes, [("cases".to_owned(), 1), ("decisions".to_owned(), 1)].into());
    assert_eq!(ledger.latencies(), [500, 500]);
}

#[test]
fn two_ends_of_any_kind_are_one_too_many() {
    let ends: [(Seen, Seen); 4] = [
        (outcome("a", "decisions", 3), outcome("a", "decisions", 7)),
        (outcome("a", "decisions", 3), outcome("a", "cases", 3)),
        (outcome("a", "decisions", 3), dead("a", 0, 0)),
        (dead("a", 0, 0), dead("a", 1, 1)),
    ];
    for (first, second) in ends {
        let mut ledger = ledger(&["a"]);
        let at = vec![first.place.clone(), second.place.clone()];
        assert_eq!(ledger.take(first), None);
        assert_eq!(ledger.take(second), Some(Violation::Twice { case: CorrelationId::new("a"), at }));
    }
}

#[test]
fn a_second_outcome_counts_whether_its_id_is_the_same_or_not() {
    for ids in [("x", "x"), ("x", "y")] {
        let mut ledger = ledger(&["a"]);
        ledger.take(seen("a", Role::Outcome, place("decisions", 1), ids.0));
        let second = ledger.take(seen("a", Role::Outcome, place("decisions", 2), ids.1));
        assert!(matches!(second, Some(Violation::Twice { .. })), "{ids:?}: {second:?}");
    }
}

#[test]
fn what_else_leaves_may_be_more_than_one_record_but_none_of_it_twice() {
    let mut ledger = ledger(&["a"]);
    assert_eq!(ledger.take(seen("a", Role::Other, place("alerts", 0), "x")), None);
    assert_eq!(ledger.take(seen("a", Role::Other, place("alerts", 1), "y")), None);
    assert_eq!(ledger.take(seen("a", Role::Other, place("messages", 0), "x")), None, "another topic");
    assert_eq!(ledger.open(), 1, "no end yet");
    let (case, id, at) = (CorrelationId::new("a"), EventId::new("x"), vec![place("alerts", 0), place("alerts", 2)]);
    let repeated = ledger.take(seen("a", Role::Other, place("alerts", 2), "x"));
    assert_eq!(repeated, Some(Violation::Repeated { case, id, at }));
}

#[test]
fn what_was_never_sent_has_no_end() {
    let mut ledger = ledger(&["a"]);
    let stranger = |at| Some(Violation::Stranger { case: CorrelationId::new("z"), at: vec![at] });
    assert_eq!(ledger.take(outcome("z", "decisions", 0)), stranger(place("decisions", 0)));
    assert_eq!(ledger.take(dead("z", 0, 4)), stranger(place("requests.dlq", 4)));
    assert_eq!(ledger.counts().outcomes, BTreeMap::new());
}

#[test]
fn a_record_that_is_read_again_is_the_same_record() {
    let mut ledger = ledger(&["a", "b"]);
    for _ in 0..2 {
        assert_eq!(ledger.take(outcome("a", "decisions", 0)), None);
        assert_eq!(ledger.take(dead("b", 0, 0)), None);
    }
    assert_eq!(ledger.counts().dead_letters_repeated, 0);
    assert_eq!(ledger.take(dead("b", 0, 1)), None, "the same dead letter, written again after a crash");
    assert_eq!(ledger.counts().dead_letters_repeated, 1);
}

#[test]
fn what_is_in_doubt_may_have_an_outcome_and_need_not() {
    let mut ledger = ledger(&[]);
    for case in ["a", "b"] {
        ledger.sending(CorrelationId::new(case), false, Timestamp::from_millis(0));
        ledger.sent(&CorrelationId::new(case), Sending::InDoubt);
    }
    assert_eq!(ledger.take(outcome("a", "decisions", 0)), None);
    assert_eq!(ledger.lost(), None);
    assert!(matches!(ledger.take(outcome("a", "decisions", 1)), Some(Violation::Twice { .. })), "but not two");
    assert_eq!((ledger.counts().in_doubt, ledger.counts().acknowledged), (2, 0));
}

#[test]
fn an_outcome_may_be_read_before_the_acknowledgement() {
    let mut ledger = Ledger::default();
    let a = CorrelationId::new("a");
    ledger.sending(a.clone(), true, Timestamp::from_millis(0));
    assert_eq!(ledger.take(outcome("a", "decisions", 0)), None);
    ledger.sent(&a, Sending::Acknowledged);
    assert_eq!((ledger.open(), ledger.lost(), ledger.counts().fresh), (0, None, 1));
}

/// What happens to one of eight cases.
#[derive(Debug, Clone)]
enum Step {
    Ack(usize),
    Doubt(usize),
    Outcome(usize, i64),
    Dead(usize, i64),
}

fn step() -> impl Strategy<Value = Step> {
    // Few offsets, so that records are read again.
    prop_oneof![
        3 => (0..8usize).prop_map(Step::Ack),
        1 => (0..8usize).prop_map(Step::Doubt),
        4 => (0..8usize, 0..3i64).prop_map(|(case, offset)| Step::Outcome(case, offset)),
        1 => (0..8usize, 0..2i64).prop_map(|(case, offset)| Step::Dead(case, offset)),
    ]
}

fn name(case: usize) -> String {
    format!("case-{case}")
}

/// The cases of which anything was said to be wrong, and those that are lost at the end.
fn judge(steps: &[Step]) -> (BTreeSet<String>, BTreeSet<String>, usize) {
    let mut ledger = Ledger::default();
    for case in 0..6 {
        ledger.sending(CorrelationId::new(name(case)), false, Timestamp::from_millis(0));
    }
    let mut wrong = BTreeSet::new();
    for step in steps {
        let violation = match *step {
            Step::Ack(case) => {
                ledger.sent(&CorrelationId::new(name(case)), Sending::Acknowledged);
                None
            }
            Step::Doubt(case) => {
                ledger.sent(&CorrelationId::new(name(case)), Sending::InDoubt);
                None
            }
            Step::Outcome(case, offset) => ledger.take(outcome(&name(case), &format!("out-{case}"), offset)),
            Step::Dead(case, offset) => ledger.take(dead(&name(case), offset, offset)),
        };
        wrong.extend(violation.and_then(|v| v.case().map(ToString::to_string)));
    }
    let open = ledger.cases.iter().filter(|(_, c)| c.sending == Sending::Acknowledged && c.ends() == 0);
    (wrong, open.map(|(id, _)| id.to_string()).collect(), ledger.open())
}

proptest! {
    #[test]
    fn the_ledger_says_what_counting_by_hand_says(steps in prop::collection::vec(step(), 0..60)) {
        let (wrong, open, count) = judge(&steps);
        for case in 0..8 {
            let mut ends = BTreeSet::new();
            let mut acknowledged = false;
            for step in &steps {
                match *step {
                    Step::Outcome(c, offset) if c == case => drop(ends.insert(("out", offset))),
                    Step::Dead(c, offset) if c == case => drop(ends.insert(("dead", offset))),
                    Step::Ack(c) if c == case => acknowledged = true,
                    Step::Doubt(c) if c == case => acknowledged = false,
                    _ => {}
                }
            }
            let never_sent = case >= 6;
            let is_wrong = ends.len() > 1 || (never_sent && !ends.is_empty());
            prop_assert_eq!(wrong.contains(&name(case)), is_wrong, "{}", name(case));
            prop_assert_eq!(open.contains(&name(case)), acknowledged && !never_sent && ends.is_empty());
        }
        prop_assert_eq!(open.len(), count);
    }

    #[test]
    fn the_order_in_which_topics_are_read_changes_no_verdict(
        steps in prop::collection::vec(step(), 1..40), swaps in prop::collection::vec(any::<(Index, Index)>(), 0..40),
    ) {
        // Acknowledging and doubting the same case is in order; so only records change places.
        let records: Vec<usize> = (0..steps.len()).filter(|i| matches!(steps[*i], Step::Outcome(..) | Step::Dead(..))).collect();
        let mut mixed = steps.clone();
        if !records.is_empty() {
            for (a, b) in swaps {
                mixed.swap(*a.get(&records), *b.get(&records));
            }
        }
        prop_assert_eq!(judge(&steps), judge(&mixed));
    }
}
