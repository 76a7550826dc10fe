//! Tasks and cases that are sent back from the dead letters.

use super::*;

#[test]
fn an_answer_after_a_failure_counts_while_the_case_is_open() {
    let mut join = two_steps();
    for (status, offset) in [(no(), 1), (PartialStatus::Expired, 2)] {
        let failed = join.partial(&id(), &answer("p", "a", 0, status), place(offset));
        assert_eq!((failed.changed, failed.late), (offset == 1, (offset == 2).then_some(LateReason::Repeated)));
    }
    let mended = answer("p", "a", 0, yes());
    assert_eq!(join.needs(&id(), Event::Partial(&mended), at(1)), Needs::Plan, "the composer looks at it");
    let taken = join.partial(&id(), &mended, place(3));
    assert_eq!((taken.changed, taken.part, taken.late), (true, Some(0), None));
    assert_eq!(join.case(&id()).unwrap().states()[0].answer.unwrap().at, place(3));
    for again in [yes(), no()] {
        let repeated = join.partial(&id(), &answer("p", "a", 0, again), place(4));
        assert_eq!(repeated.late, Some(LateReason::Repeated), "an answer is replaced by nothing");
    }
    let complete = join.partial(&id(), &answer("p", "b", 0, yes()), place(5));
    assert_eq!(complete.compose, Some(vec![]), "nothing is missing");
    let _ = join.decide(&id(), Decision::Close, at(2)).unwrap();
}

#[test]
fn what_waited_for_a_failed_step_is_asked_once() {
    let mut join = planned(join(), &[step("a", &[]), step("b", &["a"])]);
    let ready = join.partial(&id(), &answer("p", "a", 0, no()), place(1));
    assert_eq!(agents(&join, &ready.asks[0]), ["b"]);
    let mended = join.partial(&id(), &answer("p", "a", 0, yes()), place(2));
    assert_eq!((mended.asks.len(), mended.compose), (0, None));
}

#[test]
fn an_answer_after_the_decision_changes_nothing() {
    let mut join = two_steps();
    for (agent, status) in [("a", no()), ("b", yes())] {
        assert!(join.partial(&id(), &answer("p", agent, 0, status), place(1)).changed);
    }
    let late = |join: &mut Join| join.partial(&id(), &answer("p", "a", 0, yes()), place(2)).late;
    let _ = join.decide(&id(), park(), at(1)).unwrap();
    assert_eq!(late(&mut join), Some(LateReason::Parked));
    let _ = join.decide(&id(), Decision::Close, at(2)).unwrap();
    assert_eq!(late(&mut join), Some(LateReason::Closed));
    let _ = saved(&mut join, &id());
    assert_eq!(late(&mut join), Some(LateReason::Closed));
}

/// The same plan once more, of a request that was sent back so often.
fn sent_back(join: &mut Join, redrives: u32) -> Effects {
    let steps = [step("a", &[]), step("b", &[])];
    join.plan_again(&envelope(&id()), &PlanId::new("p"), &steps, place(9), redrives)
}

#[test]
fn a_case_that_ended_as_a_dead_letter_begins_anew_once_for_each_time_it_is_sent_back() {
    let mut join = two_steps();
    assert!(join.partial(&id(), &answer("p", "a", 0, yes()), place(1)).changed);
    assert_eq!(sent_back(&mut join, 1).late, Some(LateReason::Repeated), "it is open");
    join.abandon(&id(), at(1));
    assert_eq!(sent_back(&mut join, 0).late, Some(LateReason::Repeated), "a redelivery");
    // What is remembered of it survives a restart, whole or not.
    let written = saved(&mut join, &id()).unwrap();
    assert_eq!(written, br#"{"phase":"closed","since_ms":1000,"given_up":true}"#);
    let mut join = self::join();
    join.restore("case", Saved::read(&written).unwrap()).unwrap();
    assert_eq!((saved(&mut join, &id()).unwrap(), join.phases()), (written, (0, 0, 1)));
    assert!(sent_back(&mut join, 1).changed);
    assert_eq!((join.phases(), join.next_due()), ((1, 0, 0), Some(at(60))));
    assert_eq!(join.case(&id()).unwrap().states()[0].answer, None, "from the beginning");
    assert_eq!(sent_back(&mut join, 1).late, Some(LateReason::Repeated));
    join.abandon(&id(), at(2));
    assert_eq!(sent_back(&mut join, 1).late, Some(LateReason::Repeated), "a repeat of what began it");
    let written = saved(&mut join, &id()).unwrap();
    assert_eq!(Saved::read(&written).unwrap().given_up(), Some(1));
    assert!(sent_back(&mut join, 2).changed);
    for (agent, offset) in [("a", 11), ("b", 12)] {
        assert!(join.partial(&id(), &answer("p", agent, 0, yes()), place(offset)).changed);
    }
    let _ = join.decide(&id(), Decision::Close, at(3)).unwrap();
    for redrives in [2, 3, 99] {
        assert_eq!(sent_back(&mut join, redrives).late, Some(LateReason::Repeated), "it has its outcome");
        let _ = saved(&mut join, &id());
    }
}

#[test]
fn the_copies_of_a_case_that_begins_anew_are_removed() {
    let mut join = planned(join(), &[step("a", &[]), step("letter", &[Step::OUTCOME])]);
    assert!(join.partial(&id(), &answer("p", "a", 0, yes()), place(1)).changed);
    let _ = join.decide(&id(), park(), at(1)).unwrap();
    assert!(join.keep(&id(), Piece::Plan, place(0)) && join.found("case", Piece::Plan, 7));
    join.abandon(&id(), at(2));
    let whole = saved(&mut join, &id()).unwrap();
    assert!(join.case(&id()).is_some(), "the letter is still to come: {}", String::from_utf8_lossy(&whole));
    assert_eq!(Saved::read(&whole).unwrap().given_up(), Some(0));
    assert!(sent_back(&mut join, 1).changed);
    assert_eq!(join.take_released(), [("case".into(), Piece::Plan)]);
}

#[test]
fn a_failure_from_before_a_case_began_anew_says_nothing_of_it() {
    let mut join = two_steps();
    let (failed, answered) = (answer("p", "a", 0, PartialStatus::Expired), answer("p", "a", 0, yes()));
    assert!(!join.is_of_earlier_life(&id(), &failed, Some(at(-1))), "it never began anew");
    join.abandon(&id(), at(60));
    let steps = [step("a", &[]), step("b", &[])];
    let planned = Envelope { time: at(70), deadline: Some(at(130)), ..envelope(&id()) };
    assert!(join.plan_again(&planned, &PlanId::new("p"), &steps, place(9), 1).changed);
    assert!(join.is_of_earlier_life(&id(), &failed, Some(at(60))));
    assert!(!join.is_of_earlier_life(&id(), &failed, Some(at(130))), "its own");
    assert!(!join.is_of_earlier_life(&id(), &answered, Some(at(60))), "an answer is an answer");
}
