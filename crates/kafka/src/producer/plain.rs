//! Producing through rskafka, with what it lacks put around it: a timeout on each call, metadata before the first
//! and after a stall, a bounded backoff, and its errors told apart.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rskafka::{
    BackoffConfig,
    chrono::DateTime,
    client::{
        Client, ClientBuilder,
        error::{Error as RsError, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};

use super::own::now_ms;
use crate::{
    cluster::{Cluster, Purpose},
    error::{Error, ErrorKind},
    security::SecureBuilder,
    types::OutRecord,
};

const NAME: &str = "Produce";

/// Most bytes of records that go through rskafka at once. It writes to TCP through a buffer of 8 KiB and leaves Nagle's
/// algorithm on: of a larger request the first four bytes go alone, and the rest waits until the broker has acknowledged
/// them, which takes 40 ms and more. What is left is room for the headers of request and batch.
pub(super) const RSKAFKA_MOST_BYTES: usize = 7 * 1024;

/// Whether rskafka can carry a record unchanged. It keeps headers in a sorted map without nulls: names must
/// be ascending, which leaves no repeats, and values must be there.
pub(super) fn fits_rskafka(record: &OutRecord) -> bool {
    record.headers.iter().all(|h| h.value.is_some()) && record.headers.is_sorted_by(|a, b| a.name < b.name)
}

fn to_rskafka(record: &OutRecord) -> Record {
    let headers = record.headers.iter().filter_map(|h| Some((h.name.clone().into_owned(), h.value.as_ref()?.to_vec())));
    Record {
        key: record.key.as_ref().map(|k| k.to_vec()),
        value: record.value.as_ref().map(|v| v.to_vec()),
        headers: headers.collect::<BTreeMap<_, _>>(),
        timestamp: DateTime::from_timestamp_millis(record.timestamp_ms.unwrap_or_else(now_ms)).unwrap_or_default(),
    }
}

/// The rskafka client of a producer; for writing only. It is made when first needed and again after a stall.
pub(super) struct PlainClient {
    cluster: Cluster,
    /// With the time it was made.
    client: tokio::sync::Mutex<Option<(Instant, Arc<Client>)>>,
}

impl PlainClient {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, client: tokio::sync::Mutex::default() }
    }

    fn limit(&self) -> Duration {
        self.cluster.config().request_timeout
    }

    /// The client, with fresh metadata the first time: rskafka never connects while what it has cached names no
    /// leader or a stale one.
    async fn get(&self) -> Result<Arc<Client>, Error> {
        let mut slot = self.client.lock().await;
        if let Some((made, client)) = &*slot
            && !self.may_be_dead(*made)
        {
            return Ok(client.clone());
        }
        let config = self.cluster.config();
        if config.security.protocol() != "PLAINTEXT" {
            // rskafka tries a refused password until its time is up; our own connection tells why at once.
            self.cluster.any_broker(Purpose::Produce).await?;
        }
        let backoff = BackoffConfig {
            init_backoff: config.initial_backoff,
            max_backoff: config.max_backoff,
            base: 2.0,
            deadline: Some(config.request_timeout),
        };
        let builder = ClientBuilder::new(config.bootstrap.clone())
            .client_id(config.client_id.as_str())
            .max_message_size(config.max_response_bytes)
            .backoff_config(backoff)
            .secure(&config.security);
        let client = Arc::new(self.bounded(builder.build()).await?);
        self.bounded(client.list_topics()).await?;
        *slot = Some((Instant::now(), client.clone()));
        Ok(client)
    }

    /// Whether connections of then may be among those found dead since. rskafka does not tell to which broker they go.
    fn may_be_dead(&self, made: Instant) -> bool {
        self.cluster.shared.health.deaths.any_since(made)
    }

    /// After a stall: metadata anew, and if that fails too, another client.
    async fn refresh(&self) {
        let mut slot = self.client.lock().await;
        let Some((made, client)) = &*slot else { return };
        if self.may_be_dead(*made) {
            *slot = None;
        } else if let Err(error) = self.bounded(client.list_topics()).await {
            tracing::debug!(%error, "rskafka's client is replaced");
            *slot = None;
        }
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, RsError>>) -> Result<T, Error> {
        let health = &self.cluster.shared.health;
        let limit = self.limit();
        let started = Instant::now();
        let dead = "connections are silent while the broker answers a new one";
        let error = tokio::select! {
            result = call => match result {
                Ok(value) => {
                    health.answered();
                    return Ok(value);
                }
                Err(error) => translate(&error),
            },
            () = health.deaths.any(started) => {
                Error::new(NAME, ErrorKind::Disconnected { reason: dead.into(), sent: true })
            }
            () = tokio::time::sleep(limit) => Error::new(NAME, ErrorKind::Timeout { after: limit, sent: true }),
        };
        health.failed(&error);
        Err(error)
    }
}

/// rskafka's hold on one partition.
pub(super) struct PlainPartition {
    topic: String,
    partition: i32,
    /// With the time it was made.
    client: Option<(Instant, PartitionClient)>,
}

impl PlainPartition {
    pub(super) fn new(topic: String, partition: i32) -> Self {
        Self { topic, partition, client: None }
    }

    /// One try. Returns the offset of the first record.
    pub(super) async fn produce<'a>(
        &mut self,
        plain: &PlainClient,
        records: impl Iterator<Item = &'a OutRecord>,
    ) -> Result<i64, Error> {
        let result = self.try_produce(plain, records.map(to_rskafka).collect()).await;
        if matches!(&result, Err(error) if error.is_transient()) {
            self.client = None;
            plain.refresh().await;
        }
        result
    }

    async fn try_produce(&mut self, plain: &PlainClient, records: Vec<Record>) -> Result<i64, Error> {
        let client = match self.client.take().filter(|(made, _)| !plain.may_be_dead(*made)) {
            Some(client) => client,
            None => {
                let client = plain.get().await?;
                let handling = UnknownTopicHandling::Error;
                let found = plain.bounded(client.partition_client(&self.topic, self.partition, handling)).await;
                match found {
                    Ok(client) => (Instant::now(), client),
                    Err(error) => return Err(self.why_unknown(plain, error).await),
                }
            }
        };
        let (_, client) = self.client.insert(client);
        let offsets = plain.bounded(client.produce(records, Compression::NoCompression)).await?;
        offsets.first().copied().ok_or_else(|| Error::malformed(NAME, "no offset came"))
    }
}

impl PlainPartition {
    /// rskafka has no code for a partition that is not there; a broker has.
    async fn why_unknown(&self, plain: &PlainClient, error: Error) -> Error {
        if error.code().is_some() || error.is_retryable() {
            return error;
        }
        match plain.cluster.leader(&self.topic, self.partition).await {
            Ok(_) => Error::new(NAME, ErrorKind::Client { message: error.to_string(), retryable: true }),
            Err(better) => better,
        }
    }
}

/// What rskafka says, in our terms. `NotEnoughReplicas` and `RequestTimedOut`, fatal to it, are retryable here.
fn translate(error: &RsError) -> Error {
    match error {
        RsError::ServerError { protocol_error, error_message, .. } => match code_of(*protocol_error) {
            Some(code) => Error::broker_code(NAME, code, error_message.clone()),
            None => Error::new(NAME, ErrorKind::Client { message: error.to_string(), retryable: false }),
        },
        RsError::Connection(reason) => Error::new(NAME, ErrorKind::Connect(reason.to_string())),
        RsError::Request(reason) => {
            Error::new(NAME, ErrorKind::Disconnected { reason: reason.to_string(), sent: true })
        }
        other => {
            let retryable = matches!(other, RsError::RetryFailed(_) | RsError::Timeout);
            Error::new(NAME, ErrorKind::Client { message: other.to_string(), retryable })
        }
    }
}

/// rskafka keeps the numbers to itself.
fn code_of(error: ProtocolError) -> Option<i16> {
    match error {
        ProtocolError::Unknown(code) => Some(code),
        known => (-1..=i16::from(i8::MAX)).find(|code| ProtocolError::new(*code) == Some(known)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Header;

    fn with_headers(headers: &[(&str, Option<&'static str>)]) -> OutRecord {
        let header = |(name, value): &(&str, Option<&'static str>)| Header {
            name: (*name).to_owned().into(),
            value: value.map(Bytes::from_static_str),
        };
        OutRecord { headers: headers.iter().map(header).collect(), ..OutRecord::default() }
    }

    trait FromStr {
        fn from_static_str(s: &'static str) -> Bytes;
    }

    impl FromStr for Bytes {
        fn from_static_str(s: &'static str) -> Bytes {
            Bytes::from_static(s.as_bytes())
        }
    }

    #[test]
    fn only_what_a_sorted_map_can_hold_fits() {
        assert!(fits_rskafka(&with_headers(&[])));
        assert!(fits_rskafka(&with_headers(&[("a", Some("1")), ("b", Some("2"))])));
        assert!(!fits_rskafka(&with_headers(&[("b", Some("1")), ("a", Some("2"))])), "order would change");
        assert!(!fits_rskafka(&with_headers(&[("a", Some("1")), ("a", Some("2"))])), "repeats would collapse");
        assert!(!fits_rskafka(&with_headers(&[("a", None)])), "nulls do not exist");
    }

    #[test]
    fn errors_rskafka_calls_fatal_are_retryable() {
        for (error, code) in [
            (ProtocolError::NotEnoughReplicas, 19),
            (ProtocolError::NotEnoughReplicasAfterAppend, 20),
            (ProtocolError::RequestTimedOut, 7),
        ] {
            assert_eq!(code_of(error), Some(code));
            assert!(Error::broker_code(NAME, code, None).is_retryable());
        }
        assert_eq!(code_of(ProtocolError::MessageTooLarge), Some(10));
        assert!(!Error::broker_code(NAME, 10, None).is_retryable());
    }
}
