//! What the machine does, step by step.

use super::{Asked, Failure, Last, Machine, Over, Producer, Request, Sight, Verdict, Version};
use crate::group::TopicPartition;

const ONE: Producer = Producer { id: 7, epoch: 1 };
const TWO: Producer = Producer { id: 7, epoch: 2 };

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn code(code: i16) -> Failure {
    Failure { code: Some(code), may_have_happened: false }
}

const LOST: Failure = Failure { code: None, may_have_happened: true };
const NOT_SENT: Failure = Failure { code: None, may_have_happened: false };

fn ready() -> Machine {
    let mut machine = Machine::new();
    assert_eq!(machine.next_request(), Some(Request::Init(None)));
    machine.initialised(Ok(ONE));
    assert!(machine.is_idle());
    machine
}

/// With a transaction in which one batch was acknowledged.
fn written(version: Version) -> Machine {
    let mut machine = ready();
    assert!(machine.begin(version));
    machine.launch();
    let to_add = machine.to_add([tp(0)]);
    assert_eq!(to_add.len(), usize::from(version == Version::One));
    machine.added(to_add);
    assert_eq!(machine.sequence(&tp(0), 3), 0);
    machine.delivered(&tp(0), 40);
    machine.landed();
    machine
}

#[test]
fn a_commit_is_asked_for_until_it_is_answered() {
    let mut machine = written(Version::One);
    machine.end(true);
    let end = Some(Request::End { producer: ONE, commit: true });
    for failure in [NOT_SENT, code(14), code(14)] {
        assert_eq!((machine.next_request(), machine.last()), (end, Last::Pending));
        machine.ended(Err(failure));
    }
    machine.ended(Ok(None));
    assert_eq!(machine.last(), Last::Committed);
    assert!(!machine.begin(Version::One), "not before the caller has heard");
    assert_eq!(machine.hear(), Last::Committed);
    assert!(machine.begin(Version::One));
    assert_eq!(machine.sequence(&tp(0), 1), 3, "sequences go on within an epoch");
}

#[test]
fn after_an_unclear_end_the_epoch_is_raised_under_version_one() {
    for unclear in [LOST, code(51), code(15), code(16), code(7), code(-1)] {
        let mut machine = written(Version::One);
        machine.end(true);
        machine.ended(Err(unclear));
        machine.ended(Ok(None));
        assert_eq!((machine.hear(), machine.next_request()), (Last::Committed, Some(Request::Init(Some(ONE)))));
        assert!(!machine.begin(Version::One));
        machine.initialised(Ok(TWO));
        assert!(machine.begin(Version::One));
        assert_eq!(machine.sequence(&tp(0), 1), 0, "sequences start anew with an epoch");
    }
}

#[test]
fn version_two_brings_the_next_epoch_with_the_end() {
    let mut machine = written(Version::Two);
    machine.end(false);
    machine.ended(Err(LOST));
    assert_eq!(machine.next_request(), Some(Request::End { producer: ONE, commit: false }), "the same again");
    machine.ended(Ok(Some(TWO)));
    assert_eq!((machine.last(), machine.producer()), (Last::Nothing, Some(TWO)));
    assert!(machine.begin(Version::Two));
    assert_eq!(machine.sequence(&tp(0), 1), 0);
}

#[test]
fn fenced_at_the_first_try_is_not_committed_and_fenced_later_is_read_from_the_log() {
    let mut machine = written(Version::One);
    machine.end(true);
    machine.ended(Err(code(90)));
    assert_eq!((machine.last(), machine.over(), machine.next_request()), (Last::Aborted, Some(Over::Fenced), None));

    for (sight, last) in
        [(Sight::Committed, Last::Committed), (Sight::Aborted, Last::Aborted), (Sight::Gone, Last::Unknown)]
    {
        let mut machine = written(Version::One);
        machine.end(true);
        machine.ended(Err(LOST));
        machine.ended(Err(code(47)));
        assert_eq!((machine.next_request(), machine.last()), (Some(Request::Look), Last::Pending));
        machine.looked(Sight::NotYet);
        assert_eq!(machine.next_request(), Some(Request::Look));
        assert_eq!(machine.witnesses()[&tp(0)], 40);
        machine.looked(sight);
        assert_eq!((machine.hear(), machine.over(), machine.next_request()), (last, Some(Over::Fenced), None));
        assert!(!machine.begin(Version::One));
    }
}

#[test]
fn an_unclear_commit_without_a_witness_is_unknown() {
    let mut machine = ready();
    machine.begin(Version::One);
    machine.launch();
    machine.added_group("g".into());
    machine.landed();
    machine.end(true);
    machine.ended(Err(LOST));
    machine.ended(Err(code(90)));
    assert_eq!(machine.last(), Last::Unknown);
}

#[test]
fn what_was_doomed_or_left_half_way_is_aborted_and_the_epoch_raised() {
    let doom: [fn(&mut Machine); 2] = [Machine::doom, Machine::launch];
    for doom in doom {
        let mut machine = written(Version::One);
        doom(&mut machine);
        assert!(!machine.is_writable());
        machine.end(true);
        assert_eq!(machine.last(), Last::Aborted, "what was asked for will not be");
        assert_eq!(machine.next_request(), Some(Request::End { producer: ONE, commit: false }));
        machine.ended(Ok(None));
        assert_eq!(machine.next_request(), Some(Request::Init(Some(ONE))));
    }
}

#[test]
fn nothing_written_needs_no_end() {
    let mut machine = ready();
    machine.begin(Version::One);
    machine.end(true);
    assert_eq!((machine.hear(), machine.next_request()), (Last::Committed, None));
    assert!(machine.begin(Version::Two));
    machine.end(false);
    assert!(machine.is_idle());
}

#[test]
fn an_end_that_finds_no_transaction_was_no_commit() {
    let mut machine = written(Version::One);
    machine.end(true);
    machine.ended(Err(code(48)));
    assert_eq!((machine.hear(), machine.next_request()), (Last::Aborted, Some(Request::Init(Some(ONE)))));
    machine.initialised(Err(code(90)));
    assert_eq!(machine.over(), Some(Over::Fenced));

    let mut machine = written(Version::Two);
    machine.end(true);
    machine.ended(Err(code(120)));
    assert_eq!(machine.hear(), Last::Aborted);
    assert_eq!(machine.next_request(), Some(Request::End { producer: ONE, commit: false }));
}

#[test]
fn a_write_that_is_fenced_ends_the_producer() {
    let mut machine = written(Version::One);
    machine.launch();
    machine.finish(Over::Fenced);
    machine.end(true);
    assert_eq!((machine.hear(), machine.over(), machine.next_request()), (Last::Aborted, Some(Over::Fenced), None));
}

#[test]
fn an_end_whose_caller_stopped_waiting_is_unclear() {
    let mut machine = written(Version::One);
    machine.end(true);
    let end = Some(Request::End { producer: ONE, commit: true });
    assert_eq!((machine.next_request(), machine.next_request()), (end, end), "the first was dropped");
    machine.ended(Err(code(90)));
    assert_eq!(machine.next_request(), Some(Request::Look));
}

#[test]
fn sequences_wrap() {
    let mut machine = ready();
    machine.begin(Version::Two);
    assert_eq!(machine.sequence(&tp(0), i32::MAX), 0);
    assert_eq!(machine.sequence(&tp(0), 3), i32::MAX);
    assert_eq!(machine.sequence(&tp(0), 1), 2);
    assert_eq!(machine.sequence(&tp(1), 1), 0);
}

#[test]
fn codes_are_judged_by_what_was_asked() {
    for asked in [Asked::Init, Asked::Add, Asked::Produce, Asked::Offsets, Asked::End] {
        for (code, verdict) in [
            (14, Verdict::Again),
            (51, Verdict::Again),
            (16, Verdict::FindCoordinator),
            (47, Verdict::Fenced),
            (90, Verdict::Fenced),
            (53, Verdict::Fatal),
        ] {
            assert_eq!(Verdict::of(asked, code), verdict, "{asked:?} {code}");
        }
    }
    assert_eq!(Verdict::of(Asked::Produce, 6), Verdict::Again);
    assert_eq!(Verdict::of(Asked::Produce, 46), Verdict::Duplicate);
    assert_eq!(Verdict::of(Asked::Produce, 45), Verdict::Reinitialise);
    assert_eq!(Verdict::of(Asked::Produce, 59), Verdict::Reinitialise);
    assert_eq!(Verdict::of(Asked::Produce, 10), Verdict::Abort);
    assert_eq!(Verdict::of(Asked::Offsets, 22), Verdict::Stale);
    assert_eq!(Verdict::of(Asked::Offsets, 25), Verdict::Stale);
    assert_eq!(Verdict::of(Asked::End, 48), Verdict::Reinitialise);
    assert_eq!(Verdict::of(Asked::Add, 29), Verdict::Abort);
}
