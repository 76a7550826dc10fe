//! Puts the layers together.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::books::Books;
use super::budget::Budget;
use super::call::Desk;
use super::gate::{BreakerWatch, Gate};
use super::lane::Lane;
use super::ledger::Ledger;
use super::run::{Running, counts_money, without_price};
use super::settings::Settings;
use super::sharing::{ANNOUNCE_EVERY, Announcement, Demand, Settling, Sharing, due};
use crate::error::ModelError;
use crate::port::Model;

/// How often a process says what it wants while it wants nothing.
const ANNOUNCE_IDLE_EVERY: Duration = Duration::from_secs(1);

/// A stack to be built.
pub struct Stack {
    transport: Arc<dyn Model>,
    fallback_transport: Option<Arc<dyn Model>>,
    settings: Settings,
    ledger: Option<Arc<dyn Ledger>>,
    sharing: Option<Arc<dyn Sharing>>,
    process: String,
    now_ms: fn() -> u64,
}

/// A stack that is built, and what belongs to it. It ends when the last clone of the model is dropped.
#[derive(Clone)]
pub struct Stacked {
    /// The model, with all layers.
    pub model: Arc<dyn Model>,
    /// Whether it may be asked now.
    pub breaker: BreakerWatch,
    /// What is spent. It is to be told of the ledger's entries.
    pub budget: Budget,
}

impl Stack {
    /// A stack over `transport`. Without a ledger nothing is written down; without sharing this process has the whole
    /// rate limit to itself.
    pub fn new(transport: Arc<dyn Model>, settings: Settings) -> Self {
        let process = format!("{:032x}", rand::random::<u128>());
        Self { transport, fallback_transport: None, settings, ledger: None, sharing: None, process, now_ms }
    }

    /// With a ledger.
    #[must_use]
    pub fn with_ledger(self, ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger: Some(ledger), ..self }
    }

    /// With other processes that have the same rate limit together.
    #[must_use]
    pub fn with_sharing(self, sharing: Arc<dyn Sharing>) -> Self {
        Self { sharing: Some(sharing), ..self }
    }

    /// With another endpoint for the fallback. Without it the fallback is asked at the same.
    #[must_use]
    pub fn with_fallback_transport(self, transport: Arc<dyn Model>) -> Self {
        Self { fallback_transport: Some(transport), ..self }
    }

    /// Under a name of the caller's. It must be another one after each start. Without it, it is made up.
    #[must_use]
    pub fn with_process(self, process: impl Into<String>) -> Self {
        Self { process: process.into(), ..self }
    }

    /// With a clock of the caller's: Unix time in milliseconds.
    #[must_use]
    pub fn with_clock(self, now_ms: fn() -> u64) -> Self {
        Self { now_ms, ..self }
    }

    /// Builds it, and starts the tasks of its limits: it must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ModelError::Misconfigured`] if a budget counts money and a model has no price, or if there is no runtime.
    pub fn build(self) -> Result<Stacked, ModelError> {
        let Self { transport, fallback_transport, settings, ledger, sharing, process, now_ms } = self;
        check(&settings)?;
        let gate = Arc::new(Gate::new(1 + usize::from(settings.fallback.is_some())));
        let breaker = gate.watch();
        let shared = sharing.is_some();
        let second = settings.fallback.as_ref().map(|fallback| {
            let transport = fallback_transport.unwrap_or_else(|| transport.clone());
            let instead_of = Some(settings.model.name.clone());
            Lane::start(fallback.model.clone(), instead_of, transport, shared, (1, gate.clone()))
        });
        let first = Lane::start(settings.model.clone(), None, transport, shared, (0, gate.clone()));
        let budget = Budget::new(settings.budgets, &process);
        let books = Books::new(ledger, process.clone());
        let desk = Desk { books, prices: settings.prices.clone(), now_ms };
        let running = Arc::new(Running { settings, desk, budget: budget.clone(), gate, first, second });
        if let Some(sharing) = sharing {
            tokio::spawn(share(Arc::downgrade(&running), Line { sharing, process }));
        }
        Ok(Stacked { model: running, breaker, budget })
    }
}

fn check(settings: &Settings) -> Result<(), ModelError> {
    let models = [Some(&settings.model), settings.fallback.as_ref().map(|fallback| &fallback.model)];
    for model in models.into_iter().flatten() {
        if counts_money(settings) && settings.prices.of(&model.name).is_none() {
            return Err(without_price(&model.name));
        }
    }
    tokio::runtime::Handle::try_current().map(drop).map_err(|error| ModelError::Misconfigured {
        message: format!("the model stack is built outside of a runtime: {error}"),
    })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// This process's end of the line to the others. It says good-bye when it is dropped.
struct Line {
    sharing: Arc<dyn Sharing>,
    process: String,
}

impl Line {
    fn say(&self, demand: BTreeMap<String, Demand>, leaving: bool) {
        self.sharing.announce(Announcement { process: self.process.clone(), demand, leaving });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.say(BTreeMap::new(), true);
    }
}

/// Says what this process wants, and sets its shares by what the others say, until the stack is gone.
async fn share(running: Weak<Running>, line: Line) {
    let mut settling = BTreeMap::new();
    let mut said: Option<Instant> = None;
    while let Some(running) = running.upgrade() {
        let now = Instant::now();
        let demand: BTreeMap<_, _> = running.limiters().map(|(lane, limiter)| (lane, limiter.demand())).collect();
        let wants = demand.values().any(|demand| demand.requests > 0 || demand.tokens > 0);
        if wants || said.is_none_or(|at| now.duration_since(at) >= ANNOUNCE_IDLE_EVERY) {
            said = Some(now);
            line.say(demand, false);
        }
        let heard = line.sharing.heard();
        for (model, limiter) in running.limiters() {
            // Who does not hear itself keeps what it has.
            let Some(share) = due(&line.process, &heard, &model, limiter.limit()) else { continue };
            let settling = settling.entry(model).or_insert_with(|| Settling::new(limiter.limit(), now));
            limiter.set_share(settling.update(share, now));
        }
        drop(running);
        tokio::time::sleep(ANNOUNCE_EVERY).await;
    }
}

impl Running {
    fn limiters(&self) -> impl Iterator<Item = (String, &super::limiter::Limiter)> {
        let lanes = std::iter::once(&self.first).chain(self.second.as_ref());
        lanes.filter_map(|lane| Some((lane.limits.name.clone(), lane.limiter()?)))
    }
}
