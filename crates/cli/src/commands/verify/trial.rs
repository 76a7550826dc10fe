//! One run, from its first case to its verdict.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::ledger::{Counts, Place, Violation};
use super::plan::Plan;
use super::progress::Progress;
use super::requests::Templates;
use super::site::Site;
use super::strikes::{Striker, Tally};
use super::traffic::{self, Books, Follower, Rules, Sender};
use crate::commands::{status, trace};
use crate::console::Console;
use crate::hop::Hop;
use crate::options::PATIENCE;
use crate::processes::{Fleet, Shutdown};

/// Longest time until all agents are ready at the beginning.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Longest time until they are after the faults: a restart may wait for its turn, a group for a session to end.
const READY_AGAIN_WITHIN: Duration = Duration::from_secs(90);
/// Longest time until all groups have done all there is, and all transactions have ended, once all cases are decided.
const QUIET_WITHIN: Duration = Duration::from_secs(120);
/// How long what must not come, a second outcome, is waited for at the end.
const SETTLE: Duration = Duration::from_secs(2);
/// Between two looks.
const TICK: Duration = Duration::from_millis(50);
const SLOW_TICK: Duration = Duration::from_millis(500);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// As promised.
    Held,
    Violated,
    Interrupted,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Ended {
    interrupted: bool,
    pub(super) violation: Option<Violation>,
    /// All records of the violation's case, or why there are none to show.
    pub(super) records: Result<Vec<Hop>, String>,
    pub(super) counts: Counts,
    /// From sending to outcome, in milliseconds, sorted.
    pub(super) latencies: Vec<u64>,
    pub(super) tally: Tally,
    pub(super) times: Times,
}

impl Ended {
    pub(super) fn verdict(&self) -> Verdict {
        match (&self.violation, self.interrupted) {
            (Some(_), _) => Verdict::Violated,
            (None, true) => Verdict::Interrupted,
            (None, false) => Verdict::Held,
        }
    }
}

/// How long what took, in seconds; what was not reached is missing.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Times {
    /// From the first case to the end of the faults, or the last case.
    pub(super) faults: Option<f64>,
    /// From there until all agents were ready.
    pub(super) ready: Option<f64>,
    /// From there until all acknowledged cases had their end.
    pub(super) decided: Option<f64>,
    /// Until the cases after the faults had theirs.
    pub(super) fresh: Option<f64>,
    /// Until nothing lagged and no transaction was open.
    pub(super) quiet: Option<f64>,
}

/// A run.
pub(super) struct Trial<'a> {
    pub(super) site: &'a Site,
    pub(super) fleet: &'a Fleet,
    pub(super) plan: &'a Plan,
    console: &'a Console,
    rules: Rules,
    books: Books,
    sender: Sender<'a>,
    sessions: Vec<Duration>,
    times: Mutex<Times>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(
        site: &'a Site,
        fleet: &'a Fleet,
        plan: &'a Plan,
        templates: &'a Templates,
        aliases: &[String],
        console: &'a Console,
    ) -> Self {
        let books = Books::default();
        let sender = Sender::new(&site.cluster, &books, &site.topology, templates);
        let (rules, sessions) = (Rules::new(&site.topology, aliases), site.sessions());
        Self { site, fleet, plan, console, rules, books, sender, sessions, times: Mutex::default() }
    }

    /// Runs it, or as much of it as there is time for until `shutdown`.
    ///
    /// # Errors
    /// If it cannot begin, or nothing can be said of how it ended.
    pub(super) async fn run(&self, shutdown: &Shutdown) -> anyhow::Result<Ended> {
        let faults = self.plan.faults(self.sessions.clone());
        let striker = Striker::new(self.fleet, &self.site.network, self.console, &self.sessions);
        let progress = Progress::new(self.console, &self.books, self.plan, &striker);
        let course = async {
            self.begin(&progress).await?;
            let follower = Follower::start(&self.site.cluster, &self.rules, &self.books, self.console).await?;
            tokio::select! {
                biased;
                violation = follower.violation() => Ok(Some(violation)),
                found = self.course(&striker, &faults, &progress) => found,
            }
        };
        let found = tokio::select! {
            biased;
            () = shutdown.drain.cancelled() => None,
            found = course => Some(found),
            () = progress.run() => None,
        };
        progress.end();
        let (interrupted, violation) = match found {
            None => (true, None),
            // Agents that drain are not ready any more; that says nothing of them.
            Some(Err(_) | Ok(Some(Violation::Stuck { .. }))) if shutdown.drain.is_cancelled() => (true, None),
            Some(found) => (false, found?),
        };
        let records = self.records(violation.as_ref()).await;
        let ledger = self.books.lock();
        let (counts, latencies) = (ledger.counts(), ledger.latencies());
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Ended { interrupted, violation, records, counts, latencies, tally: striker.tally(), times })
    }

    /// Waits for the agents.
    async fn begin(&self, progress: &Progress<'_>) -> anyhow::Result<()> {
        progress.phase("agents start");
        self.fleet.ready(READY_WITHIN).await.inspect_err(|_| {
            let log = std::fs::read_to_string(self.site.log_file()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            self.console.line(&format!("the end of the agents' log:\n{last}"));
        })
    }

    /// Cases and faults, and what has to come of them. `None`: all is as promised.
    async fn course(
        &self,
        striker: &Striker<'_>,
        faults: &[super::schedule::Fault],
        progress: &Progress<'_>,
    ) -> anyhow::Result<Option<Violation>> {
        let began = Instant::now();
        progress.faults(began);
        tokio::join!(self.sender.run(self.plan, began), striker.run(faults, began));
        let over = self.took(began, |times| &mut times.faults);

        progress.phase("agents come back");
        if let Err(error) = self.fleet.ready(READY_AGAIN_WITHIN).await {
            let what = format!("after the faults, {error:#}");
            return Ok(Some(Violation::Stuck { case: None, what }));
        }
        let ready = self.took(over, |times| &mut times.ready);

        progress.phase("open cases");
        if let Some(violation) = self.open_cases().await? {
            return Ok(Some(violation));
        }
        let decided = self.took(ready, |times| &mut times.decided);

        progress.phase("fresh cases");
        if let Some(violation) = self.fresh_cases().await {
            return Ok(Some(violation));
        }
        let fresh = self.took(decided, |times| &mut times.fresh);

        progress.phase("what is left");
        if let Some(what) = self.unquiet().await {
            return Ok(Some(Violation::Stuck { case: None, what }));
        }
        self.took(fresh, |times| &mut times.quiet);

        progress.phase("reading it all again");
        tokio::time::sleep(SETTLE).await;
        self.read_again().await
    }

    /// Waits for what is open. What does not come is lost.
    async fn open_cases(&self) -> anyhow::Result<Option<Violation>> {
        if self.decided(self.patience()).await {
            return Ok(None);
        }
        // Before it is called lost, it is looked for once more, by a reader that has missed nothing.
        self.read_again().await
    }

    /// Sends cases after the faults, and waits for them.
    async fn fresh_cases(&self) -> Option<Violation> {
        let count = self.sender.fresh(self.plan).await;
        if self.decided(self.patience()).await {
            return None;
        }
        let ledger = self.books.lock();
        let case = ledger.first_open().cloned();
        let (open, waited) = (ledger.open(), self.patience().as_secs());
        let what = format!("{open} of {count} cases that were sent after the faults have no outcome after {waited} s");
        Some(Violation::Stuck { case, what })
    }

    /// Reads all topics from their beginning to their end, and judges by what is there now.
    async fn read_again(&self) -> anyhow::Result<Option<Violation>> {
        let (cluster, topology) = (&self.site.cluster, &self.site.topology);
        let (ledger, first) = traffic::read_again(cluster, topology, &self.rules, &self.books).await?;
        let found = first.or_else(|| ledger.lost());
        *self.books.lock() = ledger;
        Ok(found)
    }

    /// Notes how long a part took that began so; says when it ended.
    fn took(&self, began: Instant, part: impl Fn(&mut Times) -> &mut Option<f64>) -> Instant {
        let now = Instant::now();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        // Milliseconds are as exact as this is.
        *part(&mut times) = Some((now.duration_since(began).as_secs_f64() * 1000.0).round() / 1000.0);
        now
    }

    /// How long an acknowledged case may be open once all agents are there.
    fn patience(&self) -> Duration {
        self.plan.patience.unwrap_or(self.site.topology.join.deadline + Duration::from_secs(60))
    }

    /// Waits until no acknowledged case is open; `false` if that takes too long.
    async fn decided(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        while self.books.lock().open() > 0 {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(TICK).await;
        }
        true
    }

    /// Waits until the agents' groups have done all there is and no transaction is open; else says what is left.
    async fn unquiet(&self) -> Option<String> {
        let until = Instant::now() + QUIET_WITHIN;
        loop {
            let left = match self.left().await {
                Ok(left) if left.is_empty() => return None,
                Ok(left) => left,
                Err(error) => format!("the brokers do not tell: {error:#}"),
            };
            if Instant::now() >= until {
                return Some(format!("after {} s, {left}", QUIET_WITHIN.as_secs()));
            }
            tokio::time::sleep(SLOW_TICK).await;
        }
    }

    async fn left(&self) -> anyhow::Result<String> {
        let (cluster, topology) = (&self.site.cluster, &self.site.topology);
        let agents = self.site.agents();
        let lags = status::lags(cluster, topology).await?;
        let lags = lags.into_iter().filter(|(agent, _)| agents.contains(&agent.as_str()));
        let lags = lags.map(|(agent, lag)| format!("{agent} is {lag} records behind"));
        let hanging = traffic::hanging(cluster, topology).await?;
        let hanging = hanging.into_iter().map(|tp| format!("a transaction is open in {tp}"));
        Ok(lags.chain(hanging).collect::<Vec<_>>().join(", "))
    }

    /// All records of the violation's case, in the order in which they were written.
    async fn records(&self, violation: Option<&Violation>) -> Result<Vec<Hop>, String> {
        let Some((violation, case)) = violation.and_then(|v| Some((v, v.case()?))) else { return Ok(Vec::new()) };
        // What should not be there need not lie where it would belong.
        let lacks = |hops: &[Hop]| {
            let is_there = |place: &Place| hops.iter().any(|hop| place.is_of(hop));
            !violation.places().iter().all(is_there) || trace::lacks_causes(hops)
        };
        let gather = trace::gather(&self.site.cluster, &self.site.topology, case, None, lacks);
        match tokio::time::timeout(PATIENCE * 4, gather).await {
            Ok(Ok(mut hops)) => {
                hops.sort_by_key(|hop| (hop.time, hop.offset));
                Ok(hops)
            }
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("reading them takes longer than {} s", (PATIENCE * 4).as_secs())),
        }
    }
}
