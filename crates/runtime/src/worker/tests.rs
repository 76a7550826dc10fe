//! The queue and the frontiers, without a broker.

use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{AssignedPartition, CommittedOffset, Record, TopicPartition};
use anabranch_protocol::Timestamp;
use anabranch_topology::Order;
use bytes::Bytes;

use super::Limits;
use super::partitions::Partitions;
use super::queue::{Held, OVERHEAD, Queue};
use super::tiers::Tiers;
use crate::attempts::Retry;
use crate::retry::Delivery;

/// Enough slots for all that a test starts.
const WIDE: Limits = Limits { concurrency: 100_000, max_held_bytes: usize::MAX, ..LIMITS };
const LIMITS: Limits =
    Limits { concurrency: 2, max_held_bytes: 4_000, order: Order::Key, drain_timeout: Duration::from_secs(1) };

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn record(partition: i32, offset: i64, key: Option<&'static str>, bytes: usize) -> Record {
    Record {
        topic: Arc::from("t"),
        partition,
        offset,
        timestamp_ms: 0,
        key: key.map(Bytes::from),
        value: Some(Bytes::from(vec![0; bytes])),
        headers: Vec::new(),
    }
}

fn assigned(partitions: &mut Partitions, epoch: u64, partition: i32) {
    let committed = Some(CommittedOffset { offset: 0, metadata: String::new() });
    let assigned = AssignedPartition { tp: tp(partition), start_offset: 0, committed };
    partitions.assign(epoch, &assigned);
}

/// A queue with these records of partitions 0 and 1 in it, and the partitions.
fn queue_of(limits: Limits, records: Vec<Record>) -> (Queue, Partitions) {
    let (mut queue, mut partitions) = (Queue::new(limits), Partitions::default());
    (0..2).for_each(|p| assigned(&mut partitions, 1, p));
    for record in records {
        let tenure = partitions.receive(&tp(record.partition), record.offset).unwrap();
        queue.offer(Held::new(tenure, record));
    }
    (queue, partitions)
}

fn start_all(queue: &mut Queue) -> Vec<Held> {
    std::iter::from_fn(|| queue.next(at(0), |_| true, |_| {}).map(|(held, _)| held)).collect()
}

fn offsets(started: &[Held]) -> Vec<i64> {
    started.iter().map(|h| h.offset).collect()
}

#[test]
fn a_key_waits_for_itself_alone() {
    let a = |offset| record(0, offset, Some("a"), 1);
    let (mut queue, _) = queue_of(LIMITS, vec![a(0), a(1), record(0, 2, Some("b"), 1), record(0, 3, None, 1), a(4)]);
    let started = start_all(&mut queue);
    assert_eq!((offsets(&started), queue.waiting()), (vec![0, 2, 3], 2));
    queue.finish(&started[1]);
    assert!(start_all(&mut queue).is_empty(), "b has nothing behind it");
    queue.finish(&started[0]);
    assert_eq!(offsets(&start_all(&mut queue)), [1], "one of a key at a time, in log order");
}

#[test]
fn the_same_key_in_another_partition_is_another_lane() {
    let records = vec![record(0, 0, Some("a"), 1), record(1, 0, Some("a"), 1)];
    assert_eq!(start_all(&mut queue_of(LIMITS, records).0).len(), 2);
}

#[test]
fn order_by_partition_and_no_order() {
    let records = || vec![record(0, 0, Some("a"), 1), record(0, 1, Some("b"), 1), record(1, 0, Some("c"), 1)];
    let partition = Limits { order: Order::Partition, ..LIMITS };
    assert_eq!(offsets(&start_all(&mut queue_of(partition, records()).0)), [0, 0]);
    let none = Limits { order: Order::None, ..LIMITS };
    assert_eq!(start_all(&mut queue_of(none, records()).0).len(), 3);
}

#[test]
fn what_is_held_is_bounded_in_number_and_in_bytes() {
    let many: Vec<Record> = (0..8).map(|o| record(0, o, None, 1)).collect();
    let (queue, _) = queue_of(LIMITS, many);
    assert!(queue.is_full(), "four for each slot");
    let (mut queue, _) = queue_of(LIMITS, vec![record(0, 0, None, 2_000), record(0, 1, None, 2_000)]);
    assert!(queue.is_full());
    let started = start_all(&mut queue);
    assert!(queue.is_full(), "what runs is held too");
    queue.finish(&started[0]);
    assert!(!queue.is_full() && queue.has_room());
    assert_eq!(queue.held_bytes(), 2_000 + OVERHEAD);

    let behind_a_key: Vec<Record> = (0..9).map(|o| record(0, o, Some("a"), 1)).collect();
    let (queue, _) = queue_of(LIMITS, behind_a_key);
    assert!(!queue.is_full(), "one key does not keep others from being read");
}

#[test]
fn a_partition_that_leaves_takes_what_has_not_started_with_it() {
    let a = |partition, offset| record(partition, offset, Some("a"), 10);
    let (mut queue, _) = queue_of(LIMITS, vec![a(0, 0), a(0, 1), a(1, 0), a(1, 1)]);
    let (first, _) = queue.next(at(0), |_| true, |_| {}).unwrap();
    queue.drop_partitions(&[tp(0)]);
    assert_eq!(
        (queue.running_in(&[tp(0)]), queue.waiting(), queue.held_bytes()),
        (1, 2, 3 * (11 + OVERHEAD)),
        "keys count too"
    );
    queue.finish(&first);
    assert_eq!(queue.running_in(&[tp(0)]), 0);
    let started = start_all(&mut queue);
    assert!(started.iter().all(|h| h.tenure.tp == tp(1)), "nothing of partition 0");
    queue.clear();
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn only_the_frontier_of_the_assignment_is_committed() {
    let (mut queue, mut partitions) = queue_of(LIMITS, (0..3).map(|o| record(0, o, None, 1)).collect());
    let started = start_all(&mut queue);
    partitions.done(&started[1].tenure, 1);
    let said = |partitions: &Partitions| -> Vec<_> {
        let requests = partitions.to_commit(|_| true).into_iter().map(|c| c.request());
        requests.map(|(tp, epoch, c)| (tp.partition, epoch, c.offset, !c.metadata.is_empty())).collect()
    };
    assert_eq!(said(&partitions), [(0, 1, 0, true)], "offset 0 is not done, and 1 is said to be");
    partitions.done(&started[0].tenure, 0);
    assert_eq!(said(&partitions), [(0, 1, 2, false)]);
    let commits = partitions.to_commit(|_| true);
    assert!(partitions.to_commit(|tp| tp.partition == 1).is_empty());
    partitions.committed(&commits);
    assert!(partitions.to_commit(|_| true).is_empty(), "nothing new");

    // The partition left and came back: what completes of the first assignment counts for nothing.
    partitions.remove(&tp(0));
    partitions.done(&started[2].tenure, 2);
    assigned(&mut partitions, 2, 0);
    partitions.done(&started[2].tenure, 2);
    assert!(partitions.to_commit(|_| true).is_empty());
    assert!(partitions.receive(&tp(9), 0).is_none(), "not ours");
}

#[test]
fn what_was_done_before_a_restart_is_not_done_again() {
    let (mut queue, mut partitions) = queue_of(LIMITS, (0..6).map(|o| record(0, o, None, 1)).collect());
    let started = start_all(&mut queue);
    [1, 2, 4].into_iter().for_each(|o| partitions.done(&started[o].tenure, o as i64));
    let (_, _, commit) = partitions.to_commit(|_| true).remove(0).request();
    let received = |committed: CommittedOffset| {
        let mut partitions = Partitions::default();
        let start_offset = committed.offset;
        partitions.assign(1, &AssignedPartition { tp: tp(0), start_offset, committed: Some(committed) });
        (0..6).filter(|o| partitions.receive(&tp(0), *o).is_some()).collect::<Vec<i64>>()
    };
    let committed = CommittedOffset { offset: commit.offset, metadata: commit.metadata.clone() };
    assert_eq!(received(committed), [0, 3, 5]);
    let foreign = CommittedOffset { offset: 0, metadata: "written by hand".to_owned() };
    assert_eq!(received(foreign), [0, 1, 2, 3, 4, 5]);
    let moved = CommittedOffset { offset: 1, metadata: commit.metadata };
    assert_eq!(received(moved), [1, 2, 3, 4, 5], "another offset's");
}

/// Starts what may start, as the loop does.
fn start_allowed(queue: &mut Queue, partitions: &Partitions) -> (Vec<Held>, Vec<TopicPartition>) {
    let (mut started, mut stalled) = (Vec::new(), Vec::new());
    let may = |held: &Held| partitions.may_start(&held.tenure, held.offset);
    while let Some((held, _)) = queue.next(at(0), may, |tp| stalled.push(tp.clone())) {
        started.push(held);
    }
    (started, stalled)
}

#[test]
fn a_partition_with_too_much_done_above_its_frontier_waits_and_others_go_on() {
    let records = (0..40_000).map(|o| record(0, o, None, 1)).collect();
    let (mut queue, mut partitions) = queue_of(WIDE, records);
    let started = start_all(&mut queue);
    // Every second one takes long: the worst case for the metadata.
    for held in started.iter().skip(1).step_by(2).take(9_500) {
        queue.finish(held);
        partitions.done(&held.tenure, held.offset);
    }
    let largest = |partitions: &Partitions| partitions.to_commit(|_| true).iter().map(|c| c.metadata_len()).max();
    assert!(largest(&partitions).is_some_and(|bytes| (3072..4096).contains(&bytes)), "{:?}", largest(&partitions));

    for o in 40_000..40_010 {
        let tenure = partitions.receive(&tp(0), o).unwrap();
        queue.offer(Held::new(tenure, record(0, o, None, 1)));
    }
    let tenure = partitions.receive(&tp(1), 0).unwrap();
    queue.offer(Held::new(tenure, record(1, 0, None, 1)));
    let (now, stalled) = start_allowed(&mut queue, &partitions);
    assert_eq!(now.iter().map(|h| h.tenure.tp.partition).collect::<Vec<_>>(), [1], "the other partition goes on");
    assert_eq!((stalled, queue.waiting(), queue.has_room()), (vec![tp(0)], 10, true));

    // Holes below may be filled; the frontier moves; then the rest starts.
    queue.release(&tp(0), partitions.startable_below(&tp(0)));
    assert!(queue.is_stalled(&tp(0)) && start_allowed(&mut queue, &partitions).0.is_empty());
    for held in started.iter().step_by(2).take(2_000) {
        partitions.done(&held.tenure, held.offset);
    }
    queue.release(&tp(0), partitions.startable_below(&tp(0)));
    assert!(!queue.is_stalled(&tp(0)));
    assert_eq!(offsets(&start_allowed(&mut queue, &partitions).0), (40_000..40_010).collect::<Vec<_>>());
}

#[test]
fn what_is_held_back_leaves_with_its_partition() {
    let (mut queue, _) = queue_of(LIMITS, vec![record(0, 0, Some("a"), 10), record(0, 1, Some("a"), 10)]);
    assert!(queue.next(at(0), |_| false, |_| {}).is_none());
    assert_eq!((queue.waiting(), queue.is_stalled(&tp(0))), (2, true));
    queue.drop_partitions(&[tp(0)]);
    assert_eq!((queue.waiting(), queue.held_bytes(), queue.is_stalled(&tp(0))), (0, 0, false));
}

#[test]
fn a_log_that_goes_back_is_read_anew() {
    let (mut queue, mut partitions) = queue_of(LIMITS, (0..3).map(|o| record(0, o, None, 1)).collect());
    let started = start_all(&mut queue);
    partitions.went_back(&tp(0), 0);
    let tenure = partitions.receive(&tp(0), 0).unwrap();
    partitions.done(&started[0].tenure, 0);
    let (_, _, commit) = partitions.to_commit(|tp| tp.partition == 0).remove(0).request();
    assert_eq!(commit.offset, 0, "the old record is not the new one");
    partitions.done(&tenure, 0);
    let (_, _, commit) = partitions.to_commit(|tp| tp.partition == 0).remove(0).request();
    assert_eq!(commit.offset, 1);
}

#[test]
fn a_broker_that_takes_less_metadata_gets_less() {
    let (mut queue, mut partitions) = queue_of(LIMITS, (0..3).map(|o| record(0, o, None, 1)).collect());
    let started = start_all(&mut queue);
    partitions.done(&started[2].tenure, 2);
    let commit = partitions.to_commit(|_| true).remove(0);
    assert!(commit.metadata_len() > 0);
    assert_eq!(commit.clone().bare().request().2.metadata, "");
    assert_eq!(partitions.metadata_refused(commit.metadata_len()), commit.metadata_len() / 2);
    assert_eq!(partitions.to_commit(|_| true).remove(0).metadata_len(), 0, "too little room for anything");
}

/// A record of partition 0 that failed once, due at a time.
fn again(offset: i64, key: &'static str, due: i64) -> Delivery {
    let first = Delivery::first(record(0, offset, Some(key), 1));
    let retry = Retry { due: at(due), deadline: None, error: "down".to_owned(), counts: true };
    let tried = first.failed(&retry, at(0));
    first.with(tried)
}

fn start_at(queue: &mut Queue, now: i64) -> Vec<i64> {
    queue.wake(at(now));
    std::iter::from_fn(|| queue.next(at(now), |_| true, |_| {}).map(|(held, _)| held.offset)).collect()
}

#[test]
fn a_retry_in_memory_takes_no_slot_keeps_its_lane_and_goes_first() {
    let (mut queue, _) = queue_of(LIMITS, vec![record(0, 0, Some("a"), 1), record(0, 1, Some("a"), 1)]);
    let held = start_all(&mut queue).remove(0);
    queue.wait_here(held, again(0, "a", 1_000), at(1_000));
    assert_eq!((queue.running_in(&[tp(0)]), queue.waiting(), queue.next_due()), (0, 2, Some(at(1_000))));
    assert!(start_at(&mut queue, 999).is_empty(), "not early, and nothing passes it");
    assert_eq!((start_at(&mut queue, 1_000), queue.next_due()), (vec![0], None));
}

#[test]
fn a_lane_waits_for_what_is_in_a_retry_topic_and_others_pass() {
    let (mut queue, mut partitions) =
        queue_of(LIMITS, vec![record(0, 0, Some("a"), 1), record(0, 1, Some("a"), 1), record(0, 2, Some("b"), 1)]);
    let started = start_all(&mut queue);
    assert_eq!(offsets(&started), [0, 2]);
    queue.depart(&started[0]);
    assert_eq!((queue.away(), queue.waiting(), start_all(&mut queue).len()), (1, 1, 0));

    let retry = TopicPartition::new("t.retry.5s", 0);
    let committed = Some(CommittedOffset { offset: 0, metadata: String::new() });
    partitions.assign(1, &AssignedPartition { tp: retry.clone(), start_offset: 0, committed });
    let tenure = partitions.receive(&retry, 9).unwrap();
    queue.come_back(Held::at(tenure, 9, again(0, "a", 500), Some(at(500))), tp(0), true);
    assert!(start_at(&mut queue, 499).is_empty());
    queue.wake(at(500));
    let (back, delivery) = queue.next(at(500), |_| true, |_| {}).unwrap();
    assert_eq!((back.offset, delivery.record().offset, delivery.attempts()), (9, 0, 1));
    queue.finish(&back);
    assert_eq!((offsets(&start_all(&mut queue)), queue.away()), (vec![1], 0));
}

#[test]
fn what_waits_for_its_time_leaves_with_its_partition() {
    let (mut queue, _) = queue_of(LIMITS, vec![record(0, 0, Some("a"), 1), record(0, 1, Some("a"), 1)]);
    let held = start_all(&mut queue).remove(0);
    queue.wait_here(held, again(0, "a", 1_000), at(1_000));
    queue.drop_partitions(&[tp(0)]);
    assert_eq!((queue.waiting(), queue.held_bytes(), queue.next_due()), (0, 0, None));
    let mut lane_is_free = queue_of(LIMITS, vec![record(0, 0, Some("a"), 1)]).0;
    assert_eq!(start_all(&mut lane_is_free).len(), 1);
}

fn tiers() -> (Tiers, TopicPartition) {
    let retry = TopicPartition::new("t.retry.5s", 0);
    let delays = [(Arc::from("t.retry.5s"), Duration::from_secs(5))].into();
    let mut tiers = Tiers::new(Arc::from("t"), delays, 3 * (2 + OVERHEAD));
    assert!(tiers.assign(&retry, 0) && !tiers.assign(&tp(0), 0));
    (tiers, retry)
}

fn waiting(offset: i64, written: i64) -> Record {
    Record { topic: Arc::from("t.retry.5s"), timestamp_ms: written, ..record(0, offset, Some("a"), 1) }
}

fn owned(retry: &TopicPartition) -> Partitions {
    let mut partitions = Partitions::default();
    partitions.assign(1, &AssignedPartition { tp: retry.clone(), start_offset: 0, committed: None });
    partitions
}

#[test]
fn a_retry_topic_rests_until_its_head_is_nearly_due_and_its_room_is_bounded() {
    let (mut tiers, retry) = tiers();
    let mut partitions = owned(&retry);
    for offset in 0..3 {
        assert!(tiers.fits(&retry, &waiting(offset, 0)));
        let tenure = partitions.receive(&retry, offset).unwrap();
        tiers.take_in(at(10), tenure, waiting(offset, offset));
    }
    assert!(!tiers.fits(&retry, &waiting(3, 3)), "the rest stays in the log");
    assert_eq!((tiers.go_to_rest(at(10)), tiers.go_to_rest(at(10))), (vec![retry.clone()], vec![]));
    assert_eq!(tiers.wake_at(true), Some(at(4_752)), "read again before the last one comes out");
    assert!(tiers.get_up(at(4_751)).is_empty());
    assert_eq!(tiers.get_up(at(4_752)), std::slice::from_ref(&retry));
    assert_eq!((tiers.wake_at(true), tiers.wake_at(false)), (Some(at(5_000)), None));
    let out = tiers.come_out(at(5_001));
    assert_eq!(out.iter().map(|out| out.record.offset).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn whom_lanes_wait_for_is_known_by_offset() {
    let (mut tiers, retry) = tiers();
    let (mut queue, mut partitions) = (Queue::new(LIMITS), owned(&retry));
    let lane = queue.lane(tp(0), Some(b"a")).unwrap();
    for offset in [0, 1, 2] {
        assert!(tiers.awaits(&retry, offset, Some(&lane)));
        queue.expect(lane.clone());
    }
    assert!(!tiers.awaits(&retry, 1, Some(&lane)), "known");
    let tenure = partitions.receive(&retry, 0).unwrap();
    tiers.take_in(at(0), tenure, waiting(0, 0));
    let gone = tiers.read_to(&retry, 2, |offset| offset == 0);
    assert_eq!(gone, std::slice::from_ref(&lane), "offset 1 is not in the log any more");
    assert!(tiers.come_out(at(5_000)).iter().all(|out| out.awaited));
    assert!(!tiers.awaits(&retry, 0, Some(&lane)), "it came out before it was said that it went in");
    assert!(!tiers.awaits(&TopicPartition::new("t.retry.5s", 1), 0, Some(&lane)), "not ours");
    assert_eq!(tiers.remove(&retry), [lane]);
}

#[test]
fn a_repeat_is_told_by_its_offset_and_key() {
    let (mut tiers, _) = tiers();
    let key = || Some(Bytes::from_static(b"a"));
    [4, 5].into_iter().for_each(|offset| tiers.repeats(tp(0), offset, key()));
    assert!(tiers.is_repeat(&tp(0), &record(0, 4, Some("a"), 1)));
    assert!(!tiers.is_repeat(&tp(0), &record(0, 4, Some("a"), 1)), "once");
    assert!(!tiers.is_repeat(&tp(0), &record(0, 5, Some("b"), 1)), "another record at that offset");
    assert!(!tiers.is_repeat(&tp(1), &record(1, 5, Some("a"), 1)));
}
