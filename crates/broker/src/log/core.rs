//! The state of one partition, behind its lock: segments and producers.

use std::{collections::VecDeque, io, path::PathBuf};

use super::{
    LEADER_EPOCH,
    batch::{self, Header},
    producers::Producers,
    segment::Segment,
};
use crate::ports::Marker;

/// One partition's log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(super) directory: Option<PathBuf>,
    pub(super) closed: VecDeque<Segment>,
    pub(super) active: Segment,
    pub(super) log_start: i64,
    pub(super) producers: Producers,
    /// Below this everything is compacted.
    pub(super) cleaned_to: i64,
    /// When compaction has something to remove again, though nothing is dirty.
    pub(super) horizon: Option<i64>,
    /// Goes up whenever closed segments go away or change.
    pub(super) generation: u64,
    /// Its topic is deleted.
    pub(super) gone: bool,
}

impl Log {
    /// An empty log.
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self {
            active: Segment::new(directory.as_deref(), 0),
            directory,
            closed: VecDeque::new(),
            log_start: 0,
            producers: Producers::default(),
            cleaned_to: 0,
            horizon: None,
            generation: 0,
            gone: false,
        }
    }

    /// The offset the next record gets; the high watermark too, as there is one replica.
    pub(crate) fn end(&self) -> i64 {
        self.active.next_offset()
    }

    pub(crate) fn start(&self) -> i64 {
        self.log_start
    }

    /// Below this every transaction has ended.
    pub(crate) fn stable(&self) -> i64 {
        self.producers.first_open().unwrap_or_else(|| self.end())
    }

    pub(super) fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.closed.iter().chain(std::iter::once(&self.active))
    }

    /// Bytes in all segments.
    pub(crate) fn size(&self) -> u64 {
        self.segments().map(Segment::len).sum()
    }

    /// Appends a checked batch: gives it its offsets, and rolls the segment where the settings ask for it.
    pub(super) fn append(&mut self, bytes: &mut [u8], segment_bytes: u64, now: i64) -> io::Result<Header> {
        batch::place(bytes, self.end(), LEADER_EPOCH);
        let header = Header::parse(bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        if self.active.len() + header.size as u64 > segment_bytes {
            self.roll();
        }
        self.active.append(&header, bytes, now)?;
        if header.is_control() {
            self.note_marker(&header, bytes, now);
        } else {
            self.producers.appended(&header, now);
        }
        Ok(header)
    }

    /// Appends the marker of an ended transaction. `false` if a newer epoch of the producer has taken over.
    pub(super) fn append_marker(&mut self, marker: Marker, segment_bytes: u64, now: i64) -> io::Result<bool> {
        if self.producers.outdates(marker.producer) {
            return Ok(false);
        }
        self.append(&mut batch::marker(marker, now), segment_bytes, now)?;
        Ok(true)
    }

    /// Takes note of a control batch that is in the log.
    pub(super) fn note_marker(&mut self, header: &Header, bytes: &[u8], now: i64) {
        let Some(commit) = batch::marker_commits(bytes) else { return };
        let epoch = bytes.len().checked_sub(5).and_then(|at| bytes.get(at..at + 4));
        let epoch = epoch.and_then(|epoch| epoch.try_into().ok()).map_or(-1, i32::from_be_bytes);
        let producer = crate::ports::Producer { id: header.producer_id, epoch: header.producer_epoch };
        self.producers.ended(producer, commit, epoch, header.base_offset, now);
    }

    /// Closes the active segment, if it has anything.
    pub(super) fn roll(&mut self) {
        if self.active.is_empty() {
            return;
        }
        let next = Segment::new(self.directory.as_deref(), self.active.next_offset());
        let mut full = std::mem::replace(&mut self.active, next);
        full.close();
        self.closed.push_back(full);
    }

    /// Moves the start of the log up. What is wholly below it is removed.
    pub(super) fn move_start(&mut self, offset: i64) -> io::Result<()> {
        if offset <= self.log_start {
            return Ok(());
        }
        if let Some(directory) = &self.directory {
            super::recovery::save_start(directory, offset)?;
        }
        self.log_start = offset;
        if self.end() == offset {
            self.roll();
        }
        while let Some(segment) = self.closed.front_mut().filter(|segment| segment.next_offset() <= offset) {
            segment.remove()?;
            self.closed.pop_front();
            self.generation += 1;
        }
        self.cleaned_to = self.cleaned_to.max(offset);
        self.producers.forget_before(offset);
        Ok(())
    }
}
