//! Topics, configs, groups.
//!
//! Topics are made, grown and deleted at the controller; a broker that says it is none is forgotten and the question
//! asked again. Groups are asked for at their own coordinator, or at every broker where all are wanted. Every call ends
//! within the call timeout.

mod configs;
mod groups;
mod records;
mod topics;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kafka_protocol::error::ResponseError;

use crate::{
    Cluster, CommittedOffset, ConfigEntry, Error, GroupInfo, GroupListing, Isolation, NewTopic, TopicInfo,
    TopicPartition,
    backoff::Backoff,
    offsets::{EARLIEST, LATEST},
};

/// Administration; cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    cluster: Cluster,
}

/// A topic and what became of it.
type PerTopic = Vec<(String, Result<(), Error>)>;

impl Admin {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// Creates topics: one result per topic, in order. Returns when a broker names a leader for each partition of those
    /// that were created, or when that has taken too long.
    ///
    /// A creation whose answer was lost is asked for again and then found to exist:
    /// [`Error::is_already_exists`] does not say who created it.
    ///
    /// # Errors
    /// When the controller could not be asked at all. What became of each topic is inside.
    pub async fn create_topics(&self, topics: Vec<NewTopic>) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        topics::create(&self.cluster, topics).await
    }

    /// All topics, by name; the broker's own are marked.
    ///
    /// # Errors
    /// When no broker answered.
    pub async fn list_topics(&self) -> Result<Vec<TopicInfo>, Error> {
        topics::list(&self.cluster).await
    }

    /// All configs of topics.
    ///
    /// # Errors
    /// [`Error::is_unknown_topic`] names the first that does not exist.
    pub async fn describe_configs(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<String, ConfigEntry>>, Error> {
        configs::describe(&self.cluster, topics).await
    }

    /// Sets (`Some`) or resets (`None`) configs of a topic; others stay as they are.
    ///
    /// A broker without `IncrementalAlterConfigs` (before Kafka 2.3) only replaces all at once: what is set is read and
    /// written back with the changes, and a change made by somebody else in between is undone.
    ///
    /// # Errors
    /// The broker's refusal, with its own words.
    pub async fn alter_configs(&self, topic: &str, changes: BTreeMap<String, Option<String>>) -> Result<(), Error> {
        configs::alter(&self.cluster, topic, changes).await
    }

    /// Raises the number of partitions to `total`.
    ///
    /// # Errors
    /// The controller's refusal: the topic is unknown, or has that many already.
    pub async fn create_partitions(&self, topic: &str, total: i32) -> Result<(), Error> {
        topics::grow(&self.cluster, topic, total).await
    }

    /// Deletes topics: one result per topic, in order.
    ///
    /// A deletion whose answer was lost is asked for again and then found unknown.
    ///
    /// # Errors
    /// When the controller could not be asked at all. What became of each topic is inside.
    pub async fn delete_topics(&self, topics: &[String]) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        topics::delete(&self.cluster, topics).await
    }

    /// Deletes the records below an offset of each partition. Returns where each log begins now.
    ///
    /// # Errors
    /// When a leader could not be asked, or refused: others may have deleted theirs. A deletion that is asked for again
    /// changes nothing.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        records::delete(&self.cluster, before).await
    }

    /// All groups of all brokers, by name.
    ///
    /// # Errors
    /// When one broker could not be asked: half a list would look like a whole one.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> {
        groups::list(&self.cluster).await
    }

    /// Groups in detail, in the order asked. One that does not exist comes as `Dead`.
    ///
    /// # Errors
    /// When a coordinator could not be asked, or refused.
    pub async fn describe_groups(&self, groups: &[String]) -> Result<Vec<GroupInfo>, Error> {
        groups::describe(&self.cluster, groups).await
    }

    /// What a group has committed, by partition.
    ///
    /// # Errors
    /// When the coordinator could not be asked, or refused.
    pub async fn committed_offsets(&self, group: &str) -> Result<Vec<(TopicPartition, CommittedOffset)>, Error> {
        let coordinator = crate::group::Coordinator::new(self.cluster.clone(), group);
        Ok(crate::group::committed(&coordinator, None, false).await?.into_iter().collect())
    }

    /// The first offset of each partition.
    ///
    /// # Errors
    /// When a leader could not be asked, or refused.
    pub async fn earliest_offsets(&self, tps: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        self.cluster.list_offsets(tps, EARLIEST, Isolation::ReadUncommitted).await
    }

    /// The end of each partition: the high watermark, or the last stable offset when reading committed.
    ///
    /// # Errors
    /// When a leader could not be asked, or refused.
    pub async fn end_offsets(
        &self,
        tps: &[TopicPartition],
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        self.cluster.list_offsets(tps, LATEST, isolation).await
    }

    /// The first offset at or after a time in ms since the epoch; `None`: no such record.
    ///
    /// # Errors
    /// When a leader could not be asked, or refused. A negative time is none.
    pub async fn offsets_for_timestamp(
        &self,
        tps: &[TopicPartition],
        timestamp_ms: i64,
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
        if timestamp_ms < 0 {
            return Err(Error::invalid("ListOffsets", format!("{timestamp_ms} is no time in ms since the epoch")));
        }
        let found = self.cluster.list_offsets(tps, timestamp_ms, Isolation::ReadUncommitted).await?;
        Ok(found.into_iter().map(|(tp, offset)| (tp, Some(offset).filter(|offset| *offset >= 0))).collect())
    }
}

/// What a controller answered for one topic: its code, and its own words.
struct Verdict {
    topic: String,
    code: i16,
    message: Option<String>,
}

impl Verdict {
    /// Whether the controller may say something else soon: it is none, or too busy.
    fn is_passing(&self) -> bool {
        matches!(
            ResponseError::try_from_code(self.code),
            Some(
                ResponseError::NotController
                    | ResponseError::RequestTimedOut
                    | ResponseError::ThrottlingQuotaExceeded
                    | ResponseError::NetworkException
            )
        )
    }

    fn error(&self, request: &'static str) -> Error {
        Error::broker_code(request, self.code, self.message.clone()).on_topic(self.topic.clone())
    }
}

/// Asks the controller about topics until each has a final answer or the call timeout has passed. `ask` gets what is
/// still open and the time a broker may take.
async fn at_controller<F>(
    cluster: &Cluster,
    request: &'static str,
    topics: &[String],
    mut ask: impl FnMut(Vec<String>, Duration) -> F,
) -> Result<PerTopic, Error>
where
    F: Future<Output = Result<Vec<Verdict>, Error>>,
{
    let deadline = Instant::now() + cluster.config().call_timeout;
    let limit = cluster.config().request_timeout;
    let mut backoff = Backoff::new(cluster.config());
    let mut results: BTreeMap<String, Result<(), Error>> = BTreeMap::new();
    loop {
        let open: Vec<String> = topics.iter().filter(|t| !results.contains_key(*t)).cloned().collect();
        if open.is_empty() {
            return Ok(in_order(request, topics, results));
        }
        let answer = ask(open.clone(), limit).await;
        let wait = backoff.next_wait();
        let late = Instant::now() + wait >= deadline;
        match answer {
            Ok(verdicts) => {
                cluster_moved(cluster, &verdicts);
                for verdict in verdicts.into_iter().filter(|v| late || !v.is_passing()) {
                    let result = if verdict.code == 0 { Ok(()) } else { Err(verdict.error(request)) };
                    results.insert(verdict.topic, result);
                }
                let left_out = open.iter().all(|t| !results.contains_key(t));
                if late && left_out {
                    return Err(Error::malformed(request, "the answer leaves out topics"));
                }
            }
            Err(error) if late || !error.is_retryable() => return Err(error),
            Err(_) => cluster.forget_controller(),
        }
        if topics.iter().any(|t| !results.contains_key(t)) {
            tokio::time::sleep(wait).await;
        }
    }
}

fn cluster_moved(cluster: &Cluster, verdicts: &[Verdict]) {
    if verdicts.iter().any(Verdict::is_passing) {
        cluster.forget_controller();
    }
}

fn in_order(request: &'static str, topics: &[String], mut results: BTreeMap<String, Result<(), Error>>) -> PerTopic {
    let twice = || Err(Error::invalid(request, "named twice"));
    topics.iter().map(|t| (t.clone(), results.remove(t).unwrap_or_else(twice))).collect()
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
