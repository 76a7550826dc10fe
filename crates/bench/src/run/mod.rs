//! One run, from its first case to its figures.

mod joins;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_kafka::{Cluster, ClusterConfig, TopicPartition};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backing::{Broker, Mock};
use crate::bench::Bench;
use crate::error::BenchError;
use crate::ledger::Ledger;
use crate::load::{self, Outcomes, Sender};
use crate::peer::PeerTopics;
use crate::processes::Launcher;
use crate::report::{Figures, ModelFigures, Phase, RoundTrip};
use crate::requests::Requests;
use crate::schedule::{Kill, Pace, kills};
use crate::settings::{Settings, Workload};
use crate::site::{self, Ground, Site};
use crate::topics;
use crate::usage::Meter;
use crate::{floor, path, round_trip};

/// Longest time until the cases of the warm-up are decided.
const WARM_WITHIN: Duration = Duration::from_secs(120);
/// After the warm-up, so that what follows its outcomes is done.
const SETTLE: Duration = Duration::from_secs(1);
/// Nothing more follows if nothing came for so long.
const SILENCE: Duration = Duration::from_secs(20);
/// How long what must not come, a second outcome, is waited for at the end.
const AFTER: Duration = Duration::from_millis(500);
/// Between two looks at whether all processes run.
const LOOK: Duration = Duration::from_secs(1);

/// What happens to the processes while cases come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Kill(usize),
    More,
    Fewer,
}

/// A run that was interrupted before there was anything to say has no figures.
pub(crate) async fn run(
    bench: &Bench,
    settings: &Settings,
    number: u32,
    stop: &CancellationToken,
) -> Result<Option<Figures>, BenchError> {
    let folder = tempfile::Builder::new().prefix("anabranch-bench-").tempdir();
    let folder = folder.map_err(BenchError::io("no folder for files"))?;
    let name = format!("{}-bench-{:08x}", settings.workload, rand::random::<u32>());
    let prepared = stop.run_until_cancelled(prepare(bench, settings, number, folder.path(), &name)).await;
    let Some(prepared) = prepared else {
        tidy_up(bench, &name).await;
        return Ok(None);
    };
    let mut course = prepared?;
    let figures = match settings.workload {
        Workload::W8 => course.joins(stop).await,
        _ => course.measure(stop).await,
    };
    let closed = course.close().await;
    let figures = figures?;
    closed.map(|()| figures)
}

/// Topics of a run that did not come about, on a cluster that goes on.
async fn tidy_up(bench: &Bench, name: &str) {
    if !bench.brokers.is_empty() {
        let config = ClusterConfig::new(bench.brokers.clone(), "anabranch-bench");
        topics::delete(&Cluster::new(config.with_security(bench.security.clone())), &format!("{name}.")).await;
    }
}

async fn prepare<'a>(
    bench: &'a Bench,
    settings: &'a Settings,
    number: u32,
    folder: &Path,
    name: &str,
) -> Result<Course<'a>, BenchError> {
    let seed = settings.seed.wrapping_add(u64::from(number));
    let launcher = Launcher { folder: folder.to_owned(), pins: bench.pins.clone(), meter: Meter::default() };
    launcher.meter.add(std::process::id(), crate::Group::Bench);
    if let Some(pid) = bench.broker_pid {
        launcher.meter.add(pid, crate::Group::Broker);
    }
    let data = bench.data_dir.as_ref().map(|data| data.join(format!("{}-{number}", std::process::id())));
    let broker = Broker::start(&bench.brokers, &bench.programs, &launcher, data.as_deref()).await?;
    let cluster = broker.client(&bench.security);
    cluster.ping(Duration::from_secs(15)).await.map_err(BenchError::kafka("no broker answers"))?;
    let mock = Mock::start(&bench.programs, &launcher, settings, seed).await?;
    let naps = settings.workload == Workload::W6;
    let (topology, text) = site::topology(bench.topology.as_deref(), settings, name)?;
    let ground = Ground { cluster, launcher, mock, topology };
    let peers = PeerTopics::new(name);
    let (site, roles, requests) = match &bench.peer {
        Some(peer) => {
            let site = Site::of_peer(ground, peer, &peers, &broker, settings).await?;
            (site, peers.roles(), peers.requests)
        }
        None => {
            let site = Site::open(ground, &broker, &bench.programs, &text, settings).await?;
            let (roles, topology) = (load::roles(&site.topology, naps), &site.topology);
            let requests = if naps { topology.tasks_topic("napper") } else { topology.inbound.requests.name.clone() };
            (site, roles, requests)
        }
    };
    let requests = match naps {
        true => Requests::Nap { topic: requests, sleep_ms: settings.nap_ms },
        false => Requests::kyc(&requests, settings.asks, settings.payload_bytes, settings.poison, seed)
            .map_err(|error| BenchError::Process(format!("the request's template: {error}")))?,
    };
    let sender = Sender::new(&site.cluster, requests, settings.payload_bytes);
    let outcomes = Outcomes::follow(&site.cluster, roles).await?;
    Ok(Course { settings, number, seed, naps, is_peer: bench.peer.is_some(), broker, site, sender, outcomes })
}

/// A run that is ready to be measured.
struct Course<'a> {
    settings: &'a Settings,
    number: u32,
    seed: u64,
    naps: bool,
    is_peer: bool,
    broker: Broker,
    site: Site,
    sender: Sender,
    outcomes: Outcomes,
}

/// What was seen of the load.
#[derive(Default)]
struct Load {
    complete: bool,
    kills: Vec<(f64, String)>,
}

impl Course<'_> {
    async fn close(self) -> Result<(), BenchError> {
        drop(self.outcomes);
        let closed = self.site.close().await;
        self.broker.stop().await?;
        closed
    }

    /// Warms up, sends the load, waits for its end, and takes the figures.
    async fn measure(&mut self, stop: &CancellationToken) -> Result<Option<Figures>, BenchError> {
        match stop.run_until_cancelled(self.begin()).await {
            None => return Ok(None),
            Some(begun) => begun?,
        }
        let round_trip = match self.settings.one_by_one {
            Some(_) => Some(self.round_trip().await?),
            None => None,
        };
        // What a peer writes is its own business.
        let batch = self.settings.floor_batch.filter(|_| !self.is_peer);
        let from = self.site.ends(batch.is_some()).await?;
        self.site.launcher.meter.begin();
        let watching = self.site.launcher.meter.watch();
        let load = match self.settings.one_by_one {
            Some(pause) => self.one_by_one(pause, stop).await?,
            None => self.paced(stop).await?,
        };
        let (taken, peak_resident_bytes) = self.site.launcher.meter.taken();
        drop(watching);
        let to = self.site.ends(batch.is_some()).await?;
        let model = self.model().await?;
        let ledger = self.outcomes.lock().ledger.clone();
        let floor = match (load.complete, batch) {
            (true, Some(batch)) => match stop.run_until_cancelled(self.floor(&from, &to, batch)).await {
                Some(floor) => Some(floor?),
                None => None,
            },
            _ => None,
        };
        let complete = load.complete && (floor.is_some() || batch.is_none());
        let load = Load { complete, ..load };
        Ok(Some(Figures { floor, round_trip, taken, peak_resident_bytes, ..self.figures(&ledger, load, model) }))
    }

    /// Cases that are not measured, so that connections are made and agents know of each other.
    async fn begin(&mut self) -> Result<(), BenchError> {
        let cases = self.settings.warm_up;
        self.sender.warm_up(cases).await?;
        if !self.outcomes.until(WARM_WITHIN, |seen| seen.warm() >= cases).await? {
            self.site.all_alive()?;
            let (warm, seconds) = (self.outcomes.lock().warm(), WARM_WITHIN.as_secs());
            return Err(BenchError::Process(format!(
                "{warm} of the {cases} cases to warm up are decided after {seconds} s; the composer's last words:\n{}",
                self.last_words()
            )));
        }
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    fn last_words(&self) -> String {
        let words = self.site.agents.values().map(|(_, process)| process.last_words());
        words.filter(|words| !words.is_empty()).collect::<Vec<_>>().join("\n")
    }

    async fn round_trip(&self) -> Result<RoundTrip, BenchError> {
        let like = self.site.specs.first().ok_or_else(|| BenchError::Process("there are no topics".to_owned()))?;
        let prefix = format!("{}.", self.site.topology.name);
        round_trip::measure(&self.broker.brokers, &self.site.cluster, like, &prefix).await
    }

    /// One case after the other. Each is due when it is sent: nobody waits for it but the next one.
    async fn one_by_one(&mut self, pause: Duration, stop: &CancellationToken) -> Result<Load, BenchError> {
        let cases = self.settings.cases;
        {
            let mut seen = self.outcomes.lock();
            (seen.ledger, seen.began) = (Ledger::new(cases), Instant::now());
        }
        for number in 0..cases {
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(Load::default());
            }
            {
                let mut seen = self.outcomes.lock();
                let at = seen.began.elapsed();
                seen.ledger.due(number, at);
            }
            self.sender.one(number).await?;
            let ended = self.outcomes.until(self.settings.patience, |seen| seen.ledger.has_ended(number));
            match stop.run_until_cancelled(ended).await {
                None => return Ok(Load::default()),
                Some(Ok(false)) => self.site.all_alive()?,
                Some(ended) => drop(ended?),
            }
        }
        self.follow_ups(stop).await?;
        Ok(Load { complete: true, kills: Vec::new() })
    }

    /// Each case when it is due, and what happens to the processes meanwhile.
    async fn paced(&mut self, stop: &CancellationToken) -> Result<Load, BenchError> {
        let pace = Pace::new(self.settings.cases, self.settings.rate);
        let began = Instant::now();
        {
            let mut seen = self.outcomes.lock();
            (seen.ledger, seen.began) = (Ledger::paced(self.settings.cases, &pace), began);
        }
        let mut sending = tokio::spawn(self.sender.clone().run(pace, self.settings.cases, began));
        let kills = match stop.run_until_cancelled(self.until_decided(pace, began, &mut sending)).await {
            None => {
                sending.abort();
                return Ok(Load::default());
            }
            Some(kills) => kills?,
        };
        if stop.run_until_cancelled(self.follow_ups(stop)).await.is_none() {
            return Ok(Load { complete: false, kills });
        }
        Ok(Load { complete: true, kills })
    }

    fn acts(&self, span: Duration) -> Vec<(Duration, Act)> {
        let struck = kills(self.seed, self.settings.kill_every, span, self.site.agents.len());
        let mut acts: Vec<(Duration, Act)> =
            struck.iter().map(|Kill { at, target }| (*at, Act::Kill(*target))).collect();
        if self.settings.scale.is_some() {
            acts.extend([(span / 3, Act::More), (span * 2 / 3, Act::Fewer)]);
        }
        acts.sort_by_key(|(at, _)| *at);
        acts
    }

    /// Until all cases have ended, or patience has. Who was killed, and when.
    async fn until_decided(
        &mut self,
        pace: Pace,
        began: Instant,
        sending: &mut JoinHandle<Result<(), BenchError>>,
    ) -> Result<Vec<(f64, String)>, BenchError> {
        let mut acts = self.acts(pace.span()).into_iter().peekable();
        let (mut killed, mut sent) = (Vec::new(), false);
        let give_up = pace.span() + self.settings.patience;
        loop {
            let now = began.elapsed();
            if let Some((_, act)) = acts.next_if(|(at, _)| *at <= now) {
                self.act(act, now, &mut killed).await?;
                continue;
            }
            if !sent && sending.is_finished() {
                sent = true;
                let ended = (&mut *sending).await;
                ended.map_err(|error| BenchError::Process(format!("sending cases: {error}")))??;
            }
            let next = acts.peek().map_or(LOOK, |(at, _)| at.saturating_sub(now).min(LOOK));
            let decided = self.outcomes.until(next, |seen| seen.ledger.open() == 0).await?;
            if decided && acts.peek().is_none() {
                break;
            }
            if decided {
                tokio::time::sleep(next).await;
            }
            self.site.all_alive()?;
            if began.elapsed() >= give_up {
                break;
            }
        }
        self.site.all_ready().await?;
        Ok(killed)
    }

    async fn act(&mut self, act: Act, now: Duration, killed: &mut Vec<(f64, String)>) -> Result<(), BenchError> {
        match (act, &self.settings.scale) {
            (Act::Kill(target), _) => killed.push((now.as_secs_f64(), self.site.kill(target).await?)),
            (Act::More, Some(scale)) => {
                for replica in 2..=scale.processes {
                    self.site.start_agent(&scale.agent, replica)?;
                }
            }
            (Act::Fewer, Some(scale)) => self.site.scale_down(&scale.agent).await?,
            (Act::More | Act::Fewer, None) => {}
        }
        Ok(())
    }

    /// What follows the outcomes, and what must not: a second one.
    async fn follow_ups(&mut self, stop: &CancellationToken) -> Result<(), BenchError> {
        let deadline = Instant::now() + self.settings.patience;
        while !self.naps && Instant::now() < deadline && !stop.is_cancelled() {
            let (before, decided) = {
                let seen = self.outcomes.lock();
                (seen.ledger.messages().0, seen.ledger.counts().decided)
            };
            if before >= decided {
                break;
            }
            // Not for ever: a case that went to a person may have none.
            if !self.outcomes.until(SILENCE, |seen| seen.ledger.messages().0 > before).await? {
                break;
            }
        }
        tokio::time::sleep(AFTER).await;
        Ok(())
    }

    async fn model(&self) -> Result<Option<ModelFigures>, BenchError> {
        if self.naps {
            return Ok(None);
        }
        let calls = self.site.mock.calls().await?;
        let path::Paths { calls, refused, latencies } = path::paths(&calls);
        Ok(Some(ModelFigures { calls, refused, path_ms: latencies.percentiles() }))
    }

    async fn floor(
        &self,
        from: &BTreeMap<TopicPartition, i64>,
        to: &BTreeMap<TopicPartition, i64>,
        batch: usize,
    ) -> Result<floor::FloorFigures, BenchError> {
        let sizes = topics::sizes(&self.site.cluster, from, to).await?;
        let prefix = format!("{}.floor.", self.site.topology.name);
        floor::measure(&self.broker.brokers, &self.site.cluster, &self.site.specs, &sizes, batch, &prefix).await
    }

    fn figures(&self, ledger: &Ledger, load: Load, model: Option<ModelFigures>) -> Figures {
        let latencies = ledger.latencies(|_| true);
        let (decided_seconds, cases) = (ledger.last_end().as_secs_f64(), ledger.counts());
        let ended = cases.due - cases.lost;
        Figures {
            run: self.number,
            seed: self.seed,
            complete: load.complete,
            unpaced: self.settings.is_unpaced(),
            cases,
            decided_seconds,
            all_seconds: ledger.last_end().max(ledger.messages().1).as_secs_f64(),
            cases_per_second: if decided_seconds > 0.0 { ended as f64 / decided_seconds } else { 0.0 },
            latency_ms: latencies.percentiles(),
            latency_curve: latencies.curve(),
            phases: self.phases(ledger),
            model,
            floor: None,
            round_trip: None,
            joins: None,
            taken: BTreeMap::new(),
            peak_resident_bytes: 0,
            kills: load.kills,
            timeline: ledger.timeline(),
        }
    }

    fn phases(&self, ledger: &Ledger) -> Vec<Phase> {
        let Some(scale) = &self.settings.scale else { return Vec::new() };
        let span = Pace::new(self.settings.cases, self.settings.rate).span();
        let (up, down) = (span / 3, span * 2 / 3);
        let phase = |name: String, from: Duration, to: Duration| Phase {
            name,
            latency_ms: ledger.latencies(|due| from <= due && due < to).percentiles(),
        };
        vec![
            phase("1 process".to_owned(), Duration::ZERO, up),
            phase(format!("{} processes", scale.processes), up, down),
            phase("1 process again".to_owned(), down, Duration::MAX),
        ]
    }
}
