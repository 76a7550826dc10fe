//! The workloads, and all that can be set of one.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Cases at a rate, whose model thinks as models do, and refuses 1 % of its calls.
    W1,
    /// All cases at once, and a model that answers at once.
    W2,
    /// W1, and every 10 s a process is killed.
    W3,
    /// W2, and 1 % of the requests cannot be read.
    W4,
    /// One agent goes from one process to eight and back under load.
    W5,
    /// One partition, and an agent that takes 2 s for each of 1,000 tasks.
    W6,
    /// Requests of 1 KB, 100 KB and 900 KB.
    W7,
    /// A million cases that wait for their answers.
    W8,
    /// Partitions, processes and cases, each ten times as many.
    W9,
    /// One case at a time, beside the round trip of one record.
    Idle,
}

impl Workload {
    /// All there are, in order.
    pub const ALL: [Self; 10] =
        [Self::W1, Self::W2, Self::W3, Self::W4, Self::W5, Self::W6, Self::W7, Self::W8, Self::W9, Self::Idle];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::W1 => "w1",
            Self::W2 => "w2",
            Self::W3 => "w3",
            Self::W4 => "w4",
            Self::W5 => "w5",
            Self::W6 => "w6",
            Self::W7 => "w7",
            Self::W8 => "w8",
            Self::W9 => "w9",
            Self::Idle => "idle",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|workload| workload.name().eq_ignore_ascii_case(text));
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|workload| workload.name()).collect();
            format!("there is no workload {text:?}; there are {}", names.join(", "))
        })
    }
}

/// How long the mock model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Think {
    /// Median, in milliseconds; with it 0 it answers at once.
    pub median_ms: u64,
    /// 99th percentile, in milliseconds; no more than the median: always the same.
    pub p99_ms: u64,
}

impl Think {
    /// It answers at once.
    pub const NONE: Self = Self { median_ms: 0, p99_ms: 0 };
}

/// An agent that is scaled under load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Which.
    pub agent: String,
    /// From one process to so many, and back.
    pub processes: u32,
}

/// What is asked for instead of a workload's own settings. `None`: its own.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// [`Settings::cases`].
    pub cases: Option<u64>,
    /// [`Settings::rate`]; 0: all at once.
    pub rate: Option<f64>,
    /// [`Settings::warm_up`].
    pub warm_up: Option<u64>,
    /// [`Settings::runs`].
    pub runs: Option<u32>,
    /// [`Settings::seed`].
    pub seed: Option<u64>,
    /// [`Think::median_ms`].
    pub think_median_ms: Option<u64>,
    /// [`Think::p99_ms`].
    pub think_p99_ms: Option<u64>,
    /// [`Settings::refused`].
    pub refused: Option<f64>,
    /// [`Settings::poison`].
    pub poison: Option<f64>,
    /// One leg for each of these sizes of a request.
    pub payloads: Vec<usize>,
    /// [`Settings::partitions`].
    pub partitions: Option<u32>,
    /// [`Settings::replicas`].
    pub replicas: Option<u32>,
    /// [`Settings::concurrency`].
    pub concurrency: Option<u32>,
    /// [`Settings::kill_every`]; zero: nobody is killed.
    pub kill_every: Option<Duration>,
    /// [`Settings::scale`].
    pub scale: Option<Scale>,
    /// [`Settings::patience`].
    pub patience: Option<Duration>,
    /// [`Settings::floor_batch`].
    pub floor_batch: Option<usize>,
    /// Whether the raw floor is left out.
    pub no_floor: bool,
}

/// All that is set of one leg of a workload. A workload has one leg or several, which are run after each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The workload.
    pub workload: Workload,
    /// What this leg is called; empty where there is only one.
    pub leg: String,
    /// How many cases are measured.
    pub cases: u64,
    /// How many are due in a second; `None`: all at once.
    pub rate: Option<f64>,
    /// How many are sent and decided before, and not measured.
    pub warm_up: u64,
    /// How often it is measured, each time with new processes and topics.
    pub runs: u32,
    /// What think times, refusals and kills are drawn from. Run n takes `seed + n`.
    pub seed: u64,
    /// How long the mock model thinks.
    pub think: Think,
    /// Share of the model's calls that it refuses with 429 and `Retry-After: 1`.
    pub refused: f64,
    /// Share of the requests that no one can read.
    pub poison: f64,
    /// Size of a request in bytes; 0: as it is, about 800 bytes.
    pub payload_bytes: usize,
    /// Partitions of each topic.
    pub partitions: u32,
    /// Processes of each agent.
    pub replicas: u32,
    /// Tasks that one process of an agent works on at the same time, in the topology that is built in.
    pub concurrency: u32,
    /// How often a process is killed (kill -9).
    pub kill_every: Option<Duration>,
    /// Who is scaled under load: from a third of the time to two thirds there are more processes.
    pub scale: Option<Scale>,
    /// Whether the request leads to calls of the model and the registry.
    pub asks: bool,
    /// How long each task of W6 takes, in milliseconds.
    pub nap_ms: u64,
    /// One case at a time, the next one so long after the last one was decided.
    pub one_by_one: Option<Duration>,
    /// How long to wait for cases after the last one was due, before they count as lost.
    pub patience: Duration,
    /// Most records in a batch of the raw floor; `None`: it is not measured.
    pub floor_batch: Option<usize>,
}

impl Settings {
    /// Whether nothing but the system sets its pace: all cases are due at once, and nothing takes its time on purpose.
    #[must_use]
    pub fn is_unpaced(&self) -> bool {
        self.rate.is_none() && self.one_by_one.is_none() && self.think == Think::NONE && self.nap_ms == 0
    }
}

/// A workload's own settings.
fn own(workload: Workload) -> Settings {
    let base = Settings {
        workload,
        leg: String::new(),
        cases: 10_000,
        rate: None,
        warm_up: 50,
        runs: 5,
        seed: 1,
        think: Think::NONE,
        refused: 0.0,
        poison: 0.0,
        payload_bytes: 0,
        partitions: 6,
        replicas: 1,
        // The default of `topics.yaml`.
        concurrency: 256,
        kill_every: None,
        scale: None,
        asks: true,
        nap_ms: 0,
        one_by_one: None,
        patience: Duration::from_secs(300),
        floor_batch: Some(1_000),
    };
    let thinking = Settings {
        rate: Some(100.0),
        think: Think { median_ms: 2_000, p99_ms: 15_000 },
        refused: 0.01,
        // As many as think at the same time.
        concurrency: 4_000,
        ..base.clone()
    };
    match workload {
        Workload::W1 => thinking,
        Workload::W2 => base,
        Workload::W3 => Settings { kill_every: Some(Duration::from_secs(10)), ..thinking },
        Workload::W4 => Settings { poison: 0.01, ..base },
        Workload::W5 => {
            Settings { scale: Some(Scale { agent: "document".to_owned(), processes: 8 }), rate: Some(100.0), ..base }
        }
        Workload::W6 => Settings { cases: 1_000, partitions: 1, nap_ms: 2_000, warm_up: 1, floor_batch: None, ..base },
        Workload::W7 => Settings { cases: 500, ..base },
        Workload::W8 => {
            Settings { cases: 1_000_000, partitions: 12, warm_up: 0, asks: false, floor_batch: None, runs: 1, ..base }
        }
        Workload::W9 => Settings { cases: 1_000, ..base },
        Workload::Idle => {
            Settings { cases: 100, warm_up: 10, one_by_one: Some(Duration::from_millis(50)), floor_batch: None, ..base }
        }
    }
}

/// The legs of a workload with these wishes, in the order in which they are run.
///
/// # Errors
/// [`BenchError::Usage`] for what cannot be meant.
pub fn legs(workload: Workload, wishes: &Wishes) -> Result<Vec<Settings>, BenchError> {
    let settings = wished(own(workload), wishes);
    check(&settings, wishes).map_err(BenchError::Usage)?;
    let named = |leg: &str, settings: Settings| Settings { leg: leg.to_owned(), ..settings };
    Ok(match workload {
        Workload::W7 if wishes.payloads.is_empty() => sized(&settings, &[1_000, 100_000, 900_000]),
        _ if !wishes.payloads.is_empty() => sized(&settings, &wishes.payloads),
        Workload::W9 => vec![
            named("base", settings.clone()),
            named("partitions x10", Settings { partitions: settings.partitions * 10, ..settings.clone() }),
            named("processes x10", Settings { replicas: settings.replicas * 10, ..settings.clone() }),
            named("cases x10", Settings { cases: settings.cases * 10, ..settings }),
        ],
        Workload::Idle => vec![
            named("with model and registry", settings.clone()),
            named("rules alone", Settings { asks: false, ..settings }),
        ],
        _ => vec![settings],
    })
}

fn sized(settings: &Settings, sizes: &[usize]) -> Vec<Settings> {
    let leg = |bytes: &usize| Settings { leg: format!("{bytes} bytes"), payload_bytes: *bytes, ..settings.clone() };
    sizes.iter().map(leg).collect()
}

fn wished(own: Settings, wishes: &Wishes) -> Settings {
    let rate = match wishes.rate {
        Some(rate) => (rate > 0.0).then_some(rate),
        None => own.rate,
    };
    let think = Think {
        median_ms: wishes.think_median_ms.unwrap_or(own.think.median_ms),
        // A fixed time where only the median is given.
        p99_ms: wishes.think_p99_ms.unwrap_or(if wishes.think_median_ms.is_some() { 0 } else { own.think.p99_ms }),
    };
    let kill_every = match wishes.kill_every {
        Some(every) => (!every.is_zero()).then_some(every),
        None => own.kill_every,
    };
    Settings {
        cases: wishes.cases.unwrap_or(own.cases),
        rate,
        warm_up: wishes.warm_up.unwrap_or(own.warm_up),
        runs: wishes.runs.unwrap_or(own.runs),
        seed: wishes.seed.unwrap_or(own.seed),
        think,
        refused: wishes.refused.unwrap_or(own.refused),
        poison: wishes.poison.unwrap_or(own.poison),
        partitions: wishes.partitions.unwrap_or(own.partitions),
        replicas: wishes.replicas.unwrap_or(own.replicas),
        concurrency: wishes.concurrency.unwrap_or(own.concurrency),
        kill_every,
        scale: wishes.scale.clone().or(own.scale),
        patience: wishes.patience.unwrap_or(own.patience),
        floor_batch: if wishes.no_floor { None } else { wishes.floor_batch.or(own.floor_batch) },
        ..own
    }
}

/// Largest request: the rest of a record of 1 MB is the runtime's.
const MAX_PAYLOAD: usize = 940_000;

fn check(settings: &Settings, wishes: &Wishes) -> Result<(), String> {
    let Settings { workload, cases, runs, refused, poison, partitions, replicas, concurrency, .. } = settings;
    let whole = [
        ("--cases", *cases, 10_000_000),
        ("--runs", u64::from(*runs), 1_000),
        ("--partitions", u64::from(*partitions), 1_000),
        ("--replicas", u64::from(*replicas), 64),
        ("--concurrency", u64::from(*concurrency), 100_000),
    ];
    if let Some((name, value, most)) = whole.iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
        return Err(format!("{name} {value}: write a number from 1 to {most}"));
    }
    if let Some(rate) = wishes.rate.filter(|rate| !(0.0..=1e6).contains(rate)) {
        return Err(format!("--rate {rate}: write cases a second, or 0 for all at once"));
    }
    for (name, share) in [("--refused", refused), ("--poison", poison)] {
        if !(0.0..=0.9).contains(share) {
            return Err(format!("{name} {share}: write a share from 0 to 0.9"));
        }
    }
    if let Some(bytes) = wishes.payloads.iter().find(|bytes| !(1_000..=MAX_PAYLOAD).contains(*bytes)) {
        return Err(format!("--payload {bytes}: write bytes from 1000 to {MAX_PAYLOAD}; a record holds 1 MB at most"));
    }
    if settings.scale.is_some() && settings.rate.is_none() {
        return Err("an agent is scaled while cases come: give a --rate".to_owned());
    }
    if settings.kill_every.is_some() && settings.rate.is_none() {
        return Err("processes are killed while cases come: give a --rate".to_owned());
    }
    if *workload == Workload::W6 && (*poison > 0.0 || !wishes.payloads.is_empty() || settings.scale.is_some()) {
        return Err("w6 has one agent that waits: it knows no --poison, no --payload and no --scale".to_owned());
    }
    if [Workload::W6, Workload::W8].contains(workload) && wishes.concurrency.is_some() {
        return Err(format!("{workload} is not of the KYC topology: it knows no --concurrency"));
    }
    let others = settings.kill_every.is_some() || wishes.rate.is_some() || wishes.floor_batch.is_some();
    if *workload == Workload::W8 && (others || *poison > 0.0 || !wishes.payloads.is_empty() || settings.scale.is_some())
    {
        return Err(
            "w8 is of plans that wait: of the load it knows --cases, --runs, --partitions and --patience".to_owned()
        );
    }
    if wishes.floor_batch == Some(0) {
        return Err("--floor-batch 0: write 1 or more, or --no-floor".to_owned());
    }
    Ok(())
}
