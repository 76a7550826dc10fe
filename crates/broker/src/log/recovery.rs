//! Opening a log that an earlier process left behind, however it ended.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;

use super::{
    batch::{self, Batches},
    core::Log,
    now_ms,
    segment::{self, Segment},
};

const START_FILE: &str = "log-start";

/// Why a partition could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// Only the last segment can have been cut short by a crash; this one was damaged later.
    #[error("{path}: damaged at byte {position}, and it is not the last segment")]
    Damaged { path: PathBuf, position: u64 },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RecoveryError {
    let path = path.to_owned();
    move |source| RecoveryError::Io { path, source }
}

/// Keeps the log's start offset, so that it is either the old or the new one after a crash.
pub(super) fn save_start(directory: &Path, offset: i64) -> io::Result<()> {
    let partial = directory.join("log-start.partial");
    fs::write(&partial, offset.to_string())?;
    fs::rename(partial, directory.join(START_FILE))
}

fn load_start(directory: &Path) -> io::Result<i64> {
    match fs::read_to_string(directory.join(START_FILE)) {
        Ok(text) => text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Opens the log in a directory, which is made if it is not there. A torn tail is cut off.
pub(super) fn open(directory: &Path) -> Result<Log, RecoveryError> {
    fs::create_dir_all(directory).map_err(at(directory))?;
    finish_swaps(directory).map_err(at(directory))?;
    let mut log = Log::new(Some(directory.to_owned()));
    log.log_start = load_start(directory).map_err(at(directory))?;
    let bases = segment_bases(directory).map_err(at(directory))?;
    for (n, base) in bases.iter().enumerate() {
        let next = bases.get(n + 1);
        let mut segment = load_segment(&mut log, directory, *base, next.copied())?;
        match next {
            Some(next) => {
                segment.extend_to(*next);
                log.closed.push_back(segment);
            }
            None => log.active = segment,
        }
    }
    if let Some(first) = bases.first() {
        log.log_start = log.log_start.max(*first);
    }
    settle_start(&mut log).map_err(at(directory))?;
    Ok(log)
}

/// The end of the log is never below its start: a start that was saved over a tail now cut off begins a new segment.
fn settle_start(log: &mut Log) -> io::Result<()> {
    let start = log.log_start;
    if log.end() < start {
        log.active.remove()?;
        log.active = Segment::new(log.directory.as_deref(), start);
    }
    log.log_start = 0;
    log.move_start(start)
}

fn load_segment(log: &mut Log, directory: &Path, base: i64, next: Option<i64>) -> Result<Segment, RecoveryError> {
    let path = segment::file_name(directory, base);
    let bytes = Segment::load(&path).map_err(at(&path))?;
    let mut segment = Segment::new(Some(directory), base);
    let now = now_ms();
    for (header, batch) in Batches::new(bytes.clone()) {
        let in_order =
            header.base_offset >= segment.next_offset() && next.is_none_or(|next| header.next_offset() <= next);
        if !in_order || !batch::checksum_holds(&batch) {
            break;
        }
        segment.note(&header, now);
        if header.is_control() {
            log.note_marker(&header, &batch, now);
        } else {
            log.producers.appended(&header, now);
        }
    }
    let torn = bytes.len() as u64 - segment.len();
    if torn > 0 && next.is_some() {
        return Err(RecoveryError::Damaged { path, position: segment.len() });
    }
    if torn > 0 {
        warn!(path = %path.display(), bytes = torn, "cut off a torn tail");
        segment.cut_tail().map_err(at(&path))?;
    }
    Ok(segment)
}

fn segment_bases(directory: &Path) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|base| base.parse::<i64>().ok());
        bases.extend(base);
    }
    bases.sort_unstable();
    Ok(bases)
}

/// The file compaction writes while it works: worth nothing until it is renamed to [`swap_name`].
pub(super) fn cleaned_name(directory: &Path, base: i64) -> PathBuf {
    directory.join(format!("{base:020}.cleaned"))
}

/// A finished result of compaction that replaces all segments with a base in `base..end`.
pub(super) fn swap_name(directory: &Path, base: i64, end: i64) -> PathBuf {
    directory.join(format!("{base:020}-{end:020}.swap"))
}

/// Ends a compaction that a crash cut short: forward if its result was complete, else back.
fn finish_swaps(directory: &Path) -> io::Result<()> {
    let mut swaps = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".cleaned") {
            fs::remove_file(&path)?;
        } else if let Some((base, end)) = name.strip_suffix(".swap").and_then(|range| range.split_once('-'))
            && let (Ok(base), Ok(end)) = (base.parse(), end.parse())
        {
            swaps.push((path, base, end));
        }
    }
    swaps.into_iter().try_for_each(|(path, base, end)| swap_in(directory, &path, base, end))
}

/// Puts a finished result of compaction in the place of what it replaces.
pub(super) fn swap_in(directory: &Path, swap: &Path, base: i64, end: i64) -> io::Result<()> {
    for old in segment_bases(directory)?.into_iter().filter(|old| (base..end).contains(old)) {
        fs::remove_file(segment::file_name(directory, old))?;
    }
    fs::rename(swap, segment::file_name(directory, base))
}
