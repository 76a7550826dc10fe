//! Events one by one.

use anabranch_protocol::FollowUpKind;

use super::*;

#[test]
fn composes_once_all_have_answered() {
    let mut join = two_steps();
    let first = join.partial(&id(), &answer("p", "a", 0, yes()), place(1));
    assert_eq!((first.part, &first.compose), (Some(0), &None));
    let second = join.partial(&id(), &answer("p", "b", 0, yes()), place(2));
    assert_eq!(second.compose, Some(vec![]));
    let places: Vec<(Piece, Place)> = join.case(&id()).unwrap().places().collect();
    assert_eq!(
        places,
        [(Piece::Plan, place(0)), (Piece::Answer(0), place(1)), (Piece::Answer(1), place(2))],
        "the payloads stay where they are"
    );
    let decided = join.decide(&id(), Decision::Close, at(2)).unwrap();
    assert!(decided.changed && decided.asks.is_empty());
    assert_eq!(join.phases(), (0, 0, 1));
}

#[test]
fn a_failed_part_counts_as_missing_and_says_why() {
    let mut join = two_steps();
    let failed = join.partial(&id(), &answer("p", "a", 0, no()), place(1));
    assert_eq!(failed.part, None, "a failure is no part to look at");
    let missing = join.partial(&id(), &answer("p", "b", 0, PartialStatus::Expired), place(2)).compose.unwrap();
    let why: Vec<(&str, WhyMissing)> = missing.iter().map(|m| (m.agent.as_str(), m.why)).collect();
    assert_eq!(why, [("a", WhyMissing::Failed), ("b", WhyMissing::Late)]);
}

#[test]
fn what_comes_too_late_changes_nothing_and_says_why() {
    let mut join = two_steps();
    let late = |join: &mut Join, partial: Partial| {
        assert_eq!(join.needs(&id(), Event::Partial(&partial), at(1)), Needs::Nothing);
        let effects = join.partial(&id(), &partial, place(9));
        assert!(!effects.changed && effects.compose.is_none());
        effects.late
    };
    let stranger = join.partial(&CorrelationId::new("?"), &answer("p", "a", 0, yes()), place(9));
    assert_eq!(stranger.late, Some(LateReason::UnknownCase));
    assert_eq!(late(&mut join, answer("other", "a", 0, yes())), Some(LateReason::OtherPlan));
    assert_eq!(late(&mut join, answer("p", "c", 0, yes())), Some(LateReason::NotAsked));
    assert_eq!(late(&mut join, answer("p", "a", 1, yes())), Some(LateReason::NotAsked), "a round nobody asked for");
    assert!(join.partial(&id(), &answer("p", "a", 0, yes()), place(1)).changed);
    assert_eq!(late(&mut join, answer("p", "a", 0, yes())), Some(LateReason::Repeated));
    assert_eq!(review(&join), Some(Answered::NotParked { case: Standing::Joining }));
    let _ = join.decide(&id(), Decision::Close, at(2)).unwrap();
    for _ in 0..2 {
        assert_eq!(late(&mut join, answer("p", "b", 0, yes())), Some(LateReason::Closed));
        assert_eq!(review(&join), Some(Answered::NotParked { case: Standing::Closed }));
        let again = open(&mut join, "q", &[step("a", &[])], 9);
        assert_eq!((again.late, again.changed), (Some(LateReason::Repeated), false));
        // Saved, it is no more than a time; what comes is answered as before.
        assert_eq!(saved(&mut join, &id()).unwrap(), br#"{"phase":"closed","since_ms":2000}"#);
    }
}

#[test]
fn the_first_plan_counts_and_its_tasks_are_asked_for_again() {
    let mut join = two_steps();
    assert!(join.partial(&id(), &answer("p", "a", 0, yes()), place(1)).changed);
    let same = open(&mut join, "p", &[step("a", &[]), step("b", &[])], 2);
    assert_eq!((same.late, same.asks.len()), (Some(LateReason::Repeated), 0));
    assert_eq!(join.needs(&id(), Event::Plan(&PlanId::new("p")), at(1)), Needs::Nothing);
    assert_eq!(join.needs(&id(), Event::Plan(&PlanId::new("q")), at(1)), Needs::All);
    let other = open(&mut join, "q", &[step("a", &[])], 3);
    assert_eq!(other.late, Some(LateReason::OtherPlan));
    assert_eq!(other.asks[0].kind, FollowUpKind::Replan);
    assert_eq!(agents(&join, &other.asks[0]), ["b"], "only what has not answered");
    assert_eq!(join.case(&id()).unwrap().plan_id, PlanId::new("p"));
}

#[test]
fn a_step_runs_once_what_it_waits_for_is_in() {
    let mut join = planned(join(), &[step("a", &[]), step("b", &["a"]), step("c", &["b", "a"])]);
    let a = answer("p", "a", 0, yes());
    assert_eq!(join.needs(&id(), Event::Partial(&a), at(1)), Needs::All, "b's task shows what a said");
    let ready = join.partial(&id(), &a, place(1));
    assert_eq!(ready.asks[0].kind, FollowUpKind::StepReady);
    assert_eq!(agents(&join, &ready.asks[0]), ["b"]);
    // One that failed does not hold up what waits for it.
    let next = join.partial(&id(), &answer("p", "b", 0, PartialStatus::Expired), place(2));
    assert_eq!(agents(&join, &next.asks[0]), ["c"]);
    assert_eq!(next.compose, None);
}

#[test]
fn what_is_needed_is_what_is_shown() {
    let mut join = two_steps();
    let (a, b) = (answer("p", "a", 0, yes()), answer("p", "b", 0, no()));
    let before = join.case(&id()).cloned();
    assert_eq!(join.needs(&id(), Event::Partial(&a), at(1)), Needs::Plan, "the composer looks at the part");
    assert_eq!(join.needs(&id(), Event::Partial(&b), at(1)), Needs::Nothing, "a failure is not looked at");
    assert_eq!(join.needs(&id(), Event::Overdue, at(59)), Needs::Nothing);
    assert_eq!(join.needs(&id(), Event::Overdue, at(60)), Needs::All);
    assert_eq!(join.needs(&id(), Event::Review, at(1)), Needs::Nothing);
    assert_eq!(join.case(&id()).cloned(), before, "asking changes nothing");
    assert!(join.partial(&id(), &a, place(1)).changed);
    assert_eq!(join.needs(&id(), Event::Partial(&b), at(1)), Needs::All, "with it the case is complete");
    let _ = join.decide(&id(), park(), at(2)).unwrap();
    assert_eq!(join.needs(&id(), Event::Review, at(1)), Needs::All);
}

#[test]
fn a_round_asks_again_and_only_its_answer_counts() {
    let mut join = two_steps();
    for (agent, offset) in [("a", 1), ("b", 2)] {
        assert!(join.partial(&id(), &answer("p", agent, 0, yes()), place(offset)).changed);
    }
    let ask = Decision::FollowUp(vec![("a".into(), "really?".into()), ("a".into(), "sure?".into())]);
    let round = join.decide(&id(), ask, at(3)).unwrap();
    assert_eq!(asked(&join, &round.asks[0]), [("a".to_owned(), 1, Some("sure?".to_owned()))], "one task in a round");
    let late = join.partial(&id(), &answer("p", "a", 0, yes()), place(3));
    assert_eq!(late.late, Some(LateReason::Superseded));
    let done = join.partial(&id(), &answer("p", "a", 1, yes()), place(4));
    assert_eq!(done.compose, Some(vec![]));
    let case = join.case(&id()).unwrap();
    assert_eq!((case.round, case.states()[0].answer.unwrap().at), (1, place(4)));
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
    assert!(join.partial(&id(), &answer("p", "a", 0, yes()), place(1)).changed);
    assert_eq!(join.next_due(), Some(at(60)));
    assert_eq!(join.due(at(59), 10), []);
    assert_eq!(join.due(at(60), 10), [Due::Overdue(id())]);
    assert_eq!(join.overdue(&id(), at(60)).compose.unwrap()[0].agent, "b");
    let _ = join.decide(&id(), park(), at(60)).unwrap();
    assert_eq!(join.next_due(), None, "a parked case waits for days");
    assert_eq!(join.overdue(&id(), at(61)), Effects::default(), "decided meanwhile");
    assert_eq!(join.partial(&id(), &answer("p", "b", 0, yes()), place(2)).late, Some(LateReason::Parked));
    assert_eq!(review(&join), None);
    let _ = join.decide(&id(), Decision::Close, at(100_000)).unwrap();
    let _ = saved(&mut join, &id());
    assert_eq!(join.phases(), (0, 0, 1));
    assert_eq!(join.due(at(100_600), 10), [Due::Forgotten(id())]);
    assert!(join.is_empty() && join.phases() == (0, 0, 0) && join.next_due().is_none());
}

#[test]
fn steps_after_the_outcome_are_asked_each_time_there_is_one_and_have_no_vote() {
    let mut join = planned(join(), &[step("a", &[]), step("letter", &[Step::OUTCOME])]);
    let complete = join.partial(&id(), &answer("p", "a", 0, yes()), place(1));
    assert_eq!(complete.compose, Some(vec![]), "letter is not waited for");
    let parked = join.decide(&id(), park(), at(2)).unwrap();
    assert_eq!(asked(&join, &parked.asks[0]), [("letter".to_owned(), 0, None)]);
    let told = join.partial(&id(), &answer("p", "letter", 0, yes()), place(2));
    assert_eq!((told.part, told.late), (Some(1), None), "also of a parked case");
    let closed = join.decide(&id(), Decision::Close, at(9)).unwrap();
    assert_eq!(closed.asks[0].tasks[0].round, 1, "a second outcome is a second task");
    let whole = saved(&mut join, &id()).unwrap();
    assert!(join.case(&id()).is_some(), "an answer is outstanding: {}", String::from_utf8_lossy(&whole));
    assert_eq!(join.partial(&id(), &answer("p", "letter", 1, yes()), place(3)).part, Some(1));
    assert!(saved(&mut join, &id()).unwrap().len() < 50);
}

#[test]
fn a_parked_case_refers_to_copies_until_it_is_over() {
    let mut join = two_steps();
    for (agent, offset) in [("a", 1), ("b", 2)] {
        assert!(join.partial(&id(), &answer("p", agent, 0, yes()), place(offset)).changed);
    }
    let _ = join.decide(&id(), park(), at(2)).unwrap();
    assert!(!join.keep(&id(), Piece::Answer(0), place(7)), "it does not lie there");
    for (piece, offset) in [(Piece::Plan, 0), (Piece::Answer(0), 1), (Piece::Answer(1), 2)] {
        assert!(join.keep(&id(), piece, place(offset)));
        assert!(!join.keep(&id(), piece, place(offset)), "once is enough");
    }
    let written = saved(&mut join, &id()).unwrap();
    for (piece, offset) in [(Piece::Plan, 10), (Piece::Answer(0), 11), (Piece::Answer(1), 12)] {
        assert!(join.found("case", piece, offset));
    }
    let mut restored = self::join();
    restored.restore("case", Saved::read(&written).unwrap()).unwrap();
    let unknown = restored.case(&id()).unwrap().places().all(|(_, p)| p.offset == Place::UNKNOWN);
    assert!(unknown, "the copies' own records tell where they are");
    for (piece, offset) in [(Piece::Plan, 10), (Piece::Answer(0), 11), (Piece::Answer(1), 12)] {
        assert!(restored.found("case", piece, offset));
    }
    assert_eq!(restored.case(&id()), join.case(&id()));

    let ask = Decision::FollowUp(vec![("a".into(), "?".into())]);
    join.extend(&id(), at(3));
    let _ = join.decide(&id(), ask, at(3)).unwrap();
    assert!(join.partial(&id(), &answer("p", "a", 1, yes()), place(9)).changed);
    assert_eq!(join.take_released(), [("case".into(), Piece::Answer(0))], "nothing refers to the first answer");
    let _ = join.decide(&id(), Decision::Close, at(4)).unwrap();
    let _ = saved(&mut join, &id());
    assert_eq!(join.take_released(), [("case".into(), Piece::Plan), ("case".into(), Piece::Answer(1))]);
}

#[test]
fn a_restored_case_is_the_same_case() {
    let mut join = two_steps();
    assert!(join.partial(&id(), &answer("p", "a", 0, yes()), place(1)).changed);
    assert_eq!((join.next_place(&id(), "t", "k"), join.next_place(&id(), "t", "k")), (0, 1));
    let written = saved(&mut join, &id()).unwrap();
    assert!(written.len() < 300, "{}", String::from_utf8_lossy(&written));
    let mut restored = self::join();
    restored.restore("case", Saved::read(&written).unwrap()).unwrap();
    assert_eq!(restored.case(&id()), join.case(&id()));
    assert_eq!((restored.next_due(), restored.phases()), (join.next_due(), join.phases()));
    assert_eq!(restored.next_place(&id(), "t", "k"), 2);
    assert_eq!(restored.partial(&id(), &answer("p", "b", 0, yes()), place(2)).compose, Some(vec![]));
    restored.drop_case("case");
    assert!(restored.is_empty() && restored.next_due().is_none() && restored.phases() == (0, 0, 0));
}

#[test]
fn a_state_record_reads_as_plain_json_and_a_broken_one_is_refused() {
    let mut join = planned(join(), &[step("a", &[]), step("letter", &[Step::OUTCOME])]);
    assert!(join.partial(&id(), &answer("p", "a", 0, yes()), place(17)).changed);
    let _ = join.decide(&id(), Decision::Park(Parking { reason: "low".into(), ..Parking::default() }), at(5)).unwrap();
    let written = String::from_utf8(saved(&mut join, &id()).unwrap()).unwrap();
    assert_eq!(
        written,
        concat!(
            r#"{"phase":"parked","since_ms":5000,"reason":"low","plan_id":"p","plan":{"offset":0,"bytes":100},"#,
            r#""opened_ms":0,"deadline_ms":60000,"outcomes":1,"steps":["#,
            r#"{"agent":"a","asked":0,"answered":0,"how":"completed","offset":17,"bytes":100},"#,
            r#"{"agent":"letter","after":["outcome"],"asked":0}]}"#
        )
    );
    let mut other = self::join();
    for (from, to) in [
        (r#""since_ms":5000,"#, ""),
        (r#""plan":{"offset":0,"bytes":100},"#, ""),
        (r#""how":"completed","#, ""),
        (r#""deadline_ms":60000,"#, ""),
        (r#""agent":"letter""#, r#""agent":"a""#),
    ] {
        let broken = written.replace(from, to);
        assert_ne!(broken, written);
        let refused = other.restore("case", Saved::read(broken.as_bytes()).unwrap());
        assert!(refused.is_err() && other.is_empty(), "{broken}");
    }
    assert!(Saved::read(b"{").is_err() && Saved::read(b"{}").is_err());
}
