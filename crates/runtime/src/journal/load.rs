//! Reading journals: from the committed position to the line that says that this process has taken over, and never what
//! lies below.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_core::journal::{Applied, Journal, Line, Position};
use anabranch_kafka::{
    CommittedOffset, Error, ErrorKind, FetchConfig, Fetched, Isolation, OutRecord, Position as ReadFrom, Record,
    TopicPartition,
};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::partition::{Partition, Phase};
use super::{Shared, lock};

/// Wait before the broker is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Read at once of each partition.
const READ_BYTES: i32 = 1024 * 1024;
/// What a commit's metadata begins with; the run that counts at the position follows.
const METADATA: &str = "anabranch-journal:1:";
/// Kafka's code for an offset that the log does not have.
const OUT_OF_RANGE: i16 = 1;
/// Times in a row that a batch may be found corrupt before the journal counts as broken.
const CORRUPT_TRIES: u32 = 3;

/// What is committed with a position.
pub(super) fn metadata(position: &Position) -> String {
    position.run.as_ref().map(|run| format!("{METADATA}{run}")).unwrap_or_default()
}

fn position(tp: &TopicPartition, committed: &CommittedOffset) -> Position {
    let run = committed.metadata.strip_prefix(METADATA).map(Arc::from);
    if run.is_none() && !committed.metadata.is_empty() {
        tracing::warn!(%tp, "the metadata of the journal's position is not ours, and is not used");
    }
    Position { offset: committed.offset.max(0), run }
}

/// Reads the journals of partitions that came. Of tasks that nobody works on yet, each holds at most `share` bytes.
pub(super) async fn load(shared: Arc<Shared>, partitions: Vec<Arc<Partition>>, share: usize) {
    let started = std::time::Instant::now();
    if let Err(why) = load_all(&shared, &partitions, share).await {
        tracing::error!(topic = &*shared.topic, error = why, "the journal cannot be used");
        partitions.iter().for_each(|partition| partition.enter(Phase::Broken(why.clone())));
        return;
    }
    let open: usize = partitions.iter().map(|partition| partition.log().open_tasks()).sum();
    let (count, took_ms) = (partitions.len(), started.elapsed().as_millis() as u64);
    tracing::info!(partitions = count, open_tasks = open, took_ms, "journal read");
}

async fn load_all(shared: &Shared, partitions: &[Arc<Partition>], share: usize) -> Result<(), String> {
    let tps: Vec<TopicPartition> = partitions.iter().map(|partition| partition.tp.clone()).collect();
    let committed = patiently(partitions, || shared.committer.committed(&tps).boxed()).await?;
    let Some(committed) = committed else { return Ok(()) };
    let Some(ends) = open(shared, partitions).await? else { return Ok(()) };
    let admin = shared.cluster.admin();
    loop {
        let begins = patiently(partitions, || admin.earliest_offsets(&tps).boxed()).await?;
        let Some(begins) = begins else { return Ok(()) };
        let mut left = HashMap::new();
        for (partition, end) in partitions.iter().zip(&ends) {
            let begin = begins.get(&partition.tp).copied().unwrap_or(0);
            let from = committed.get(&partition.tp).map(|c| position(&partition.tp, c));
            *lock(&partition.committed) = from.clone();
            // Retention was faster, or the topic was made anew: what counted there is not known any more.
            let from = from.filter(|p| p.offset >= begin && p.offset <= *end);
            let from = from.unwrap_or(Position { offset: begin, run: None });
            let offset = from.offset;
            *partition.log() = Journal::at(from);
            left.insert(partition.tp.clone(), Reading { partition, offset, end: *end });
        }
        if read_all(shared, partitions, left, share).await? {
            return Ok(());
        }
        tracing::info!(topic = &*shared.topic, "the journal was trimmed while it was read; reading it again");
    }
}

/// Says that this process has taken over. Where, by partition.
async fn open(shared: &Shared, partitions: &[Arc<Partition>]) -> Result<Option<Vec<i64>>, String> {
    let line = |partition: &Arc<Partition>| partition.record(&Line::Opened { run: partition.run.to_string() });
    let lines: Vec<OutRecord> = partitions.iter().map(line).collect::<Result<_, _>>()?;
    let opened = tokio::select! {
        opened = shared.emitter.emit(lines) => opened.map_err(|e| e.to_string())?,
        () = all_gone(partitions) => return Ok(None),
    };
    Ok(Some(opened.into_iter().map(|at| at.offset).collect()))
}

struct Reading<'a> {
    partition: &'a Arc<Partition>,
    /// Where reading begins.
    offset: i64,
    /// The line that ends it.
    end: i64,
}

/// Reads up to the ends. `false` if a log has lost its beginning meanwhile.
async fn read_all(
    shared: &Shared,
    partitions: &[Arc<Partition>],
    mut left: HashMap<TopicPartition, Reading<'_>>,
    share: usize,
) -> Result<bool, String> {
    let mut fetcher = shared.cluster.fetcher(config());
    for (tp, reading) in &left {
        fetcher.add(tp.clone(), ReadFrom::Offset(reading.offset));
    }
    let mut corrupt = 0;
    while !left.is_empty() {
        let fetched = tokio::select! {
            fetched = fetcher.next() => fetched,
            () = all_gone(partitions) => return Ok(true),
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) if error.code() == Some(OUT_OF_RANGE) => return Ok(false),
            Err(error) => {
                held_up(error, &mut corrupt).await?;
                continue;
            }
        };
        let tp = fetched.topic_partition();
        let Some(reading) = left.get(&tp) else { continue };
        let done = fetched.next_offset > reading.end;
        take_in(shared, &mut reading.partition.log(), fetched, reading.end);
        reading.partition.log().set_aside(share);
        if done {
            reading.partition.enter(Phase::Ready);
            fetcher.remove(&tp);
            left.remove(&tp);
        }
    }
    Ok(true)
}

/// Reads the part of a journal that holds the entries of one task which were set aside.
///
/// # Errors
/// What no waiting mends.
pub(super) async fn read_back(
    shared: &Shared,
    tp: &TopicPartition,
    from: Position,
    last: i64,
) -> Result<Journal, String> {
    let mut fetcher = shared.cluster.fetcher(config());
    fetcher.add(tp.clone(), ReadFrom::Offset(from.offset));
    let mut journal = Journal::at(from);
    let mut corrupt = 0;
    loop {
        match fetcher.next().await {
            Ok(fetched) => {
                let done = fetched.next_offset > last;
                take_in(shared, &mut journal, fetched, last);
                if done {
                    return Ok(journal);
                }
            }
            Err(error) if error.code() == Some(OUT_OF_RANGE) => {
                tracing::warn!(%tp, %error, "what was journaled of a task is not in the log any more; its steps are done again");
                return Ok(Journal::default());
            }
            Err(error) => held_up(error, &mut corrupt).await?,
        }
    }
}

fn config() -> FetchConfig {
    FetchConfig { isolation: Isolation::ReadUncommitted, max_partition_bytes: READ_BYTES, ..FetchConfig::default() }
}

/// Takes in what lies up to `end`, included.
fn take_in(shared: &Shared, journal: &mut Journal, fetched: Fetched, end: i64) {
    let metrics = &shared.metrics.journal;
    for record in fetched.records.into_iter().filter(|record| record.offset <= end) {
        let bytes = record.value.as_ref().map_or(0, Bytes::len);
        metrics.read_records.inc();
        metrics.read_bytes.inc_by(bytes as u64);
        match line(&record) {
            Ok(line) => {
                if journal.apply(record.offset, &line, bytes) == Applied::Fenced {
                    metrics.fenced.inc();
                }
            }
            Err(error) => {
                metrics.unreadable.inc();
                tracing::warn!(
                    topic = &*record.topic,
                    partition = record.partition,
                    offset = record.offset,
                    error,
                    "a record on the journal is not used"
                );
            }
        }
    }
}

fn line(record: &Record) -> Result<Line, String> {
    let value = record.value.as_deref().ok_or("it has no value")?;
    Line::read(value).map_err(|e| e.to_string())
}

/// Something is in the way of reading.
async fn held_up(error: Error, corrupt: &mut u32) -> Result<(), String> {
    if matches!(error.kind(), ErrorKind::CorruptBatch { .. }) {
        *corrupt += 1;
    }
    if error.is_fatal() || *corrupt >= CORRUPT_TRIES {
        return Err(error.to_string());
    }
    tracing::warn!(%error, "the journal cannot be read, trying again");
    tokio::time::sleep(AGAIN_AFTER).await;
    Ok(())
}

/// Asks until there is an answer. `None`: all partitions have left meanwhile.
async fn patiently<'a, T>(
    partitions: &[Arc<Partition>],
    ask: impl Fn() -> BoxFuture<'a, Result<T, Error>>,
) -> Result<Option<T>, String> {
    loop {
        let answer = tokio::select! {
            answer = ask() => answer,
            () = all_gone(partitions) => return Ok(None),
        };
        match answer {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) if error.is_fatal() => return Err(error.to_string()),
            Err(error) => tracing::warn!(%error, "the journal's position is not known yet, asking again"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn all_gone(partitions: &[Arc<Partition>]) {
    for partition in partitions {
        partition.gone().cancelled().await;
    }
}
