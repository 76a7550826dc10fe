//! The faults, done at their times. What is stopped is continued and what is cut is mended, each when the last fault on it
//! is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_testkit::kafka_proxy::Net;
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::time::Instant;

use super::schedule::{Blow, Fault};
use super::site::Network;
use crate::console::Console;
use crate::processes::Fleet;

/// A process that failed by itself is away until it is started again; a fault waits so long for it.
const STRIKE_WITHIN: Duration = Duration::from_secs(10);

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    pub(super) kills: u32,
    pub(super) stops: u32,
    /// Those of the stops that were longer than the session time.
    pub(super) stops_beyond_session: u32,
    pub(super) cuts: u32,
    pub(super) silences: u32,
    /// Faults that hit nobody, as the process did not run.
    pub(super) missed: u32,
}

/// The faults under way at one process.
#[derive(Debug, Clone, Copy, Default)]
struct Hurt {
    stops: u32,
    cuts: u32,
    silences: u32,
}

impl Hurt {
    fn net(self) -> Net {
        match (self.cuts, self.silences) {
            (0, 0) => Net::Up,
            (0, _) => Net::Silent,
            _ => Net::Cut,
        }
    }
}

/// Does them.
pub(super) struct Striker<'a> {
    fleet: &'a Fleet,
    network: &'a Network,
    console: &'a Console,
    sessions: &'a [Duration],
    labels: Vec<String>,
    tally: Mutex<Tally>,
}

impl<'a> Striker<'a> {
    pub(super) fn new(fleet: &'a Fleet, network: &'a Network, console: &'a Console, sessions: &'a [Duration]) -> Self {
        let labels = fleet.labels().map(str::to_owned).collect();
        Self { fleet, network, console, sessions, labels, tally: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done so far.
    pub(super) fn tally(&self) -> Tally {
        self.lock().clone()
    }

    /// Does all of them, and returns when the last one is over.
    pub(super) async fn run(&self, faults: &[Fault], began: Instant) {
        let mut moments: Vec<(Duration, bool, &Fault)> = Vec::with_capacity(faults.len() * 2);
        for fault in faults {
            moments.push((fault.at, true, fault));
            if !fault.lasts.is_zero() {
                moments.push((fault.until(), false, fault));
            }
        }
        moments.sort_by_key(|(at, begins, _)| (*at, *begins));
        let mut hurt = vec![Hurt::default(); self.labels.len()];
        for (at, begins, fault) in moments {
            tokio::time::sleep_until(began + at).await;
            if begins {
                self.say(fault, began.elapsed());
            }
            for target in &fault.targets {
                self.turn(fault, *target, begins, &mut hurt[*target]).await;
            }
            if begins {
                self.count(fault);
            }
        }
    }

    /// A fault begins or ends at one process.
    async fn turn(&self, fault: &Fault, target: usize, begins: bool, hurt: &mut Hurt) {
        let count = match fault.blow {
            Blow::Kill => return self.signal(target, Signal::SIGKILL).await,
            Blow::Stop => &mut hurt.stops,
            Blow::Cut => &mut hurt.cuts,
            Blow::Silence => &mut hurt.silences,
        };
        let before = *count;
        *count = if begins { before + 1 } else { before.saturating_sub(1) };
        match fault.blow {
            // Also where it is stopped already: since then it may have been killed, and another runs.
            Blow::Stop if begins => self.signal(target, Signal::SIGSTOP).await,
            Blow::Stop if hurt.stops == 0 => self.signal(target, Signal::SIGCONT).await,
            Blow::Stop => {}
            _ => self.network.set(target, hurt.net()),
        }
    }

    async fn signal(&self, target: usize, signal: Signal) {
        let struck = tokio::time::timeout(STRIKE_WITHIN, self.fleet.strike(target, signal)).await;
        if !struck.unwrap_or(false) {
            self.lock().missed += 1;
            let label = self.labels.get(target).map_or("", String::as_str);
            self.console.line(&format!("           {label} does not run, so that {signal} did not reach it"));
        }
    }

    fn count(&self, fault: &Fault) {
        let mut tally = self.lock();
        match fault.blow {
            Blow::Kill => tally.kills += 1,
            Blow::Cut => tally.cuts += 1,
            Blow::Silence => tally.silences += 1,
            Blow::Stop => {
                tally.stops += 1;
                tally.stops_beyond_session += u32::from(self.is_long(fault));
            }
        }
    }

    fn is_long(&self, fault: &Fault) -> bool {
        fault.targets.iter().any(|target| self.sessions.get(*target).is_some_and(|session| fault.lasts > *session))
    }

    fn say(&self, fault: &Fault, elapsed: Duration) {
        let what = match fault.blow {
            Blow::Kill => "kill -9",
            Blow::Stop => "stop",
            Blow::Cut => "cut off",
            Blow::Silence => "silence",
        };
        let whom = match &fault.targets[..] {
            [one] => self.labels.get(*one).map_or("", String::as_str),
            _ => "all processes",
        };
        let long = if self.is_long(fault) { ", longer than the session time" } else { "" };
        let lasts = match fault.lasts.is_zero() {
            true => String::new(),
            false => format!(" for {:.1} s{long}", fault.lasts.as_secs_f64()),
        };
        self.console.line(&format!("{:>7.1} s  {what:<8} {whom}{lasts}", elapsed.as_secs_f64()));
    }
}
