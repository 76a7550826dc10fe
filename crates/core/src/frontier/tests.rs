use std::collections::BTreeSet;

use proptest::prelude::*;

use super::metadata::{LIMIT, Size, Unreadable, decode, encode};
use super::*;

fn offsets(ranges: &[Range<i64>]) -> BTreeSet<i64> {
    ranges.iter().cloned().flatten().collect()
}

/// Ranges above `from`, from alternating lengths.
fn ranges_of(from: i64, lengths: &[(i64, i64)]) -> Vec<Range<i64>> {
    let mut at = from;
    let range = |(gap, run): &(i64, i64)| {
        let start = at + gap;
        at = start + run;
        start..at
    };
    lengths.iter().map(range).collect()
}

fn offset_to_commit(f: &Frontier) -> Option<i64> {
    f.to_commit(LIMIT).map(|s| s.offset)
}

#[test]
fn the_lowest_open_offset_holds_the_frontier() {
    let mut f = Frontier::new(10, Some(10));
    for o in [10, 11, 15] {
        assert!(f.receive(o));
    }
    assert_eq!(f.to_commit(LIMIT), None, "nothing has changed");
    assert!(f.done(11) && f.done(15));
    let snapshot = f.to_commit(LIMIT).unwrap();
    assert_eq!(snapshot.offset, 10);
    assert_eq!(offsets(&decode(10, &snapshot.metadata).unwrap()), (11..=15).collect(), "12 to 14 were never received");
    f.committed(&snapshot);
    assert_eq!(f.to_commit(LIMIT), None);
    assert!(f.done(10));
    let snapshot = f.to_commit(LIMIT).unwrap();
    assert_eq!((snapshot.offset, snapshot.metadata.as_str()), (16, ""));
    f.committed(&snapshot);
    assert_eq!(f.to_commit(LIMIT), None);
}

#[test]
fn a_group_without_a_commit_commits_its_start() {
    let mut f = Frontier::new(0, None);
    let snapshot = f.to_commit(LIMIT).unwrap();
    assert_eq!(snapshot.offset, 0);
    f.committed(&snapshot);
    assert_eq!(f.to_commit(LIMIT), None);
    // A committed offset that the log no longer has: reading starts elsewhere, and says so.
    assert_eq!(offset_to_commit(&Frontier::new(7, Some(3))), Some(7));
}

#[test]
fn a_gap_moves_the_frontier_only_when_nothing_is_open() {
    let mut f = Frontier::new(0, None);
    f.receive(0);
    f.skip_to(9);
    assert_eq!(f.offset(), 0);
    f.done(0);
    assert_eq!(f.offset(), 9);
    assert!(!f.receive(3), "before the position: a repeat");
}

#[test]
fn what_was_done_before_is_not_worked_on_again() {
    let mut f = Frontier::new(100, Some(100));
    f.restore(vec![102..105, 200..201]);
    let worked: Vec<i64> = (100..110).filter(|o| f.receive(*o)).collect();
    assert_eq!(worked, [100, 101, 105, 106, 107, 108, 109]);
    assert_eq!(f.done_above(), [102..105, 200..201], "kept, also what was not read again yet");
    assert_eq!(f.highest_done(), Some(200));
    assert!(f.done(101) && f.done(100));
    let snapshot = f.to_commit(LIMIT).unwrap();
    assert_eq!(snapshot.offset, 105);
    assert_eq!(decode(105, &snapshot.metadata).unwrap(), [200..201]);
    (105..110).for_each(|o| assert!(f.done(o)));
    f.skip_to(300);
    assert_eq!((f.offset(), f.done_above()), (300, vec![]), "passed by: no record was left of it");
}

#[test]
fn one_slow_record_costs_no_memory_for_those_behind_it() {
    let mut f = Frontier::new(0, None);
    (0..1_000_000).for_each(|o| assert!(f.receive(o)));
    (1..1_000_000).for_each(|o| assert!(f.done(o)));
    assert_eq!(f.done_above(), [1..1_000_000]);
    let text = f.to_commit(LIMIT).unwrap().metadata;
    assert!(text.len() < 40, "{text}");
    assert!(!f.is_full(LIMIT));
}

#[test]
fn it_is_full_at_three_quarters_and_not_before() {
    let mut f = Frontier::new(0, None);
    // Every second record takes long: no run is longer than one, and a bitmap is the smaller form.
    (0..40_000).for_each(|o| assert!(f.receive(o)));
    let full_at = (1..40_000).step_by(2).find(|o| {
        f.done(*o);
        f.is_full(LIMIT)
    });
    let size = f.to_commit(usize::MAX).unwrap().metadata.len();
    assert!(full_at.is_some());
    assert!((3072..3080).contains(&size), "{size}");
    assert_eq!(size, Size::of(0, &f.done_above()));
    assert!(f.done(0));
    (2..2_000).step_by(2).for_each(|o| assert!(f.done(o)));
    assert!(!f.is_full(LIMIT));
}

#[test]
fn what_others_wrote_is_not_used() {
    let ours = encode(7, &[9..12], LIMIT);
    assert_eq!(decode(7, &ours), Ok(vec![9..12]));
    assert_eq!(decode(7, ""), Ok(vec![]));
    for foreign in ["kafka-ui", "anabranch-done", "{\"offset\":7}", "\u{1f980}", "anabranch-done;1:AAAA"] {
        assert_eq!(decode(7, foreign), Err(Unreadable::Foreign), "{foreign}");
    }
    let newer = ours.replace(":1:", ":2:");
    assert_eq!(decode(7, &newer), Err(Unreadable::Version("2".into())));
    assert_eq!(decode(8, &ours), Err(Unreadable::Corrupt), "another offset's");
    for cut in "anabranch-done:1:".len()..ours.len() {
        assert_eq!(decode(7, &ours[..cut]), Err(Unreadable::Corrupt));
    }
    let huge = format!("anabranch-done:1:{}", "A".repeat(1 << 20));
    assert_eq!(decode(7, &huge), Err(Unreadable::Corrupt));
}

proptest! {
    #[test]
    fn never_passes_an_open_offset(gaps in prop::collection::vec(1i64..4, 1..60), order in any::<u64>()) {
        let mut f = Frontier::new(0, None);
        let mut open = BTreeSet::new();
        let mut at = -1;
        for gap in gaps {
            at += gap;
            prop_assert!(f.receive(at));
            open.insert(at);
        }
        let mut seed = order;
        while !open.is_empty() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = *open.iter().nth((seed >> 33) as usize % open.len()).unwrap();
            open.remove(&pick);
            prop_assert!(f.done(pick));
            prop_assert!(!f.done(pick));
            prop_assert_eq!(f.offset(), open.first().copied().unwrap_or(at + 1));
            prop_assert_eq!(f.open(), open.len());
            prop_assert!(offsets(&f.done_above()).is_disjoint(&open));
            prop_assert!(f.highest_done().is_none_or(|h| h > f.offset() && !open.contains(&h)));
        }
    }

    #[test]
    fn metadata_round_trips(from in 0i64..1 << 50, lengths in prop::collection::vec((1i64..400, 1i64..400), 0..300)) {
        let done = ranges_of(from, &lengths);
        let text = encode(from, &done, usize::MAX);
        prop_assert!(text.is_ascii());
        prop_assert_eq!(text.len(), Size::of(from, &done));
        prop_assert_eq!(decode(from, &text), Ok(done));
    }

    #[test]
    fn it_never_exceeds_the_limit_and_never_says_too_much(
        lengths in prop::collection::vec((1i64..40, 1i64..40), 0..2_500),
        limit in 0usize..=LIMIT,
    ) {
        let done = ranges_of(5, &lengths);
        let text = encode(5, &done, limit);
        prop_assert!(text.len() <= limit);
        let read = offsets(&decode(5, &text).unwrap());
        let all = offsets(&done);
        prop_assert!(read.is_subset(&all));
        prop_assert!(read.iter().eq(all.iter().take(read.len())), "the lowest are kept");
    }

    #[test]
    fn a_restart_repeats_nothing_done_and_loses_nothing_undone(
        gaps in prop::collection::vec(1i64..4, 1..200),
        picks in prop::collection::vec(any::<bool>(), 200),
        read_again in 0usize..200,
    ) {
        let mut at = -1;
        let received: Vec<i64> = gaps.iter().map(|gap| { at += gap; at }).collect();
        let mut f = Frontier::new(0, None);
        let mut undone = BTreeSet::new();
        for (offset, done) in received.iter().zip(&picks) {
            f.receive(*offset);
            if *done { f.done(*offset); } else { undone.insert(*offset); }
        }
        // Two restarts in a row, the first after reading only part of it again.
        for stop in [read_again, usize::MAX] {
            let Some(snapshot) = f.to_commit(LIMIT) else { continue };
            let mut next = Frontier::new(snapshot.offset, Some(snapshot.offset));
            next.restore(decode(snapshot.offset, &snapshot.metadata).unwrap());
            let again = received.iter().copied().filter(|o| *o >= snapshot.offset).take(stop);
            let mut worked = BTreeSet::new();
            let mut last = snapshot.offset;
            for offset in again {
                last = offset + 1;
                if next.receive(offset) { worked.insert(offset); }
            }
            let expected: BTreeSet<i64> = undone.range(..last).copied().collect();
            prop_assert_eq!(&worked, &expected);
            if let Some(first) = worked.first() {
                next.done(*first);
                undone.remove(first);
            }
            f = next;
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}", data in prop::collection::vec(any::<u8>(), 0..200), at in any::<i64>()) {
        let _ = decode(at, &text);
        let framed = format!("anabranch-done:1:{}", base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &data));
        let _ = decode(at, &framed);
        // With a checksum that fits, so that what is behind it is reached.
        let sum = crc32c::crc32c_append(crc32c::crc32c(&at.to_le_bytes()), &data).to_le_bytes();
        let whole: Vec<u8> = data.iter().copied().chain(sum).collect();
        let framed = format!("anabranch-done:1:{}", base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &whole));
        if let Ok(ranges) = decode(at, &framed) {
            prop_assert!(ranges.iter().all(|r| r.start >= at && r.start < r.end));
            prop_assert!(ranges.windows(2).all(|w| w[0].end < w[1].start));
        }
    }
}
