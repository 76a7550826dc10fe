//! Many cases, one outcome each: sent evenly over a time, watched as they come out, and counted by a client that is not
//! ours.

use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anabranch_kafka::{Cluster, FetchConfig, Isolation, OutRecord, Position, TopicPartition};
use anabranch_testkit::cluster::{FixtureError, foreign, python};

use crate::app::{App, workspace};
use crate::kyc::demo_cases;

/// The seed of a run, to be printed, so that it can be repeated: `ANABRANCH_TEST_SEED=…`.
pub fn seed() -> u64 {
    let given = std::env::var("ANABRANCH_TEST_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(rand::random)
}

/// The key of case `number`.
pub fn case_key(number: usize) -> String {
    format!("case-{number:05}")
}

/// The demo's clean case under the key of `number`, from an address and a device of its own.
///
/// # Panics
/// If the demo has no clean case: a fault of the repository.
#[allow(clippy::expect_used, reason = "for tests: a fault of the repository")]
pub fn clean_case(app: &App, number: usize) -> OutRecord {
    let clean = demo_cases().into_iter().find(|c| c.id == "S1").and_then(|c| c.request);
    let mut request = clean.expect("the demo's clean case");
    // A network of its own each: many from one would be a fraud alert.
    let ip = format!("2001:db8:{:x}:{:x}::1", number / 65_536, number % 65_536);
    request["source"] = serde_json::json!({ "ip": ip, "device_id": format!("device-{number}") });
    foreign(app.requests(), Some(case_key(number).as_bytes()), Some(request.to_string().as_bytes()))
}

/// Clean cases sent evenly over a time.
pub struct Load {
    cases: usize,
    over: Duration,
    started: Instant,
    sent: usize,
}

impl Load {
    /// `cases` cases over about `over`, from now on.
    pub fn new(cases: usize, over: Duration) -> Self {
        Self { cases, over, started: Instant::now(), sent: 0 }
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How many were sent.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Which part of the time is over, at most 1.
    pub fn share(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() / self.over.as_secs_f64()).min(1.0)
    }

    /// Sends what is due, and waits until it is acknowledged. `false` once all are sent.
    ///
    /// # Errors
    /// What the broker said.
    pub async fn keep_up(&mut self, app: &App) -> Result<bool, FixtureError> {
        let due = ((self.cases as f64 * self.share()) as usize).min(self.cases);
        if due > self.sent {
            app.send((self.sent..due).map(|number| clean_case(app, number)).collect()).await?;
            self.sent = due;
        }
        Ok(self.sent < self.cases)
    }

    /// Sends the next case now, whatever is due. Its key; `None`: there is none left.
    ///
    /// # Errors
    /// What the broker said.
    pub async fn send_one(&mut self, app: &App) -> Result<Option<String>, FixtureError> {
        if self.sent == self.cases {
            return Ok(None);
        }
        app.send(vec![clean_case(app, self.sent)]).await?;
        self.sent += 1;
        Ok(Some(case_key(self.sent - 1)))
    }
}

/// The topics on which a case ends.
pub fn outcome_topics(app: &App) -> Vec<String> {
    vec![app.outbound("decisions"), app.outbound("cases")]
}

/// Outcomes as a `read_committed` reader of our own sees them, from the start of the topics on.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// When, and of which case.
    outcomes: Vec<(Instant, String)>,
    distinct: HashSet<String>,
    failure: Option<String>,
}

impl Watch {
    /// Begins to read.
    ///
    /// # Errors
    /// If a topic does not exist.
    pub async fn start(client: &Cluster, topics: &[String]) -> Result<Self, FixtureError> {
        let mut fetcher = client.fetcher(FetchConfig { isolation: Isolation::ReadCommitted, ..FetchConfig::default() });
        for topic in topics {
            for partition in 0..client.partition_count(topic).await? {
                fetcher.add(TopicPartition::new(topic.as_str(), partition), Position::Earliest);
            }
        }
        let seen = Arc::new(Mutex::new(Seen::default()));
        let into = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let fetched = fetcher.next().await;
                let (at, mut seen) = (Instant::now(), into.lock().unwrap_or_else(PoisonError::into_inner));
                match fetched {
                    Ok(fetched) => {
                        for record in fetched.records {
                            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
                            seen.distinct.insert(key.clone());
                            seen.outcomes.push((at, key));
                        }
                    }
                    // A broker that is away comes back.
                    Err(error) if error.is_retryable() => {}
                    Err(error) => {
                        seen.failure = Some(error.to_string());
                        return;
                    }
                }
            }
        });
        Ok(Self { seen, task })
    }

    fn with<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many cases have an outcome.
    pub fn distinct(&self) -> usize {
        self.with(|seen| seen.distinct.len())
    }

    /// When the first outcome after `since` was seen.
    pub fn first_after(&self, since: Instant) -> Option<Instant> {
        // Nearly always among the last.
        self.with(|seen| {
            let later = seen.outcomes.iter().rev().take_while(|(at, _)| *at > since);
            later.last().map(|(at, _)| *at)
        })
    }

    /// When the outcome of a case was seen.
    pub fn of(&self, key: &str) -> Option<Instant> {
        self.with(|seen| seen.outcomes.iter().rev().find(|(_, k)| k == key).map(|(at, _)| *at))
    }

    /// Waits until `enough` gives something.
    ///
    /// # Errors
    /// After `limit`, or when the reader has failed.
    pub async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&Self) -> Option<T>,
    ) -> Result<T, FixtureError> {
        let started = Instant::now();
        loop {
            if let Some(found) = enough(self) {
                return Ok(found);
            }
            if let Some(failure) = self.with(|seen| seen.failure.clone()) {
                return Err(FixtureError::Other(format!("the reader of outcomes: {failure}")));
            }
            if started.elapsed() >= limit {
                let seen = format!("{} cases with an outcome", self.distinct());
                return Err(FixtureError::Waited { what: what.to_owned(), after: limit, seen });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A Python with librdkafka, that counts; `None` where there is none, with a reason printed.
pub fn counter() -> Option<std::path::PathBuf> {
    python(&workspace(), &workspace().join("tests/e2e/requirements.txt"))
}

/// The end of a run: every case of `load` is decided `within`, has one outcome as `python` counts, and all processes are
/// ready, and drain.
///
/// # Errors
/// What is not so.
pub async fn ends_well(
    mut app: App,
    watch: &Watch,
    load: &Load,
    within: Duration,
    python: &std::path::Path,
) -> Result<(), FixtureError> {
    let cases = load.cases;
    watch.until("an outcome of every case", within, |w| (w.distinct() == cases).then_some(())).await?;
    println!("all decided {:.1} s after the first was sent", load.started().elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(2)).await;
    one_outcome_each(python, app.cluster.bootstrap(), &outcome_topics(&app), cases)?;
    app.all_ready().await?;
    app.stop().await
}

/// Counts with librdkafka, `read_committed`, on the cluster at `bootstrap`: each of the cases `0..cases` has exactly one
/// outcome on these topics, and nothing else has one.
///
/// # Errors
/// What is wrong, with a few of the cases, or why it could not be counted.
pub fn one_outcome_each(
    python: &std::path::Path,
    bootstrap: &str,
    topics: &[String],
    cases: usize,
) -> Result<(), FixtureError> {
    let script = workspace().join("tests/e2e/count_outcomes.py");
    let output = Command::new(python).arg(script).arg(bootstrap).args(topics).output()?;
    if !output.status.success() {
        return Err(FixtureError::Other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    #[derive(serde::Deserialize)]
    struct Counted {
        outcomes: BTreeMap<String, u64>,
    }
    let counted: Counted = serde_json::from_slice(&output.stdout)
        .map_err(|e| FixtureError::Other(format!("the counter's answer: {e}")))?;
    let outcomes = counted.outcomes;
    let several: Vec<_> = outcomes.iter().filter(|(_, count)| **count != 1).take(5).collect();
    let missing: Vec<String> = (0..cases).map(case_key).filter(|key| !outcomes.contains_key(key)).take(5).collect();
    if several.is_empty() && missing.is_empty() && outcomes.len() == cases {
        println!("librdkafka, read_committed: {cases} cases, one outcome each");
        return Ok(());
    }
    Err(FixtureError::Other(format!(
        "{} cases have an outcome, {cases} were sent; with several: {several:?}; without: {missing:?}",
        outcomes.len()
    )))
}
