//! Tests of the log: order, duplicates, recovery, isolation, retention, compaction.

mod compaction;
mod untrusted;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::{
    batch::{self, Batches, HEADER, Header},
    codec, now_ms,
    partition::{Partition, SharedSettings},
    records::{self, Records},
    settings::Settings,
    validate::Refusal,
};
use crate::ports::{Marker, Producer};

fn settings() -> Settings {
    Settings {
        delete: true,
        compact: false,
        retention_ms: None,
        retention_bytes: None,
        segment_bytes: 1 << 20,
        segment_ms: i64::MAX,
        max_message_bytes: 1 << 20,
        log_append_time: false,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        min_cleanable_dirty_ratio: 0.0,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        delete_retention_ms: 0,
    }
}

fn shared(settings: Settings) -> SharedSettings {
    Arc::new(Mutex::new(Arc::new(settings)))
}

fn open(directory: Option<&Path>, settings: Settings) -> Partition {
    Partition::open(directory, shared(settings)).unwrap()
}

/// Who writes a batch.
#[derive(Clone, Copy)]
struct Writer {
    id: i64,
    epoch: i16,
    sequence: i32,
    transactional: bool,
}

const PLAIN: Writer = Writer { id: -1, epoch: -1, sequence: -1, transactional: false };

fn idempotent(sequence: i32) -> Writer {
    Writer { id: 7, epoch: 0, sequence, transactional: false }
}

fn transactional(id: i64, sequence: i32) -> Writer {
    Writer { id, epoch: 0, sequence, transactional: true }
}

type Pair<'a> = (&'a str, Option<&'a str>);

fn batch_of(writer: Writer, timestamp: i64, codec: i16, pairs: &[Pair<'_>]) -> Bytes {
    let mut body = Vec::new();
    for (n, (key, value)) in pairs.iter().enumerate() {
        records::write(&mut body, 0, i32::try_from(n).unwrap(), Some(key.as_bytes()), value.map(str::as_bytes));
    }
    let header = Header {
        base_offset: 0,
        size: 0,
        leader_epoch: -1,
        attributes: codec | if writer.transactional { 1 << 4 } else { 0 },
        last_offset_delta: i32::try_from(pairs.len()).unwrap() - 1,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id: writer.id,
        producer_epoch: writer.epoch,
        base_sequence: writer.sequence,
        count: i32::try_from(pairs.len()).unwrap(),
    };
    batch::assemble(&header, &codec::fold(codec, &body).unwrap()).into()
}

/// A good batch of one record.
pub(crate) fn one_batch(codec: i16) -> Bytes {
    batch_of(PLAIN, now_ms(), codec, &[("key", Some("value"))])
}

fn append(log: &Partition, writer: Writer, pairs: &[Pair<'_>]) -> Result<i64, Refusal> {
    append_bytes(log, &batch_of(writer, now_ms(), 0, pairs))
}

fn append_bytes(log: &Partition, bytes: &Bytes) -> Result<i64, Refusal> {
    log.append(bytes, 11, |_| Ok(())).map(|appended| appended.base_offset)
}

fn end(log: &Partition, id: i64, commit: bool) {
    let marker = Marker { producer: Producer { id, epoch: 0 }, commit, coordinator_epoch: 3 };
    assert!(log.append_marker(marker).unwrap());
}

/// Offset, key and value of every record, markers left out.
fn contents(log: &Partition) -> Vec<(i64, String, Option<String>)> {
    let (start, end, _) = log.bounds();
    let (mut found, mut from) = (Vec::new(), start);
    while from < end {
        let fetched = log.fetch(from, false, 1 << 20, true).unwrap();
        let mut next = end;
        for (header, bytes) in Batches::new(fetched.records) {
            assert!(batch::checksum_holds(&bytes));
            next = header.next_offset();
            let body = codec::unfold(header.codec(), &bytes[HEADER..]).unwrap().into_owned();
            for record in Records::new(&body).map(Result::unwrap).filter(|_| !header.is_control()) {
                let offset = header.base_offset + i64::from(record.offset_delta);
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                if offset >= from {
                    found.push((offset, record.key.map(text).unwrap(), record.value.map(text)));
                }
            }
        }
        from = next;
    }
    found
}

fn values(log: &Partition) -> Vec<String> {
    contents(log).into_iter().filter_map(|(_, _, value)| value).collect()
}

fn error<T: std::fmt::Debug>(result: Result<T, Refusal>) -> ResponseError {
    result.unwrap_err().error
}

#[test]
fn offsets_count_up_and_a_fetch_may_start_inside_a_batch() {
    let log = open(None, settings());
    assert_eq!(append(&log, PLAIN, &[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]).unwrap(), 0);
    assert_eq!(append(&log, PLAIN, &[("d", Some("4"))]).unwrap(), 3);
    let fetched = log.fetch(2, false, 1 << 20, true).unwrap();
    let bases: Vec<_> = Batches::new(fetched.records).map(|(header, _)| header.base_offset).collect();
    assert_eq!((bases, fetched.end, fetched.stable), (vec![0, 3], 4, 4));
    assert!(log.fetch(4, false, 1 << 20, true).unwrap().records.is_empty());
    assert_eq!(error(log.fetch(5, false, 1, true)), ResponseError::OffsetOutOfRange);
}

#[test]
fn a_fetch_keeps_to_its_bytes_but_for_one_batch() {
    let log = open(None, settings());
    let large = "x".repeat(50_000);
    for _ in 0..3 {
        append(&log, PLAIN, &[("k", Some(&large))]).unwrap();
    }
    let size = |max, at_least_one| log.fetch(1, false, max, at_least_one).unwrap().records.len();
    assert_eq!(size(10, false), 0);
    assert!((50_000..51_000).contains(&size(10, true)));
    assert!((50_000..51_000).contains(&size(60_000, true)));
    assert!((100_000..102_000).contains(&size(1 << 20, true)));
}

#[test]
fn unsound_batches_are_refused() {
    let log = open(None, Settings { max_message_bytes: 1000, ..settings() });
    let good = batch_of(PLAIN, now_ms(), 0, &[("k", Some("v"))]);
    let mut damaged = good.to_vec();
    damaged[66] ^= 1;
    assert_eq!(error(append_bytes(&log, &damaged.into())), ResponseError::CorruptMessage);
    assert_eq!(error(append_bytes(&log, &good.slice(..good.len() - 1))), ResponseError::CorruptMessage);
    assert_eq!(error(append_bytes(&log, &[good.clone(), good].concat().into())), ResponseError::InvalidRecord);
    let large = "x".repeat(1000);
    assert_eq!(error(append(&log, PLAIN, &[("k", Some(&large))])), ResponseError::MessageTooLarge);
    assert_eq!(error(append(&log, transactional(-1, -1), &[("k", None)])), ResponseError::InvalidRecord);
    let control =
        batch::marker(Marker { producer: Producer { id: 1, epoch: 0 }, commit: true, coordinator_epoch: 0 }, 0);
    assert_eq!(error(append_bytes(&log, &control.into())), ResponseError::InvalidRecord);
    assert_eq!(log.bounds(), (0, 0, 0), "nothing got in");
}

#[test]
fn sequences_are_checked_and_duplicates_answered_with_the_first_offset() {
    let log = open(None, settings());
    let pairs: &[Pair<'_>] = &[("a", Some("1")), ("b", Some("2"))];
    assert_eq!(append(&log, idempotent(0), pairs).unwrap(), 0);
    assert_eq!(append(&log, idempotent(2), pairs).unwrap(), 2);
    assert_eq!(append(&log, idempotent(0), pairs).unwrap(), 0);
    assert_eq!(append(&log, idempotent(2), pairs).unwrap(), 2);
    assert_eq!(log.bounds().1, 4);
    assert_eq!(error(append(&log, idempotent(6), pairs)), ResponseError::OutOfOrderSequenceNumber);
    assert_eq!(append(&log, Writer { epoch: 1, ..idempotent(0) }, pairs).unwrap(), 4);
    assert_eq!(error(append(&log, idempotent(4), pairs)), ResponseError::InvalidProducerEpoch);
    assert_eq!(
        error(append(&log, Writer { epoch: 2, ..idempotent(3) }, pairs)),
        ResponseError::OutOfOrderSequenceNumber
    );
}

#[test]
fn sequences_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(Some(directory.path()), settings());
    append(&log, idempotent(0), &[("a", Some("1"))]).unwrap();
    append(&log, idempotent(1), &[("a", Some("2"))]).unwrap();
    drop(log);
    let log = open(Some(directory.path()), settings());
    assert_eq!(append(&log, idempotent(1), &[("a", Some("2"))]).unwrap(), 1);
    assert_eq!(error(append(&log, idempotent(5), &[("a", Some("2"))])), ResponseError::OutOfOrderSequenceNumber);
    assert_eq!(append(&log, idempotent(2), &[("a", Some("3"))]).unwrap(), 2);
    assert_eq!(values(&log), ["1", "2", "3"]);
}

#[test]
fn a_torn_tail_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("00000000000000000000.log");
    let log = open(Some(directory.path()), settings());
    append(&log, PLAIN, &[("a", Some("1"))]).unwrap();
    append(&log, PLAIN, &[("a", Some("2"))]).unwrap();
    drop(log);
    let whole = fs::read(&path).unwrap();
    for cut in 1..whole.len() / 2 {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let log = open(Some(directory.path()), settings());
        assert_eq!(values(&log), ["1"], "cut by {cut}");
        assert_eq!(fs::metadata(&path).unwrap().len(), whole.len() as u64 / 2);
        assert_eq!(append(&log, PLAIN, &[("a", Some("3"))]).unwrap(), 1);
    }
}

#[test]
fn damage_before_the_last_segment_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(Some(directory.path()), Settings { segment_bytes: 100, ..settings() });
    for n in 0..3 {
        append(&log, PLAIN, &[("key", Some(&n.to_string()))]).unwrap();
    }
    drop(log);
    let path = directory.path().join("00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[65] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Partition::open(Some(directory.path()), shared(settings())).unwrap_err().to_string();
    assert!(error.contains("00000000000000000001.log"), "{error}");
}

#[test]
fn the_last_stable_offset_waits_for_open_transactions() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(Some(directory.path()), settings());
    append(&log, PLAIN, &[("p", Some("0"))]).unwrap();
    append(&log, transactional(1, 0), &[("a", Some("1"))]).unwrap();
    append(&log, transactional(2, 0), &[("b", Some("2"))]).unwrap();
    end(&log, 1, true);
    assert_eq!(log.bounds(), (0, 4, 2));
    let committed = log.fetch(0, true, 1 << 20, true).unwrap();
    let last = Batches::new(committed.records).last().unwrap().0.last_offset();
    assert_eq!(last, 1, "nothing of the open transaction");
    drop(log);
    let log = open(Some(directory.path()), settings());
    assert_eq!(log.bounds(), (0, 4, 2), "rebuilt from the log");
    end(&log, 2, false);
    assert_eq!(log.bounds(), (0, 5, 5));
}

#[test]
fn aborted_transactions_are_listed_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(Some(directory.path()), settings());
    append(&log, transactional(1, 0), &[("a", Some("1"))]).unwrap();
    end(&log, 1, false);
    append(&log, transactional(1, 1), &[("a", Some("2"))]).unwrap();
    end(&log, 1, true);
    append(&log, transactional(2, 0), &[("b", Some("3"))]).unwrap();
    end(&log, 2, false);
    let aborted = |log: &Partition, from| {
        let fetched = log.fetch(from, true, 1 << 20, true).unwrap();
        fetched.aborted.iter().map(|a| (a.producer_id, a.first_offset)).collect::<Vec<_>>()
    };
    assert_eq!(aborted(&log, 0), [(1, 0), (2, 4)]);
    assert_eq!(aborted(&log, 2), [(2, 4)]);
    assert!(log.fetch(0, false, 1 << 20, true).unwrap().aborted.is_empty(), "only for read_committed");
    drop(log);
    let log = open(Some(directory.path()), settings());
    assert_eq!(aborted(&log, 0), [(1, 0), (2, 4)]);
    assert_eq!(log.delete_before(2).unwrap(), 2);
    assert_eq!(aborted(&log, 2), [(2, 4)]);
}

#[test]
fn a_marker_of_an_old_epoch_changes_nothing() {
    let log = open(None, settings());
    append(&log, Writer { epoch: 5, ..transactional(1, 0) }, &[("a", Some("1"))]).unwrap();
    let marker = Marker { producer: Producer { id: 1, epoch: 4 }, commit: false, coordinator_epoch: 0 };
    assert!(!log.append_marker(marker).unwrap());
    assert_eq!(log.bounds(), (0, 1, 0));
}

#[test]
fn records_are_deleted_before_an_offset_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let small = Settings { segment_bytes: 200, ..settings() };
    let log = open(Some(directory.path()), small.clone());
    for n in 0..10 {
        append(&log, PLAIN, &[("key", Some(&n.to_string()))]).unwrap();
    }
    assert_eq!(log.delete_before(7).unwrap(), 7);
    assert_eq!(error(log.fetch(6, false, 1, true)), ResponseError::OffsetOutOfRange);
    assert_eq!(values(&log), ["7", "8", "9"]);
    drop(log);
    let log = open(Some(directory.path()), small.clone());
    assert_eq!((log.bounds(), values(&log).len()), ((7, 10, 10), 3));
    assert_eq!(log.delete_before(-1).unwrap(), 10);
    drop(log);
    let log = open(Some(directory.path()), small);
    assert_eq!(log.bounds(), (10, 10, 10), "offsets go on where they were");
    assert_eq!(append(&log, PLAIN, &[("key", Some("v"))]).unwrap(), 10);
    assert_eq!(error(log.delete_before(12)), ResponseError::OffsetOutOfRange);
}

#[test]
fn retention_by_size_and_by_time() {
    let directory = tempfile::tempdir().unwrap();
    let sized = Settings { segment_bytes: 200, retention_bytes: Some(400), ..settings() };
    let log = open(Some(directory.path()), sized);
    for n in 0..20 {
        append(&log, PLAIN, &[("key", Some(&n.to_string()))]).unwrap();
    }
    log.tend().unwrap();
    let (start, end, _) = log.bounds();
    assert!((12..18).contains(&start) && end == 20, "{start}..{end}");

    let timed = open(None, Settings { retention_ms: Some(60_000), ..settings() });
    append_bytes(&timed, &batch_of(PLAIN, now_ms() - 100_000, 0, &[("old", Some("1"))])).unwrap();
    timed.tend().unwrap();
    append_bytes(&timed, &batch_of(PLAIN, now_ms(), 0, &[("new", Some("2"))])).unwrap();
    timed.tend().unwrap();
    assert_eq!((timed.bounds(), values(&timed)), ((1, 2, 2), vec!["2".to_owned()]));
}

#[test]
fn retention_leaves_open_transactions() {
    let log = open(None, Settings { retention_ms: Some(0), ..settings() });
    append_bytes(&log, &batch_of(transactional(1, 0), now_ms() - 1000, 0, &[("a", Some("1"))])).unwrap();
    log.tend().unwrap();
    assert_eq!(log.bounds(), (0, 1, 0));
    end(&log, 1, true);
    std::thread::sleep(std::time::Duration::from_millis(2));
    log.tend().unwrap();
    assert_eq!(log.bounds(), (2, 2, 2));
}

#[test]
fn times_are_found() {
    let log = open(None, Settings { segment_bytes: 300, ..settings() });
    for n in 0..20 {
        append_bytes(&log, &batch_of(PLAIN, 1000 + n * 10, 1, &[("k", Some("v"))])).unwrap();
    }
    let find = |time| log.find_time(time, false).unwrap().map(|found| (found.offset, found.timestamp));
    assert_eq!(find(0), Some((0, 1000)));
    assert_eq!(find(1051), Some((6, 1060)));
    assert_eq!(find(1190), Some((19, 1190)));
    assert_eq!(find(1191), None);
    assert_eq!(log.find_latest(false).unwrap().unwrap().offset, 19);
}

#[test]
fn a_log_that_is_deleted_takes_no_more() {
    let log = open(None, settings());
    log.leave();
    assert_eq!(error(append(&log, PLAIN, &[("a", Some("1"))])), ResponseError::UnknownTopicOrPartition);
}
