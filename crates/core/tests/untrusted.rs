//! Anybody may commit anything as a group's offset metadata: no panic, bounded memory, and a frontier that holds.
//! How to run it longer: `crates/fuzz`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::single_range_in_vec_init, reason = "a range is what is meant")]

use anabranch_core::frontier::{Frontier, metadata};
use anabranch_fuzz::Fuzz;

/// Eight bytes of offset, then the text.
fn input(offset: i64, text: &str) -> Vec<u8> {
    [&offset.to_be_bytes()[..], text.as_bytes()].concat()
}

fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = vec![input(0, ""), input(7, "somebody else's"), input(-1, "ab1:"), input(i64::MAX, "ab1:AAAA")];
    for offset in [0, 41, 1 << 40, i64::MAX - 2_000] {
        let every_other: Vec<_> = (1..500).map(|n| offset + 2 * n..offset + 2 * n + 1).collect();
        for done in [vec![offset + 3..offset + 9], vec![offset..offset + 1, offset + 900..offset + 1_000], every_other]
        {
            corpus.push(input(offset, &metadata::encode(offset, &done, 4_096)));
        }
    }
    corpus
}

fn restores(offset: i64, text: &str) {
    let Ok(done) = metadata::decode(offset, text) else { return };
    for pair in done.windows(2) {
        assert!(pair[0].end < pair[1].start, "{pair:?}");
    }
    assert!(done.iter().all(|range| range.start >= offset && range.start < range.end), "{done:?}");
    // What it says is said again in the same way, and a frontier that begins with it neither moves nor forgets.
    assert_eq!(metadata::decode(offset, &metadata::encode(offset, &done, 1 << 20)).unwrap(), done);
    let mut frontier = Frontier::new(offset, Some(offset));
    frontier.restore(done.clone());
    let Some(end) = offset.checked_add(20) else { return };
    let is_done = |at: &i64| done.iter().any(|range| range.contains(at));
    for at in offset..end {
        assert_eq!(frontier.receive(at), !is_done(&at), "{at} of {done:?}");
    }
    if let Some(lowest) = (offset..end).find(|at| !is_done(at)) {
        assert_eq!(frontier.offset(), lowest, "{done:?}");
    }
}

#[test]
fn any_offset_metadata() {
    Fuzz::new("any offset metadata").corpus(corpus()).allocating(200, 64 << 10).run(|input| {
        let Some((offset, text)) = input.split_first_chunk::<8>() else { return };
        restores(i64::from_be_bytes(*offset), &String::from_utf8_lossy(text));
    });
}

/// The checksum keeps chance away from what is behind it; here it is made right.
#[test]
fn any_offset_metadata_with_its_checksum_right() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let bodies = corpus().into_iter().filter_map(|input| {
        let (offset, text) = input.split_first_chunk::<8>()?;
        let data = std::str::from_utf8(text).ok()?.rsplit_once(':')?.1;
        let body = URL_SAFE_NO_PAD.decode(data).ok()?;
        Some([&offset[..], body.get(..body.len().checked_sub(4)?)?].concat())
    });
    let corpus: Vec<_> = bodies.collect();
    assert!(corpus.len() > 8, "{}", corpus.len());
    Fuzz::new("any offset metadata with its checksum right").corpus(corpus).allocating(400, 64 << 10).run(|input| {
        let Some((offset, body)) = input.split_first_chunk::<8>() else { return };
        let sum = crc32c::crc32c_append(crc32c::crc32c(&i64::from_be_bytes(*offset).to_le_bytes()), body);
        let text = format!("{}{}", prefix(), URL_SAFE_NO_PAD.encode([body, &sum.to_le_bytes()].concat()));
        restores(i64::from_be_bytes(*offset), &text);
    });
}

/// Magic and version, whatever they are.
fn prefix() -> String {
    let text = metadata::encode(0, &[2..3], 4_096);
    text[..=text.rfind(':').unwrap()].to_owned()
}
