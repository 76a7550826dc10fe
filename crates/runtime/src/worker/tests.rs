//! The queue and the frontiers, without a broker.

use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{AssignedPartition, CommittedOffset, Record, TopicPartition};
use anabranch_topology::Order;
use bytes::Bytes;

use super::Limits;
use super::partitions::Partitions;
use super::queue::{Held, OVERHEAD, Queue};

/// Enough slots for all that a test starts.
const WIDE: Limits = Limits { concurrency: 100_000, max_held_bytes: usize::MAX, ..LIMITS };
const LIMITS: Limits =
    Limits { concurrency: 2, max_held_bytes: 4_000, order: Order::Key, drain_timeout: Duration::from_secs(1) };

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
    std::iter::from_fn(|| queue.next(|_| true, |_| {}).map(|(held, _)| held)).collect()
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
    let (first, _) = queue.next(|_| true, |_| {}).unwrap();
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
    while let Some((held, _)) = queue.next(may, |tp| stalled.push(tp.clone())) {
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
    assert!(queue.next(|_| false, |_| {}).is_none());
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
