//! When the composer may decide.

use super::*;

fn optional(agent: &str) -> Step {
    Step { required: false, ..step(agent, &[]) }
}

fn waiting_for(wait_for: WaitFor, steps: &[Step]) -> Join {
    planned(Join::new(JoinPolicy { wait_for, ..policy() }), steps)
}

/// Takes answers in until the composer is to decide; who was missing then.
fn decided_after(join: &mut Join, answers: &[(&str, PartialStatus)]) -> Option<(usize, Vec<(String, WhyMissing)>)> {
    for (count, (agent, status)) in answers.iter().enumerate() {
        let effects = join.partial(&id(), &answer("p", agent, 0, status.clone()), place(1));
        assert!(effects.changed, "{agent}");
        if let Some(missing) = effects.compose {
            return Some((count + 1, missing.into_iter().map(|m| (m.agent, m.why)).collect()));
        }
    }
    None
}

#[test]
fn required_waits_for_no_optional_step() {
    let steps = || vec![step("a", &[]), optional("b"), step("c", &[])];
    let mut join = waiting_for(WaitFor::Required, &steps());
    let decided = decided_after(&mut join, &[("a", yes()), ("c", no())]).unwrap();
    let missing = [("b".to_owned(), WhyMissing::NotWaitedFor), ("c".to_owned(), WhyMissing::Failed)];
    assert_eq!(decided, (2, missing.to_vec()));
    let _ = join.decide(&id(), Decision::Close, at(1)).unwrap();
    let late = join.partial(&id(), &answer("p", "b", 0, yes()), place(2));
    assert_eq!(late.late, Some(LateReason::Closed), "what comes after the decision is late");
    // Without a required step there is nothing to go by: all are waited for.
    let mut join = waiting_for(WaitFor::Required, &[optional("a"), optional("b")]);
    assert_eq!(decided_after(&mut join, &[("a", yes()), ("b", yes())]), Some((2, vec![])));
}

#[test]
fn what_a_round_asks_is_waited_for_whatever_the_policy() {
    let mut join = waiting_for(WaitFor::Required, &[step("a", &[]), optional("b"), optional("c")]);
    assert!(decided_after(&mut join, &[("a", yes())]).is_some());
    let ask = Decision::FollowUp(vec![("b".into(), "?".into())]);
    let _ = join.decide(&id(), ask, at(1)).unwrap();
    let straggler = join.partial(&id(), &answer("p", "c", 0, yes()), place(2));
    assert_eq!((straggler.changed, straggler.compose), (true, None), "b was asked to be heard");
    let asked = join.partial(&id(), &answer("p", "b", 1, yes()), place(3));
    assert_eq!(asked.compose, Some(vec![]));
}

#[test]
fn a_quorum_needs_answers_and_the_required_ones_among_them() {
    let steps = || vec![step("a", &[]), optional("b"), optional("c"), optional("d")];
    let quorum = |n| waiting_for(WaitFor::Quorum(n), &steps());
    let mut join = quorum(2);
    assert_eq!(decided_after(&mut join, &[("b", yes()), ("c", yes())]), None, "without a");
    let (_, missing) = decided_after(&mut join, &[("a", yes())]).unwrap();
    assert_eq!(missing, [("d".to_owned(), WhyMissing::NotWaitedFor)]);
    let mut join = quorum(2);
    assert_eq!(decided_after(&mut join, &[("a", yes()), ("b", no()), ("c", yes())]).unwrap().0, 3, "b gave no answer");
    // Out of reach: all are waited for, and then there is a decision after all.
    let mut join = quorum(3);
    let answers = [("a", yes()), ("b", no()), ("c", no()), ("d", yes())];
    assert_eq!(decided_after(&mut join, &answers).unwrap().0, 4);
    let mut join = quorum(1);
    let answers = [("a", no()), ("b", yes()), ("c", yes()), ("d", yes())];
    assert_eq!(decided_after(&mut join, &answers).unwrap().0, 4, "the required one failed");
    let mut join = quorum(9);
    let answers = [("a", yes()), ("b", yes()), ("c", yes()), ("d", yes())];
    assert_eq!(decided_after(&mut join, &answers), Some((4, vec![])), "more than there are steps");
}

#[test]
fn a_deadline_can_end_in_a_dead_letter_that_names_what_is_missing() {
    let dead_letter =
        JoinPolicy { when_deadline_passes: WhenDeadlinePasses::DeadLetter, wait_for: WaitFor::Required, ..policy() };
    let mut join = planned(Join::new(dead_letter), &[step("a", &[]), step("b", &[]), optional("c")]);
    assert!(join.partial(&id(), &answer("p", "a", 0, yes()), place(1)).changed);
    let effects = join.overdue(&id(), at(60));
    let missing: Vec<String> = effects.give_up.unwrap().into_iter().map(|m| m.agent).collect();
    assert_eq!((missing.join(" "), effects.compose), ("b c".to_owned(), None));
    join.abandon(&id(), at(60));
    assert_eq!(join.phases(), (0, 0, 1));
    assert_eq!(join.partial(&id(), &answer("p", "b", 0, yes()), place(2)).late, Some(LateReason::Closed));
    // A policy that was loosened meanwhile: what it waits for is in.
    let mut join = two_steps();
    assert!(join.partial(&id(), &answer("p", "a", 0, yes()), place(1)).changed);
    let written = saved(&mut join, &id()).unwrap();
    let mut loosened = Join::new(JoinPolicy { wait_for: WaitFor::Quorum(1), ..dead_letter });
    loosened.restore("case", Saved::read(&written).unwrap()).unwrap();
    assert!(loosened.overdue(&id(), at(60)).give_up.is_some(), "b is required");
}
