//! What waits in the retry topics when a partition comes: its keys have a predecessor there, and its tasks wait for it.
//!
//! It is also how repeats are told after a crash: a record that was put into a tier, and whose own offset was not
//! committed any more, is there twice. Of two records of one origin the one with more rounds is the later.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{Cluster, Error, FetchConfig, Fetched, Isolation, Position, TopicPartition};
use anabranch_protocol::retry;
use bytes::Bytes;

/// Wait between two tries while the broker is away.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// A record that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) tp: TopicPartition,
    pub(crate) offset: i64,
    pub(crate) key: Option<Bytes>,
    /// Offset in the tasks topic, and how often it was put into a tier; `None`: others wrote it.
    pub(crate) origin: Option<(i64, u32)>,
}

/// Reads what waits in partitions of retry topics of `home`, from these offsets to where they end now. However long it
/// takes: dropping the future gives up.
pub(crate) async fn read(cluster: Cluster, home: Arc<str>, from: Vec<(TopicPartition, i64)>) -> Vec<Seen> {
    loop {
        let read = async { follow(&cluster, &home, spans(&cluster, &from).await?).await };
        match read.await {
            Ok(seen) => return seen,
            Err(error) => tracing::warn!(%error, "cannot read what waits in the retry topics yet"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// What there is to read of each partition.
async fn spans(
    cluster: &Cluster,
    from: &[(TopicPartition, i64)],
) -> Result<BTreeMap<TopicPartition, std::ops::Range<i64>>, Error> {
    let tps: Vec<TopicPartition> = from.iter().map(|(tp, _)| tp.clone()).collect();
    let admin = cluster.admin();
    let ends = admin.end_offsets(&tps, Isolation::ReadUncommitted).await?;
    let begins = admin.earliest_offsets(&tps).await?;
    let at = |offsets: &BTreeMap<TopicPartition, i64>, tp| offsets.get(tp).copied().unwrap_or(0);
    let spans = from.iter().map(|(tp, start)| (tp.clone(), (*start).max(at(&begins, tp))..at(&ends, tp)));
    Ok(spans.filter(|(_, span)| !span.is_empty()).collect())
}

async fn follow(
    cluster: &Cluster,
    home: &str,
    mut left: BTreeMap<TopicPartition, std::ops::Range<i64>>,
) -> Result<Vec<Seen>, Error> {
    let config = FetchConfig { isolation: Isolation::ReadUncommitted, ..FetchConfig::default() };
    let mut fetcher = cluster.fetcher(config);
    for (tp, span) in &left {
        fetcher.add(tp.clone(), Position::Offset(span.start));
    }
    let mut seen = Vec::new();
    while !left.is_empty() {
        match fetcher.next().await {
            Ok(fetched) => {
                let tp = fetched.topic_partition();
                let Some(span) = left.get(&tp) else { continue };
                let is_over = fetched.next_offset >= span.end;
                seen.extend(waiting(fetched, home, span.end));
                if is_over {
                    fetcher.remove(&tp);
                    left.remove(&tp);
                }
            }
            // The fetcher goes on by itself.
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "reading what waits in the retry topics is held up");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}

fn waiting(fetched: Fetched, home: &str, end: i64) -> impl Iterator<Item = Seen> {
    let tp = fetched.topic_partition();
    let records = fetched.records.into_iter().filter(move |record| record.offset < end);
    records.map(move |record| {
        let tried = retry::split(&record.headers).map(|(_, tried)| tried);
        // A partition of a retry topic holds what comes from the partition of its own number.
        let tried = tried.filter(|tried| tried.topic == home && tried.partition == record.partition);
        Seen {
            tp: tp.clone(),
            offset: record.offset,
            key: record.key.as_ref().map(|key| Bytes::copy_from_slice(key)),
            origin: tried.map(|tried| (tried.offset, tried.rounds)),
        }
    })
}

/// What is waited for, and what is a repeat.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// Waited for, once each.
    pub(crate) awaited: Vec<Seen>,
    /// There is a later one of the same origin.
    pub(crate) repeats: Vec<Seen>,
}

/// Tells what is waited for from repeats.
pub(crate) fn sort(seen: Vec<Seen>) -> Sorted {
    let mut latest: HashMap<(i32, i64), usize> = HashMap::new();
    for (i, one) in seen.iter().enumerate() {
        let Some((offset, rounds)) = one.origin else { continue };
        let best = latest.entry((one.tp.partition, offset)).or_insert(i);
        if seen[*best].origin.is_some_and(|(_, others)| rounds > others) {
            *best = i;
        }
    }
    let mut sorted = Sorted::default();
    for (i, one) in seen.into_iter().enumerate() {
        let is_latest = one.origin.is_none_or(|(offset, _)| latest.get(&(one.tp.partition, offset)) == Some(&i));
        if is_latest { sorted.awaited.push(one) } else { sorted.repeats.push(one) }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(tier: &str, partition: i32, offset: i64, origin: Option<(i64, u32)>) -> Seen {
        Seen { tp: TopicPartition::new(tier, partition), offset, key: None, origin }
    }

    #[test]
    fn of_one_origin_the_latest_is_waited_for() {
        let sorted = sort(vec![
            seen("5s", 0, 7, Some((40, 1))),
            seen("5s", 1, 7, Some((40, 1))),
            seen("5s", 0, 8, None),
            seen("5s", 0, 9, None),
            seen("30s", 0, 2, Some((40, 3))),
            seen("30s", 0, 3, Some((40, 3))),
            seen("30s", 0, 4, Some((41, 1))),
        ]);
        let places = |of: &[Seen]| of.iter().map(|s| (s.tp.to_string(), s.offset)).collect::<Vec<_>>();
        let at = |tp: &TopicPartition, offset| (tp.to_string(), offset);
        let (five, thirty) = (TopicPartition::new("5s", 0), TopicPartition::new("30s", 0));
        assert_eq!(
            places(&sorted.awaited),
            [at(&TopicPartition::new("5s", 1), 7), at(&five, 8), at(&five, 9), at(&thirty, 2), at(&thirty, 4)],
            "what has no known origin is no repeat of anything"
        );
        assert_eq!(places(&sorted.repeats), [at(&five, 7), at(&thirty, 3)]);
    }
}
