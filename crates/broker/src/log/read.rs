//! Reading a log: whole batches from an offset on, and look-ups by time.

use std::io;

use bytes::Bytes;

use super::{
    batch::{Batches, HEADER, Header},
    codec,
    core::Log,
    records::Records,
    segment::Segment,
};

/// How far before the wanted batch the index may point.
const SLACK: usize = 8192;

/// What a look-up by time found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
}

impl Log {
    /// Whole batches from the one that holds `from` on, none at or after `limit`. Stays within `max_bytes`, but for
    /// the first batch if `at_least_one` is set.
    pub(super) fn read(&self, from: i64, limit: i64, max_bytes: usize, at_least_one: bool) -> io::Result<Bytes> {
        for segment in self.segments().filter(|segment| segment.next_offset() > from) {
            if segment.base_offset() >= limit {
                break;
            }
            let found = read_segment(segment, from, limit, max_bytes, at_least_one)?;
            match found {
                Reading::Past => {}
                Reading::Batches(bytes) => return Ok(bytes),
            }
        }
        Ok(Bytes::new())
    }

    /// The first record with a timestamp of at least `timestamp`, below `limit`.
    pub(super) fn find_time(&self, timestamp: i64, limit: i64) -> io::Result<Option<Found>> {
        for segment in self.segments().filter(|segment| segment.latest() >= timestamp) {
            let mut position = segment.position_of_time(timestamp);
            while let Some(header) = segment.header_at(position)? {
                if header.base_offset >= limit {
                    return Ok(None);
                }
                if header.max_timestamp >= timestamp && header.next_offset() > self.start() && !header.is_control() {
                    let batch = segment.read(position, header.size)?;
                    let first = |found: &Found| found.timestamp >= timestamp && found.offset >= self.start();
                    if let Some(found) = times(&header, &batch).into_iter().find(first) {
                        return Ok(Some(found));
                    }
                }
                position += header.size as u64;
            }
        }
        Ok(None)
    }

    /// The record with the latest timestamp below `limit`; of several the first.
    pub(super) fn find_latest(&self, limit: i64) -> io::Result<Option<Found>> {
        let latest = self.segments().filter(|segment| segment.base_offset() < limit).map(Segment::latest).max();
        match latest {
            Some(latest) if latest >= 0 => self.find_time(latest, limit),
            _ => Ok(None),
        }
    }
}

enum Reading {
    /// The segment has nothing at or after the offset.
    Past,
    Batches(Bytes),
}

fn read_segment(segment: &Segment, from: i64, limit: i64, max_bytes: usize, at_least_one: bool) -> io::Result<Reading> {
    let mut position = segment.position_of(from);
    let mut window = segment.read(position, max_bytes.saturating_add(SLACK))?;
    // Skip what lies before the wanted batch; a batch larger than the window is stepped over by its header.
    let first = loop {
        let header = match Header::parse(&window) {
            Some(header) => header,
            None => match segment.header_at(position)? {
                Some(header) => header,
                None => return Ok(Reading::Past),
            },
        };
        if header.last_offset() >= from {
            break header;
        }
        position += header.size as u64;
        window = if window.len() >= header.size { window.slice(header.size..) } else { Bytes::new() };
    };
    if first.base_offset >= limit || (first.size > max_bytes && !at_least_one) {
        return Ok(Reading::Batches(Bytes::new()));
    }
    if window.len() < first.size.max(HEADER) {
        window = segment.read(position, first.size.max(max_bytes))?;
    }
    let mut taken = 0;
    for (header, _) in Batches::new(window.clone()) {
        if header.base_offset >= limit || (taken > 0 && taken + header.size > max_bytes) {
            break;
        }
        taken += header.size;
    }
    Ok(Reading::Batches(window.slice(..taken)))
}

/// Offset and timestamp of each record. Nothing if the batch cannot be read, which an append has ruled out.
fn times(header: &Header, batch: &[u8]) -> Vec<Found> {
    let appended = header.attributes & (1 << 3) != 0;
    let Ok(body) = codec::unfold(header.codec(), batch.get(HEADER..).unwrap_or_default()) else { return Vec::new() };
    let time = |delta: i64| if appended { header.max_timestamp } else { header.base_timestamp.saturating_add(delta) };
    Records::new(&body)
        .map_while(Result::ok)
        .map(|r| Found { offset: header.base_offset + i64::from(r.offset_delta), timestamp: time(r.timestamp_delta) })
        .collect()
}
