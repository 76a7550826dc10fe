//! Parked cases and people: who counts, who is told what, and when.

use std::collections::BTreeMap;

use anabranch_protocol::NoticeKind;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A case of two steps, both answered, that is parked like this at 2.
fn parked(policy: JoinPolicy, parking: Parking) -> Join {
    let mut join = planned(Join::new(policy), &[step("a", &[]), step("b", &[])]);
    for (agent, offset) in [("a", 1), ("b", 2)] {
        assert!(join.partial(&id(), &answer("p", agent, 0, yes()), place(offset)).changed);
    }
    let _ = join.decide(&id(), Decision::Park(parking), at(2)).unwrap();
    join
}

fn with_times() -> JoinPolicy {
    let parking = ParkingSettings {
        remind_after: Some(HOUR),
        escalate_after: Some(HOUR * 2),
        expire_after: Some(HOUR * 3),
        ..ParkingSettings::default()
    };
    JoinPolicy { parking, ..policy() }
}

fn asking(needs: &[&str]) -> Parking {
    let request = Request {
        needs: needs.iter().map(|name| (*name).to_owned()).collect(),
        asks: vec![("a".into(), "and now?".into())],
        within: Some(HOUR),
    };
    Parking { request: Some(request), ..Parking::default() }
}

fn fields(names: &[&str]) -> BTreeMap<String, ()> {
    names.iter().map(|name| ((*name).to_owned(), ())).collect()
}

/// The same join from what it saved.
fn restarted(join: &mut Join, policy: JoinPolicy) -> Join {
    let written = saved(join, &id()).unwrap();
    let mut restored = Join::new(policy);
    restored.restore("case", Saved::read(&written).unwrap()).unwrap();
    assert_eq!(restored.case(&id()), join.case(&id()), "{}", String::from_utf8_lossy(&written));
    assert_eq!(restored.next_due(), join.next_due());
    restored
}

/// The composer closed the case with this decision.
fn close(join: &mut Join, event: &str, decision: &ReviewDecision, now: i64) {
    let _ = join.decide(&id(), Decision::Close, at(now)).unwrap();
    join.judged(&id(), Judged::new(&EventId::new(event), decision, at(now)));
}

#[test]
fn the_first_of_two_decisions_counts_and_the_other_is_told_also_after_a_restart() {
    let mut join = parked(policy(), Parking::default());
    let (ada, bob) = (says("ada", "approve"), says("bob", "reject"));
    assert_eq!(join.review(&id(), &EventId::new("1"), &ada), None);
    close(&mut join, "1", &ada, 5);
    for _ in 0..2 {
        let told = join.review(&id(), &EventId::new("2"), &bob);
        let expected = Answered::AlreadyDecided { by: "ada".into(), was: "approve".into(), decided_at: at(5) };
        assert_eq!(told, Some(expected));
        for (event, again) in [("1", &ada), ("3", &ada), ("1", &bob)] {
            let told = join.review(&id(), &EventId::new(event), again);
            assert_eq!(told, Some(Answered::Repeat { decided_at: at(5) }), "{event}");
        }
        assert_eq!(join.review(&CorrelationId::new("?"), &EventId::new("1"), &ada), Some(Answered::UnknownCase));
        let written = saved(&mut join, &id()).unwrap();
        assert!(join.case(&id()).is_none() && written.len() < 200, "{}", String::from_utf8_lossy(&written));
        join = restarted(&mut join, policy());
    }
    assert_eq!(join.due(at(605), 9), [Due::Forgotten(id())]);
}

#[test]
fn a_decision_about_an_earlier_parking_is_told_so() {
    let mut join = parked(policy(), Parking::default());
    let about = |parking| ReviewDecision { parking: Some(parking), ..says("bob", "approve") };
    assert_eq!(join.review(&id(), &EventId::new("1"), &about(1)), None);
    assert!(matches!(join.review(&id(), &EventId::new("1"), &about(2)), Some(Answered::Refused { .. })));
    let recheck = says("ada", "recheck");
    let _ = join.decide(&id(), Decision::FollowUp(vec![("a".into(), "?".into())]), at(3)).unwrap();
    join.judged(&id(), Judged::new(&EventId::new("r"), &recheck, at(3)));
    let told = Answered::AlreadyDecided { by: "ada".into(), was: "recheck".into(), decided_at: at(3) };
    assert_eq!(join.review(&id(), &EventId::new("1"), &about(1)), Some(told.clone()), "the round is under way");
    assert!(join.partial(&id(), &answer("p", "a", 1, yes()), place(9)).changed);
    let _ = join.decide(&id(), park(), at(9)).unwrap();
    assert_eq!(join.case(&id()).unwrap().parking(), 2);
    assert_eq!(join.review(&id(), &EventId::new("1"), &about(1)), Some(told), "what bob saw is not so any more");
    assert_eq!(join.review(&id(), &EventId::new("2"), &about(2)), None);
    assert_eq!(join.review(&id(), &EventId::new("r"), &recheck), Some(Answered::Repeat { decided_at: at(3) }));
    assert_eq!(join.review(&id(), &EventId::new("s"), &recheck), None, "another one of the same words counts");
}

#[test]
fn each_bell_rings_once_in_its_time_also_after_a_restart() {
    let policy = with_times();
    let mut join = parked(policy, Parking::default());
    let reminder = Bell::Notice(NoticeKind::Reminder);
    let escalation = Bell::Notice(NoticeKind::Escalation);
    assert_eq!(join.next_due(), Some(at(3602)));
    assert_eq!((join.due(at(3601), 9), join.ring(&id(), at(3601))), (vec![], None));
    assert_eq!(join.needs(&id(), Event::Bell, at(3602)), Needs::Plan);
    assert_eq!(join.due(at(3602), 9), [Due::Bell(id())]);
    assert_eq!(join.ring(&id(), at(3602)), Some(reminder));
    join = restarted(&mut join, policy);
    assert_eq!((join.ring(&id(), at(3602)), join.next_due()), (None, Some(at(7202))));
    assert_eq!(join.case(&id()).unwrap().desk().unwrap().remind, Alarm::Rang(at(3602)));
    // Nobody was there for long: one after the other.
    assert_eq!(join.ring(&id(), at(99_999)), Some(escalation));
    assert_eq!(join.needs(&id(), Event::Bell, at(99_999)), Needs::All);
    assert_eq!(join.ring(&id(), at(99_999)), Some(Bell::Expiry));
    assert_eq!(join.due(at(99_999), 9), [Due::Bell(id())], "until it is decided");
    join.abandon(&id(), at(99_999));
    assert_eq!(join.ring(&id(), at(99_999)), None);
    assert_eq!(join.next_due(), Some(at(99_999 + 600)));
}

#[test]
fn a_case_may_have_times_of_its_own_and_new_ones_each_time_that_it_is_parked() {
    let own = Parking { remind_after: Some(HOUR / 2), codes: vec!["C".into()], ..Parking::default() };
    let mut join = parked(with_times(), own);
    assert_eq!(join.next_due(), Some(at(1802)));
    assert!(join.ring(&id(), at(1802)).is_some());
    join.extend(&id(), at(1900));
    let _ = join.decide(&id(), Decision::FollowUp(vec![("a".into(), "?".into())]), at(1900)).unwrap();
    assert_eq!((join.next_due(), join.case(&id()).unwrap().desk()), (Some(at(1960)), None), "nothing is left of it");
    let _ = join.decide(&id(), park(), at(2000)).unwrap();
    assert_eq!(join.next_due(), Some(at(5600)));
}

#[test]
fn what_was_asked_for_begins_a_round_of_its_own() {
    let policy = JoinPolicy { max_follow_up_rounds: 0, ..policy() };
    let mut join = parked(policy, asking(&["x", "y"]));
    assert_eq!(join.case(&id()).unwrap().standing(), Standing::WaitsForInformation);
    let mut told = |names: &[&str], now| {
        let before = join.case(&id()).cloned();
        let told = join.inform(&id(), &fields(names), Place::review(7, 50), at(now)).unwrap_err();
        assert_eq!(join.case(&id()).cloned(), before, "nothing changed");
        told.to_string()
    };
    assert!(told(&["x"], 3).ends_with("it lacks y"));
    assert!(told(&["x", "y", "z"], 3).ends_with("nobody asked for z"));
    assert!(told(&["x", "y"], 3602).ends_with("the time for it is over: a person decides"));
    join = restarted(&mut join, policy);
    assert_eq!(join.needs(&id(), Event::Information, at(3)), Needs::All);
    let effects = join.inform(&id(), &fields(&["x", "y"]), Place::review(7, 50), at(100)).unwrap();
    assert_eq!(asked(&join, &effects.asks[0]), [("a".to_owned(), 1, Some("and now?".to_owned()))]);
    assert_eq!(join.next_due(), Some(at(160)), "it has time again");
    let case = join.case(&id()).unwrap();
    assert!(case.places().any(|(piece, at)| (piece, at) == (Piece::Information(0), Place::review(7, 50))));
    let again = join.inform(&id(), &fields(&["x", "y"]), Place::review(8, 50), at(101));
    assert_eq!(again, Err(Answered::NotParked { case: Standing::Joining }));
    let done = join.partial(&id(), &answer("p", "a", 1, yes()), place(9));
    assert_eq!(done.compose, Some(vec![]));
    let ask = Decision::FollowUp(vec![("a".into(), "?".into())]);
    assert_eq!(join.decide(&id(), ask, at(102)), Err(DecisionError::TooManyRounds(2)), "only that of the information");
    // Parked again, the information is kept like the answers, and let go with them.
    let _ = join.decide(&id(), park(), at(103)).unwrap();
    assert!(join.keep(&id(), Piece::Information(0), Place::review(7, 50)));
    let mut join = restarted(&mut join, policy);
    assert!(join.found("case", Piece::Information(0), 70));
    close(&mut join, "1", &says("ada", "approve"), 104);
    let _ = saved(&mut join, &id());
    assert_eq!(join.take_released(), [("case".into(), Piece::Information(0))]);
}

#[test]
fn what_was_asked_for_is_not_waited_for_longer_than_its_time_and_not_asked_for_without_end() {
    let mut join = parked(policy(), asking(&["x"]));
    assert_eq!(join.next_due(), Some(at(3602)));
    assert_eq!(join.ring(&id(), at(3602)), Some(Bell::Notice(NoticeKind::InformationOverdue)));
    assert_eq!((join.case(&id()).unwrap().standing(), join.next_due()), (Standing::Parked, None));
    assert!(join.inform(&id(), &fields(&["x"]), Place::review(7, 50), at(3603)).is_err());
    assert_eq!(review(&join), None, "a person decides");
    let ask = |needs: &[&str]| Decision::Park(asking(needs));
    assert!(join.decide(&id(), ask(&["x"]), at(3604)).is_ok());
    let before = join.case(&id()).cloned();
    assert_eq!(join.decide(&id(), ask(&["x"]), at(3605)), Err(DecisionError::TooManyRequests(3)));
    assert_eq!(join.case(&id()).cloned(), before);
    let mut fresh = parked(policy(), Parking::default());
    assert_eq!(fresh.decide(&id(), ask(&[]), at(3)), Err(DecisionError::Empty));
    let stranger = Request { needs: vec!["x".into()], asks: vec![("z".into(), "?".into())], within: None };
    let stranger = Decision::Park(Parking { request: Some(stranger), ..Parking::default() });
    assert_eq!(fresh.decide(&id(), stranger, at(3)), Err(DecisionError::NoSuchStep("z".into())));
    let nothing = fresh.inform(&id(), &fields(&["x"]), Place::review(7, 50), at(3)).unwrap_err();
    assert!(nothing.to_string().ends_with("nothing was asked for"));
}

#[test]
fn a_decision_without_a_reviewer_or_a_word_can_never_count() {
    assert_eq!(unfit(&says("ada", "approve")), None);
    assert_eq!(unfit(&says(" ", "approve")).unwrap(), "it names no reviewer");
    assert_eq!(unfit(&says("ada", "")).unwrap(), "it names no decision");
    assert!(unfit(&says(&"a".repeat(257), "approve")).unwrap().contains("longer than 256 bytes"));
}
