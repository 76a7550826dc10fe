//! The queue and the frontiers, without a broker.

use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{AssignedPartition, CommittedOffset, Record, TopicPartition};
use anabranch_topology::Order;
use bytes::Bytes;

use super::Limits;
use super::partitions::Partitions;
use super::queue::{Held, Queue};

const LIMITS: Limits =
    Limits { concurrency: 2, max_held_bytes: 1_000, order: Order::Key, drain_timeout: Duration::from_secs(1) };

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
    std::iter::from_fn(|| queue.next().map(|(held, _)| held)).collect()
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
    let (mut queue, _) = queue_of(LIMITS, vec![record(0, 0, None, 600), record(0, 1, None, 600)]);
    assert!(queue.is_full());
    let started = start_all(&mut queue);
    assert!(queue.is_full(), "what runs is held too");
    queue.finish(&started[0]);
    assert!(!queue.is_full() && queue.has_room());
    assert_eq!(queue.held_bytes(), 600);
}

#[test]
fn a_partition_that_leaves_takes_what_has_not_started_with_it() {
    let a = |partition, offset| record(partition, offset, Some("a"), 10);
    let (mut queue, _) = queue_of(LIMITS, vec![a(0, 0), a(0, 1), a(1, 0), a(1, 1)]);
    let (first, _) = queue.next().unwrap();
    queue.drop_partitions(&[tp(0)]);
    assert_eq!((queue.running_in(&[tp(0)]), queue.waiting(), queue.held_bytes()), (1, 2, 33), "keys count too");
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
    assert!(partitions.to_commit(|_| true).is_empty(), "offset 0 is not done");
    partitions.done(&started[0].tenure, 0);
    let commits = partitions.to_commit(|_| true);
    assert_eq!(commits.iter().map(|(tp, c)| (tp.partition, c.offset)).collect::<Vec<_>>(), [(0, 2)]);
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
