//! What processes take, as `/proc` tells it: resident memory and processor time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::processes::Group;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux there is.
const TICKS_A_SECOND: f64 = 100.0;
/// As the kernel writes them in `statm`; larger pages are not looked for.
const PAGE_BYTES: u64 = 4096;

/// What the processes of a group took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// The largest sum of their resident memory at one time, in bytes. Pages that processes share count for each of them.
    pub peak_resident_bytes: u64,
    /// Processor time, in seconds, of those that were killed too.
    pub cpu_seconds: f64,
}

/// Which processes there are, and what they took so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    processes: BTreeMap<u32, Watched>,
    /// Process groups, all of whose processes are watched.
    trees: BTreeMap<u32, Group>,
    peaks: BTreeMap<Group, u64>,
    peak_of_all: u64,
}

#[derive(Debug)]
struct Watched {
    group: Group,
    /// Processor time when measuring began, in seconds.
    cpu_before: f64,
    cpu: f64,
}

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    resident: u64,
    cpu: f64,
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process begins. One that began before counts from [`Meter::begin`] on.
    pub(crate) fn add(&self, pid: u32, group: Group) {
        self.lock().processes.insert(pid, Watched { group, cpu_before: 0.0, cpu: 0.0 });
    }

    /// All processes of this process group, whenever they begin.
    pub(crate) fn add_tree(&self, leader: u32, group: Group) {
        self.lock().trees.insert(leader, group);
    }

    /// From here on it is measured.
    pub(crate) fn begin(&self) {
        let mut state = self.lock();
        state.find();
        for (pid, watched) in &mut state.processes {
            if let Some(look) = look(*pid) {
                (watched.cpu_before, watched.cpu) = (look.cpu, look.cpu);
            }
        }
        state.peaks.clear();
        state.peak_of_all = 0;
    }

    /// Looks at all of them now.
    pub(crate) fn look(&self) {
        let mut state = self.lock();
        state.find();
        let mut sums: BTreeMap<Group, u64> = BTreeMap::new();
        for (pid, watched) in &mut state.processes {
            // One that has ended keeps what it had when it was last looked at.
            if let Some(look) = look(*pid) {
                watched.cpu = watched.cpu.max(look.cpu);
                *sums.entry(watched.group).or_default() += look.resident;
            }
        }
        state.peak_of_all = state.peak_of_all.max(sums.values().sum());
        for (group, sum) in sums {
            let peak = state.peaks.entry(group).or_default();
            *peak = (*peak).max(sum);
        }
    }

    /// Looks again and again, until dropped.
    pub(crate) fn watch(&self) -> Watching {
        let meter = self.clone();
        Watching(tokio::spawn(async move {
            loop {
                meter.look();
                tokio::time::sleep(EVERY).await;
            }
        }))
    }

    /// What each group took since [`Meter::begin`], and the largest sum of all groups' memory at one time.
    pub(crate) fn taken(&self) -> (BTreeMap<Group, Taken>, u64) {
        self.look();
        let state = self.lock();
        let mut taken: BTreeMap<Group, Taken> = BTreeMap::new();
        for watched in state.processes.values() {
            taken.entry(watched.group).or_default().cpu_seconds += watched.cpu - watched.cpu_before;
        }
        for (group, peak) in &state.peaks {
            taken.entry(*group).or_default().peak_resident_bytes = *peak;
        }
        (taken, state.peak_of_all)
    }
}

impl State {
    /// Processes of the trees that are not known yet.
    fn find(&mut self) {
        if self.trees.is_empty() {
            return;
        }
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if let Some(group) = process_group(&stat).and_then(|leader| self.trees.get(&leader)) {
                self.processes.entry(pid).or_insert(Watched { group: *group, cpu_before: 0.0, cpu: 0.0 });
            }
        }
    }
}

/// Ends with it.
pub(crate) struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Resident memory of a process now; `None` once it has ended.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    look(pid).map(|look| look.resident)
}

/// `None` once it has ended.
fn look(pid: u32) -> Option<Look> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    Some(Look { resident: resident(&read("statm")?)?, cpu: cpu(&read("stat")?)? })
}

/// The second field of `statm`, in pages.
fn resident(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(PAGE_BYTES)
}

/// The process group, field 5 of `stat`.
fn process_group(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

/// `utime` and `stime`, fields 14 and 15 of `stat`. The name before them may hold anything, spaces and parentheses too.
fn cpu(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(resident("2481 377 290 5 0 163 0"), Some(377 * 4096));
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 500 0 0 0 150 25 0 0 20 0 9 0 77 0 0";
        assert_eq!((cpu(stat), process_group(stat)), (Some(1.75), Some(42)));
        assert_eq!((cpu("no"), resident("")), (None, None));
    }

    #[test]
    fn a_process_takes_memory_and_time_from_the_beginning_on() {
        let meter = Meter::default();
        meter.add(std::process::id(), Group::Bench);
        meter.begin();
        let (taken, all) = meter.taken();
        let bench = taken[&Group::Bench];
        assert!(bench.peak_resident_bytes > 1_000_000 && all == bench.peak_resident_bytes, "{bench:?}");
        assert!((0.0..60.0).contains(&bench.cpu_seconds), "{bench:?}");
    }

    #[test]
    fn what_has_ended_is_no_longer_looked_at() {
        // Above the largest that a kernel gives.
        assert_eq!(look(u32::MAX), None);
    }
}
