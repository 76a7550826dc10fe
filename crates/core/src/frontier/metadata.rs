//! What is done above the frontier, as the text of a commit's metadata.
//!
//! ```text
//! anabranch-done:1:<base64url( kind, body, crc32c )>
//! ```
//!
//! *kind* 0: *body* is a bitmap, bit 0 of byte 0 being the committed offset. *kind* 1: *body* is LEB128 numbers, in
//! turns the length of what is not done and of what is, from the committed offset on. The smaller one is written. The
//! checksum covers the committed offset too: a text that was copied to another offset would name the wrong records, and
//! is refused.
//!
//! Metadata may be anybody's. What cannot be read is never guessed at: its reader replays from the committed offset.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// `offset.metadata.max.bytes`, as brokers have it by default.
pub const LIMIT: usize = 4096;

const MAGIC: &str = "anabranch-done:";
const VERSION: &str = "1";
/// Magic, version, colon.
const PREFIX_LEN: usize = MAGIC.len() + VERSION.len() + 1;
const BITMAP: u8 = 0;
const RUNS: u8 = 1;
/// Kind and checksum.
const FRAME_LEN: usize = 5;
/// A longer text is nobody's that this version knows.
const MAX_TEXT: usize = 64 * 1024;

/// Why metadata is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Somebody else wrote it.
    #[error("it was not written by this runtime")]
    Foreign,
    /// A newer version wrote it.
    #[error("it has version {0}, and this version reads {VERSION}")]
    Version(String),
    /// It is damaged, or belongs to another offset.
    #[error("it is damaged or belongs to another offset")]
    Corrupt,
}

/// How large a text gets.
pub(super) struct Size;

impl Size {
    /// Bytes of the text for `done` above `offset`, if nothing is left out.
    pub(super) fn of(offset: i64, done: &[Range<i64>]) -> usize {
        let Some(last) = done.last() else { return 0 };
        text_len(bitmap_len(last.end - offset).min(runs_len(offset, done)))
    }

    /// A bound, without looking: for `span` offsets with at most `ranges` ranges of done ones.
    pub(super) fn at_most(span: i64, ranges: usize) -> usize {
        let runs = ranges.saturating_mul(2 * varint_len(span.unsigned_abs()));
        text_len(bitmap_len(span).min(runs))
    }
}

fn text_len(body: usize) -> usize {
    PREFIX_LEN.saturating_add((body.saturating_add(FRAME_LEN)).saturating_mul(4).div_ceil(3))
}

fn bitmap_len(span: i64) -> usize {
    usize::try_from(span.max(0)).unwrap_or(usize::MAX).div_ceil(8)
}

fn varint_len(number: u64) -> usize {
    (64 - number.leading_zeros() as usize).max(1).div_ceil(7)
}

/// The numbers of the run-length form, two for each range.
fn runs(offset: i64, done: &[Range<i64>]) -> impl Iterator<Item = [u64; 2]> + '_ {
    let starts = std::iter::once(offset).chain(done.iter().map(|range| range.end));
    starts.zip(done).map(|(at, range)| [(range.start - at).unsigned_abs(), (range.end - range.start).unsigned_abs()])
}

fn runs_len(offset: i64, done: &[Range<i64>]) -> usize {
    runs(offset, done).flatten().map(varint_len).sum()
}

/// The text for `done`, ascending ranges that do not touch, none below `offset`; empty for none. Where `limit` bytes do
/// not hold all of it, the highest offsets are left out: they are done again, which is safe.
pub fn encode(offset: i64, done: &[Range<i64>], limit: usize) -> String {
    let chars = limit.saturating_sub(PREFIX_LEN);
    let room = (chars - chars.div_ceil(4)).saturating_sub(FRAME_LEN);
    let Some(last) = done.last().filter(|_| room > 0) else { return String::new() };
    let (as_bitmap, as_runs) = (bitmap_len(last.end - offset), runs_len(offset, done));
    if as_bitmap.min(as_runs) <= room {
        return if as_runs <= as_bitmap { with_runs(offset, done) } else { with_bitmap(offset, done) };
    }
    let (few, clipped) = (fitting_runs(offset, done, room), clipped(offset, done, room));
    if count(few) >= count(&clipped) { with_runs(offset, few) } else { with_bitmap(offset, &clipped) }
}

fn count(done: &[Range<i64>]) -> i64 {
    done.iter().map(|range| range.end - range.start).sum()
}

/// The first ranges that `room` bytes hold in run-length form.
fn fitting_runs(offset: i64, done: &[Range<i64>], room: usize) -> &[Range<i64>] {
    let lengths = runs(offset, done).map(|pair| pair.into_iter().map(varint_len).sum::<usize>());
    let ends = lengths.scan(0, |end, len| {
        *end += len;
        Some(*end)
    });
    &done[..ends.take_while(|end| *end <= room).count()]
}

/// What lies within a bitmap of `room` bytes.
fn clipped(offset: i64, done: &[Range<i64>], room: usize) -> Vec<Range<i64>> {
    let end = offset.saturating_add(i64::try_from(room).unwrap_or(i64::MAX).saturating_mul(8));
    done.iter().map(|range| range.start..range.end.min(end)).take_while(|range| !range.is_empty()).collect()
}

fn with_runs(offset: i64, done: &[Range<i64>]) -> String {
    let mut body = vec![RUNS];
    for mut number in runs(offset, done).flatten() {
        while number >= 0x80 {
            body.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        body.push(number as u8);
    }
    text(offset, body, done)
}

fn with_bitmap(offset: i64, done: &[Range<i64>]) -> String {
    let bytes = done.last().map_or(0, |last| bitmap_len(last.end - offset));
    let mut body = vec![0; bytes + 1];
    body[0] = BITMAP;
    for at in done.iter().cloned().flatten() {
        let bit = (at - offset).unsigned_abs() as usize;
        body[1 + bit / 8] |= 1 << (bit % 8);
    }
    text(offset, body, done)
}

fn text(offset: i64, mut body: Vec<u8>, done: &[Range<i64>]) -> String {
    if done.is_empty() {
        return String::new();
    }
    let checksum = checksum(offset, &body);
    body.extend(checksum.to_le_bytes());
    format!("{MAGIC}{VERSION}:{}", URL_SAFE_NO_PAD.encode(body))
}

fn checksum(offset: i64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), body)
}

/// What `text`, committed with `offset`, says is done: ascending ranges that do not touch. Nothing for an empty text.
///
/// # Errors
/// Why the text is not used. It never panics, and takes no more memory than a few times the text.
pub fn decode(offset: i64, text: &str) -> Result<Vec<Range<i64>>, Unreadable> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let (version, data) = text.strip_prefix(MAGIC).and_then(|rest| rest.split_once(':')).ok_or(Unreadable::Foreign)?;
    if version != VERSION {
        return Err(Unreadable::Version(version.chars().take(16).collect()));
    }
    if data.len() > MAX_TEXT {
        return Err(Unreadable::Corrupt);
    }
    let bytes = URL_SAFE_NO_PAD.decode(data).map_err(|_| Unreadable::Corrupt)?;
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Unreadable::Corrupt)?;
    if checksum(offset, body) != u32::from_le_bytes(*sum) {
        return Err(Unreadable::Corrupt);
    }
    let ranges = match body.split_first() {
        Some((&BITMAP, bits)) => read_bitmap(offset, bits),
        Some((&RUNS, numbers)) => read_runs(offset, numbers),
        _ => None,
    };
    ranges.ok_or(Unreadable::Corrupt)
}

fn read_bitmap(offset: i64, bits: &[u8]) -> Option<Vec<Range<i64>>> {
    offset.checked_add(i64::try_from(bits.len()).ok()?.checked_mul(8)?)?;
    let mut ranges: Vec<Range<i64>> = Vec::new();
    let set = (0..bits.len() * 8).filter(|bit| bits[bit / 8] & (1 << (bit % 8)) != 0);
    for at in set.map(|bit| offset + bit as i64) {
        match ranges.last_mut() {
            Some(last) if last.end == at => last.end = at + 1,
            _ => ranges.push(at..at + 1),
        }
    }
    Some(ranges)
}

fn read_runs(offset: i64, numbers: &[u8]) -> Option<Vec<Range<i64>>> {
    let (mut at, mut rest, mut ranges) = (offset, numbers, Vec::new());
    while !rest.is_empty() {
        let start = at.checked_add(read_varint(&mut rest)?)?;
        let end = start.checked_add(read_varint(&mut rest)?)?;
        // Ranges have a length, and only the first may begin where counting does.
        if end == start || (start == at && !ranges.is_empty()) {
            return None;
        }
        ranges.push(start..end);
        at = end;
    }
    Some(ranges)
}

fn read_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut number: u64 = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return i64::try_from(number).ok();
        }
    }
    None
}
