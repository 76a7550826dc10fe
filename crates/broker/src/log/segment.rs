//! A stretch of a log: bytes in a file or in memory, and a sparse index over them.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::batch::{HEADER, Header};

/// Bytes between two index entries.
const INDEX_STEP: u64 = 4096;

#[derive(Debug)]
enum Store {
    Memory(Vec<u8>),
    /// The handle is there from the first append until the segment is closed; other reads open the file for
    /// themselves, so that many idle partitions hold no descriptors.
    File {
        path: PathBuf,
        handle: Option<File>,
    },
}

#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    base_offset: i64,
    position: u64,
    /// The latest timestamp before this entry.
    latest_before: i64,
}

/// One segment. Its batches' offsets go up; they may have gaps.
#[derive(Debug)]
pub(crate) struct Segment {
    base_offset: i64,
    next_offset: i64,
    len: u64,
    index: Vec<IndexEntry>,
    latest: i64,
    /// When its first batch was appended, by the broker's clock.
    first_append: Option<i64>,
    store: Store,
}

/// Where a segment of a log in `directory` is kept.
pub(crate) fn file_name(directory: &Path, base_offset: i64) -> PathBuf {
    directory.join(format!("{base_offset:020}.log"))
}

impl Segment {
    /// An empty segment; in memory without a directory.
    pub(crate) fn new(directory: Option<&Path>, base_offset: i64) -> Self {
        let store = match directory {
            None => Store::Memory(Vec::new()),
            Some(directory) => Store::File { path: file_name(directory, base_offset), handle: None },
        };
        Self { base_offset, next_offset: base_offset, len: 0, index: Vec::new(), latest: -1, first_append: None, store }
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The latest timestamp of any record, -1 if there is none.
    pub(crate) fn latest(&self) -> i64 {
        self.latest
    }

    pub(crate) fn first_append(&self) -> Option<i64> {
        self.first_append
    }

    /// Appends one batch; on an error the segment is as it was.
    pub(crate) fn append(&mut self, header: &Header, bytes: &[u8], now: i64) -> io::Result<()> {
        match &mut self.store {
            Store::Memory(memory) => memory.extend_from_slice(bytes),
            Store::File { path, handle } => {
                let file = match handle {
                    Some(file) => file,
                    None => handle
                        .insert(OpenOptions::new().write(true).read(true).create(true).truncate(false).open(path)?),
                };
                if let Err(error) = file.write_all_at(bytes, self.len) {
                    file.set_len(self.len)?;
                    return Err(error);
                }
            }
        }
        self.note(header, now);
        Ok(())
    }

    /// Takes note of a batch that already is in the store, behind what is known.
    pub(crate) fn note(&mut self, header: &Header, now: i64) {
        if self.index.last().is_none_or(|last| self.len - last.position >= INDEX_STEP) {
            let entry = IndexEntry { base_offset: header.base_offset, position: self.len, latest_before: self.latest };
            self.index.push(entry);
        }
        self.first_append.get_or_insert(now);
        self.latest = self.latest.max(header.max_timestamp);
        self.len += header.size as u64;
        self.next_offset = header.next_offset();
    }

    /// Bytes at a position, fewer where the segment ends.
    pub(crate) fn read(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let length = length.min(left);
        let file = match &self.store {
            Store::Memory(memory) => {
                let start = usize::try_from(position).unwrap_or(usize::MAX);
                return Ok(Bytes::copy_from_slice(memory.get(start..start.saturating_add(length)).unwrap_or_default()));
            }
            Store::File { .. } if length == 0 => return Ok(Bytes::new()),
            Store::File { handle: Some(file), .. } => file,
            Store::File { path, handle: None } => &File::open(path)?,
        };
        let mut out = vec![0; length];
        file.read_exact_at(&mut out, position)?;
        Ok(out.into())
    }

    /// Lets go of the file handle: nothing will be appended any more.
    pub(crate) fn close(&mut self) {
        if let Store::File { handle, .. } = &mut self.store {
            *handle = None;
        }
    }

    /// Removes what the segment has on disk.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        self.close();
        match &self.store {
            Store::File { path, .. } if path.exists() => std::fs::remove_file(path),
            _ => Ok(()),
        }
    }

    /// A position at or before the batch that holds `offset`, near it.
    pub(crate) fn position_of(&self, offset: i64) -> u64 {
        let after = self.index.partition_point(|entry| entry.base_offset <= offset);
        after.checked_sub(1).map_or(0, |at| self.index[at].position)
    }

    /// A position at or before the first batch with a timestamp of at least `timestamp`.
    pub(crate) fn position_of_time(&self, timestamp: i64) -> u64 {
        let after = self.index.partition_point(|entry| entry.latest_before < timestamp);
        after.checked_sub(1).map_or(0, |at| self.index[at].position)
    }

    /// The header at a position that is known to start a batch.
    pub(crate) fn header_at(&self, position: u64) -> io::Result<Option<Header>> {
        Ok(Header::parse(&self.read(position, HEADER)?))
    }

    /// Writes a whole segment at once to `path` (or memory): what compaction makes.
    pub(crate) fn write(
        path: Option<PathBuf>,
        base_offset: i64,
        batches: &[(Header, Vec<u8>)],
        now: i64,
    ) -> io::Result<Self> {
        let mut memory = Vec::new();
        let mut segment = Self::new(None, base_offset);
        for (header, bytes) in batches {
            memory.extend_from_slice(bytes);
            segment.note(header, now);
        }
        segment.store = match path {
            None => Store::Memory(memory),
            Some(path) => {
                std::fs::write(&path, &memory)?;
                Store::File { path, handle: None }
            }
        };
        Ok(segment)
    }

    /// Says that the offsets up to `next_offset` belong to this segment, though the last may be gone.
    pub(crate) fn extend_to(&mut self, next_offset: i64) {
        self.next_offset = self.next_offset.max(next_offset);
    }

    /// Moves the file of a closed segment.
    pub(crate) fn rename(&mut self, to: PathBuf) -> io::Result<()> {
        if let Store::File { path, .. } = &mut self.store {
            std::fs::rename(&*path, &to)?;
            *path = to;
        }
        Ok(())
    }

    /// Says that something else has moved the file.
    pub(crate) fn moved_to(&mut self, to: PathBuf) {
        if let Store::File { path, .. } = &mut self.store {
            *path = to;
        }
    }

    /// Makes the file, if it is not there: its name keeps the end of the log.
    pub(crate) fn touch(&self) -> io::Result<()> {
        match &self.store {
            Store::File { path, .. } => OpenOptions::new().append(true).create(true).open(path).map(|_| ()),
            Store::Memory(_) => Ok(()),
        }
    }

    /// Cuts a file back to what is known of it.
    pub(crate) fn cut_tail(&mut self) -> io::Result<()> {
        match &self.store {
            Store::File { path, .. } => OpenOptions::new().write(true).open(path)?.set_len(self.len),
            Store::Memory(_) => Ok(()),
        }
    }

    /// Everything in the file at `path`.
    pub(crate) fn load(path: &Path) -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}
