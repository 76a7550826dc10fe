//! The journal of one partition of tasks: what was done for which task, so that a redelivery goes on where it ended.
//!
//! The log is the truth, and this is what follows from it. Whoever reads the same log from the same [`Position`] knows the
//! same, whatever came in between:
//!
//! - **Runs.** A process that is given a partition writes that it has [opened](Line::Opened) the journal, and reads up to
//!   there. From there on only what its run writes counts. An owner that has been taken over and does not know it yet may
//!   write on; nobody takes that for part of the story.
//! - **Attempts.** Within a run a step may be done twice, if an attempt was given up before its result was acknowledged.
//!   The later result counts: a result is used only once it is acknowledged, and is then not written again.
//! - **Position.** The lowest offset of a task that is not [closed](Line::Closed). It is committed with the name of the run
//!   that counts there; a new owner reads from it and never what lies below.
//!
//! What is held in memory is bounded: results of tasks that are not worked on here can be [set aside](Journal::set_aside),
//! and are read back when their task is.

mod entries;
mod line;
pub mod past;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anabranch_protocol::{TaskId, Timestamp};

pub use entries::{Entries, Known};
pub use line::{Line, Step, Unreadable};

#[derive(Debug)]
struct Task {
    /// Where its first and its last entry lie.
    first: i64,
    last: i64,
    expires: Timestamp,
    /// Of all its entries.
    bytes: usize,
    steps: usize,
    /// That it is done is being written.
    closing: bool,
    /// `None`: set aside.
    entries: Option<Entries>,
}

/// How much a task's journal may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most entries; each step has up to two.
    pub entries: usize,
    /// Most bytes of all its entries.
    pub bytes: usize,
}

/// Where a new owner has to begin to read, and which run counts there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The lowest offset that matters.
    pub offset: i64,
    /// The run whose lines count from there on; `None`: nobody has opened the journal yet.
    pub run: Option<Arc<str>>,
}

/// Whether work on a task may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// It begins.
    Ready,
    /// Its entries are set aside: they lie from here to `last`, included. Read them, [`restore`](Journal::restore) them,
    /// and ask again.
    ReadBack {
        /// Where to begin to read.
        from: Position,
        /// Where its last entry lies.
        last: i64,
    },
    /// That an earlier delivery of it is done is being written: ask again soon.
    Closing,
}

/// What a line led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It counts.
    Counts,
    /// A run wrote it that had been taken over.
    Fenced,
    /// It says nothing new.
    Repeats,
}

/// The journal of one partition.
#[derive(Debug, Default)]
pub struct Journal {
    /// Which run counts from which offset on. Of those below the position only the last is kept.
    runs: BTreeMap<i64, Arc<str>>,
    tasks: HashMap<TaskId, Task>,
    /// Deliveries that are worked on here, of tasks with entries and without.
    at_work: HashMap<TaskId, u32>,
    firsts: BTreeSet<(i64, TaskId)>,
    expiries: BTreeSet<(Timestamp, TaskId)>,
    /// Writes under way: none of them will lie below this offset.
    under_way: BTreeMap<u64, i64>,
    writes: u64,
    /// One past the highest offset that was applied.
    next: i64,
    held_bytes: usize,
}

impl Journal {
    /// A journal that is read from `position` on.
    pub fn at(position: Position) -> Self {
        let mut journal = Self { next: position.offset, ..Self::default() };
        // Below whatever comes.
        journal.runs.extend(position.run.map(|run| (i64::MIN, run)));
        journal
    }

    /// Takes in a line of so many bytes that lies at `offset`.
    pub fn apply(&mut self, offset: i64, line: &Line, bytes: usize) -> Applied {
        self.next = self.next.max(offset + 1);
        let run = match line {
            Line::Opened { run } => return self.opened(offset, run),
            Line::Step(step) => &step.run,
            Line::Closed { run, .. } => run,
        };
        let Some(run) = self.counts(offset, run) else { return Applied::Fenced };
        match line {
            Line::Step(step) => self.step(offset, run, step, bytes),
            Line::Closed { tasks, .. } => {
                tasks.iter().for_each(|task| self.forget(task));
                Applied::Counts
            }
            Line::Opened { .. } => Applied::Repeats,
        }
    }

    /// A run takes over. One that was there before does not: a copy of its line came late.
    fn opened(&mut self, offset: i64, run: &str) -> Applied {
        if self.runs.values().any(|known| **known == *run) {
            return Applied::Repeats;
        }
        self.runs.insert(offset, run.into());
        Applied::Counts
    }

    /// The run of a line, if it counts at `offset`. Where none is known to count, the first one seen does.
    fn counts(&mut self, offset: i64, run: &str) -> Option<Arc<str>> {
        match self.run_at(offset) {
            Some(current) => (**current == *run).then(|| current.clone()),
            None => {
                let run: Arc<str> = run.into();
                self.runs.insert(offset, run.clone());
                Some(run)
            }
        }
    }

    fn step(&mut self, offset: i64, run: Arc<str>, step: &Step, bytes: usize) -> Applied {
        let task = match self.tasks.get_mut(&step.task) {
            Some(task) => task,
            None => self.begin(offset, &step.task, step.expires),
        };
        task.last = task.last.max(offset);
        let first_before = task.first;
        task.first = task.first.min(offset);
        let first = task.first;
        // Set aside: what it says will be read back with the rest.
        let applied = match &mut task.entries {
            None => Applied::Counts,
            Some(entries) => entries.note((run, step.seq), step),
        };
        if applied == Applied::Counts {
            task.bytes += bytes;
            task.steps += 1;
            if task.entries.is_some() {
                self.held_bytes += bytes;
            }
        }
        if first != first_before {
            self.firsts.remove(&(first_before, step.task.clone()));
            self.firsts.insert((first, step.task.clone()));
        }
        applied
    }

    fn begin(&mut self, offset: i64, id: &TaskId, expires: Timestamp) -> &mut Task {
        self.firsts.insert((offset, id.clone()));
        self.expiries.insert((expires, id.clone()));
        let entries = Some(Entries::default());
        let task = Task { first: offset, last: offset, expires, bytes: 0, steps: 0, closing: false, entries };
        self.tasks.entry(id.clone()).or_insert(task)
    }

    fn forget(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.remove(id) else { return };
        self.firsts.remove(&(task.first, id.clone()));
        self.expiries.remove(&(task.expires, id.clone()));
        if task.entries.is_some() {
            self.held_bytes -= task.bytes;
        }
    }

    /// Which run counts at an offset.
    fn run_at(&self, offset: i64) -> Option<&Arc<str>> {
        self.runs.range(..=offset).next_back().map(|(_, run)| run)
    }

    /// Where a new owner has to begin.
    pub fn position(&mut self) -> Position {
        let open = self.firsts.first().map(|(first, _)| *first);
        let under_way = self.under_way.values().min().copied();
        let offset = [open, under_way].into_iter().flatten().fold(self.next, i64::min);
        let run = self.run_at(offset).cloned();
        if let Some(last) = self.runs.range(..=offset).next_back().map(|(began, _)| *began) {
            self.runs = self.runs.split_off(&last);
        }
        Position { offset, run }
    }

    /// A write begins: until it [ends](Self::ended) the position does not pass the place where it may come to lie.
    pub fn write(&mut self) -> u64 {
        self.writes += 1;
        self.under_way.insert(self.writes, self.next);
        self.writes
    }

    /// A write has ended: what it wrote has been applied, or is not used.
    pub fn ended(&mut self, write: u64) {
        self.under_way.remove(&write);
    }

    /// Work on a task begins, unless it has to wait.
    pub fn work(&mut self, id: &TaskId) -> Begin {
        match self.tasks.get(id) {
            Some(task) if task.closing => return Begin::Closing,
            Some(task) if task.entries.is_none() => {
                let from = Position { offset: task.first, run: self.run_at(task.first).cloned() };
                return Begin::ReadBack { from, last: task.last };
            }
            _ => *self.at_work.entry(id.clone()).or_default() += 1,
        }
        Begin::Ready
    }

    /// Work on a task ends, however it ended.
    pub fn rest(&mut self, id: &TaskId) {
        if let Some(deliveries) = self.at_work.get_mut(id) {
            *deliveries -= 1;
            if *deliveries == 0 {
                self.at_work.remove(id);
            }
        }
    }

    /// The entries of a task that were set aside, as another journal has read them.
    pub fn restore(&mut self, id: &TaskId, read: &mut Journal) {
        let Some(task) = self.tasks.get_mut(id).filter(|task| task.entries.is_none()) else { return };
        let found = read.tasks.get_mut(id).and_then(|task| task.entries.take());
        task.entries = Some(found.unwrap_or_default());
        self.held_bytes += task.bytes;
    }

    /// What is recorded of a task, unless it is set aside.
    pub fn entries(&self, id: &TaskId) -> Option<&Entries> {
        self.tasks.get(id)?.entries.as_ref()
    }

    /// Whether anything is recorded of a task, set aside or not.
    pub fn is_open(&self, id: &TaskId) -> bool {
        self.tasks.contains_key(id)
    }

    /// Whether another entry of so many bytes has room within `bounds`; else which bound it would pass.
    ///
    /// # Errors
    /// The bound, in words.
    pub fn room(&self, id: &TaskId, bytes: usize, bounds: Bounds) -> Result<(), String> {
        let (steps, held) = self.tasks.get(id).map_or((0, 0), |task| (task.steps, task.bytes));
        if steps >= bounds.entries {
            return Err(format!("{} entries, journal.max_entries", bounds.entries));
        }
        if held + bytes > bounds.bytes {
            return Err(format!("{} bytes, journal.max_task", bounds.bytes));
        }
        Ok(())
    }

    /// Tasks are done. Those of them that have entries: once a [`Line::Closed`] that names them is applied, they are
    /// forgotten. Until then no work on them begins. A task that is worked on again meanwhile stays.
    pub fn close(&mut self, tasks: &[TaskId]) -> Vec<TaskId> {
        let mut closing = Vec::new();
        for id in tasks {
            if let Some(task) = self.tasks.get_mut(id).filter(|task| !task.closing && !self.at_work.contains_key(id)) {
                task.closing = true;
                closing.push(id.clone());
            }
        }
        closing
    }

    /// The line that was to close these tasks could not be written: they stay open.
    pub fn not_closed(&mut self, tasks: &[TaskId]) {
        for id in tasks {
            if let Some(task) = self.tasks.get_mut(id) {
                task.closing = false;
            }
        }
    }

    /// Forgets tasks whose time is over, except those that are worked on here. Returns how many.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let over: Vec<TaskId> = self
            .expiries
            .iter()
            .take_while(|(expires, _)| *expires < now)
            .filter(|(_, id)| !self.at_work.contains_key(id) && self.tasks.get(id).is_some_and(|task| !task.closing))
            .map(|(_, id)| id.clone())
            .collect();
        over.iter().for_each(|id| self.forget(id));
        over.len()
    }

    /// Sets results aside until at most `bytes` are held, or until only tasks hold some that are worked on.
    pub fn set_aside(&mut self, bytes: usize) {
        if self.held_bytes <= bytes {
            return;
        }
        for (_, id) in &self.firsts {
            let resting = !self.at_work.contains_key(id);
            let Some(task) = self.tasks.get_mut(id).filter(|t| resting && t.entries.is_some()) else { continue };
            task.entries = None;
            self.held_bytes -= task.bytes;
            if self.held_bytes <= bytes {
                return;
            }
        }
    }

    /// Bytes of the entries that are held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Tasks that are not closed.
    pub fn open_tasks(&self) -> usize {
        self.tasks.len()
    }
}
