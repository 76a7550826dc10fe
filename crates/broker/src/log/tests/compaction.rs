//! Tests of compaction.

use std::fs;

use super::{PLAIN, append, append_bytes, batch_of, contents, end, now_ms, open, settings, transactional, values};
use crate::log::{Partition, settings::Settings};

fn compacting() -> Settings {
    Settings { delete: false, compact: true, segment_ms: 0, ..settings() }
}

/// Lets compaction do all it has to do.
fn tidy(log: &Partition) {
    for _ in 0..3 {
        log.tend().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn compaction_keeps_the_last_of_each_key_at_its_offset() {
    for (codec, on_disk) in [(0, true), (0, false), (1, true), (2, true), (3, true), (4, true)] {
        let directory = tempfile::tempdir().unwrap();
        let place = on_disk.then(|| directory.path());
        let log = open(place, compacting());
        for lap in 0..3 {
            let value = lap.to_string();
            let pairs = [("a", Some(value.as_str())), ("b", Some(value.as_str()))];
            append_bytes(&log, &batch_of(PLAIN, now_ms(), codec, &pairs)).unwrap();
            log.tend().unwrap();
        }
        append(&log, PLAIN, &[("a", Some("last"))]).unwrap();
        tidy(&log);
        let expected = [(5, "b".to_owned(), Some("2".to_owned())), (6, "a".to_owned(), Some("last".to_owned()))];
        assert_eq!(contents(&log), expected, "codec {codec}");
        assert_eq!(log.bounds(), (0, 7, 7));
        if on_disk {
            drop(log);
            assert_eq!(contents(&open(place, compacting())), expected);
        }
    }
}

#[test]
fn tombstones_go_after_their_time_and_the_end_of_the_log_stays() {
    let directory = tempfile::tempdir().unwrap();
    let patient = Settings { delete_retention_ms: 100_000, ..compacting() };
    let log = open(Some(directory.path()), patient);
    append(&log, PLAIN, &[("a", Some("1")), ("b", Some("1"))]).unwrap();
    append(&log, PLAIN, &[("a", None), ("b", None)]).unwrap();
    tidy(&log);
    let keys: Vec<_> = contents(&log).into_iter().map(|(offset, _, value)| (offset, value)).collect();
    assert_eq!(keys, [(2, None), (3, None)], "readers have time to see them");
    drop(log);
    let log = open(Some(directory.path()), compacting());
    append(&log, PLAIN, &[("c", None)]).unwrap();
    tidy(&log);
    assert!(contents(&log).iter().all(|(offset, ..)| *offset < 4), "the newest tombstone has gone");
    drop(log);
    let log = open(Some(directory.path()), compacting());
    assert_eq!(log.bounds().1, 5, "no offset is given twice");
}

#[test]
fn compaction_stays_below_open_transactions_and_drops_aborted_records() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(Some(directory.path()), compacting());
    append(&log, PLAIN, &[("k", Some("kept"))]).unwrap();
    append(&log, transactional(1, 0), &[("k", Some("aborted"))]).unwrap();
    end(&log, 1, false);
    log.tend().unwrap();
    append(&log, transactional(2, 0), &[("k", Some("open"))]).unwrap();
    tidy(&log);
    assert_eq!(values(&log), ["kept", "open"]);
    assert_eq!(log.bounds(), (0, 4, 3));
    end(&log, 2, true);
    tidy(&log);
    assert_eq!(values(&log), ["open"]);
    drop(log);
    let log = open(Some(directory.path()), compacting());
    assert_eq!((log.bounds(), values(&log)), ((0, 5, 5), vec!["open".to_owned()]), "no transaction opens again");
    assert_eq!(append(&log, transactional(1, 1), &[("k", Some("next"))]).unwrap(), 5, "its sequence is not forgotten");
}

#[test]
fn an_unfinished_compaction_is_undone_and_a_finished_one_completed() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(Some(directory.path()), Settings { segment_bytes: 100, ..settings() });
    for n in 0..3 {
        append(&log, PLAIN, &[("key", Some(&n.to_string()))]).unwrap();
    }
    drop(log);
    let name = |base: i64| directory.path().join(format!("{base:020}.log"));
    fs::write(directory.path().join("00000000000000000000.cleaned"), b"half").unwrap();
    assert_eq!(values(&open(Some(directory.path()), settings())), ["0", "1", "2"]);
    // Segments 0 and 1 became one, with what was in 1; the crash came before the old ones were removed.
    let swap = directory.path().join("00000000000000000000-00000000000000000002.swap");
    fs::copy(name(1), swap).unwrap();
    let log = open(Some(directory.path()), settings());
    assert_eq!(values(&log), ["1", "2"]);
    assert!(!name(1).exists() && log.bounds() == (0, 3, 3));
}
