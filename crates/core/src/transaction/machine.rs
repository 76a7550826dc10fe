//! The life of a transactional producer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Asked, Failure, Last, Over, Producer, Request, Sight, Verdict, Version};
use crate::group::TopicPartition;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// An identity, or a higher epoch, is needed before anything else.
    Initialising,
    /// Nothing is open.
    Idle,
    /// A transaction is open.
    Open,
    /// One is open, and can only be aborted.
    Doomed,
    /// The end is asked for. `asked`: by a request whose fate was not reported yet. `unclear`: an earlier one may have
    /// been heard.
    Ending {
        commit: bool,
        asked: bool,
        unclear: bool,
    },
    /// A commit is unclear, and the coordinator will not say any more.
    Looking(After),
    Over(Over),
}

/// What follows when the outcome is clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Over(Over),
    Initialising,
    Aborting,
}

/// What is in the open transaction.
#[derive(Debug, Default)]
struct Open {
    /// A broker may have heard of it.
    touched: bool,
    /// Something is under way whose end was not seen.
    launched: bool,
    /// Something of it may still arrive after its end.
    straggling: bool,
    partitions: BTreeSet<TopicPartition>,
    groups: BTreeSet<Arc<str>>,
    witnesses: BTreeMap<TopicPartition, i64>,
}

/// One transactional producer. See the [module](super).
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    version: Version,
    producer: Option<Producer>,
    /// The sequence number that comes next.
    sequences: BTreeMap<TopicPartition, i32>,
    open: Open,
    last: Last,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A new instance: it asks for an identity first.
    pub fn new() -> Self {
        Self {
            phase: Phase::Initialising,
            version: Version::One,
            producer: None,
            sequences: BTreeMap::new(),
            open: Open::default(),
            last: Last::Nothing,
        }
    }

    /// What is to be done before anything else can go on. `None`: nothing. Call it to do it: an end that is handed out and
    /// never reported on, as its caller stopped waiting, may have been heard.
    pub fn next_request(&mut self) -> Option<Request> {
        if let Phase::Ending { asked, unclear, .. } = &mut self.phase {
            *unclear |= *asked;
            *asked = true;
        }
        match (self.phase, self.producer) {
            (Phase::Initialising, producer) => Some(Request::Init(producer)),
            (Phase::Ending { commit, .. }, Some(producer)) => Some(Request::End { producer, commit }),
            (Phase::Looking(_), _) => Some(Request::Look),
            _ => None,
        }
    }

    /// Who writes. `None` before the first answer.
    pub fn producer(&self) -> Option<Producer> {
        self.producer
    }

    /// How transactions work in the open, or last, transaction.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether a transaction could begin now, if the caller has heard how the last one ended.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Whether the end of a transaction is under way.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. } | Phase::Looking(_))
    }

    /// Whether the open transaction may be written to.
    pub fn is_writable(&self) -> bool {
        self.phase == Phase::Open && !self.open.launched
    }

    /// Whether and why it is over. What is [pending](Last::Pending) stays to be settled.
    pub fn over(&self) -> Option<Over> {
        match self.phase {
            Phase::Over(over) | Phase::Looking(After::Over(over)) => Some(over),
            _ => None,
        }
    }

    /// How the last commit ended, as far as is known.
    pub fn last(&self) -> Last {
        self.last
    }

    /// The caller has heard how the last commit ended. What is pending stays so.
    pub fn hear(&mut self) -> Last {
        let last = self.last;
        if last != Last::Pending {
            self.last = Last::Nothing;
        }
        last
    }

    /// Begins a transaction. `false`: not now.
    pub fn begin(&mut self, version: Version) -> bool {
        let may = self.is_idle() && self.last == Last::Nothing;
        if may {
            self.version = version;
            self.phase = Phase::Open;
            self.open = Open::default();
        }
        may
    }

    /// Something is about to be sent as part of the transaction. Until [`landed`](Self::landed) it can only be aborted: whoever
    /// waits for the answers may stop waiting.
    pub fn launch(&mut self) {
        self.open.touched = true;
        self.open.launched = true;
    }

    /// All that was sent is acknowledged.
    pub fn landed(&mut self) {
        self.open.launched = false;
    }

    /// Of these partitions, those to be added before they are written to.
    pub fn to_add(&self, wanted: impl IntoIterator<Item = TopicPartition>) -> BTreeSet<TopicPartition> {
        let missing = |tp: &TopicPartition| self.version == Version::One && !self.open.partitions.contains(tp);
        wanted.into_iter().filter(missing).collect()
    }

    /// Partitions were added.
    pub fn added(&mut self, partitions: BTreeSet<TopicPartition>) {
        self.open.partitions.extend(partitions);
    }

    /// Whether a group is to be added before its offsets are written.
    pub fn must_add_group(&self, group: &str) -> bool {
        self.version == Version::One && !self.open.groups.contains(group)
    }

    /// A group was added.
    pub fn added_group(&mut self, group: Arc<str>) {
        self.open.groups.insert(group);
    }

    /// The sequence number of a batch of `count` records, and takes it. They wrap after 2³¹ − 1.
    pub fn sequence(&mut self, tp: &TopicPartition, count: i32) -> i32 {
        let next = self.sequences.entry(tp.clone()).or_insert(0);
        let sequence = *next;
        *next = sequence.wrapping_add(count) & i32::MAX;
        sequence
    }

    /// A batch was acknowledged at this offset. The first of each partition is a witness of how the transaction ends.
    pub fn delivered(&mut self, tp: &TopicPartition, offset: i64) {
        if offset >= 0 {
            self.open.witnesses.entry(tp.clone()).or_insert(offset);
        }
    }

    /// Where records of the transaction are.
    pub fn witnesses(&self) -> &BTreeMap<TopicPartition, i64> {
        &self.open.witnesses
    }

    /// Something failed: the open transaction can only be aborted. What was sent may still arrive.
    pub fn doom(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Doomed;
        }
        self.straggle();
    }

    /// A request of the open transaction may arrive once more, after it has ended.
    pub fn straggle(&mut self) {
        self.open.straggling = true;
    }

    /// The producer is over, as the answer to a write said. The transaction will not be committed.
    pub fn finish(&mut self, over: Over) {
        if matches!(self.phase, Phase::Open | Phase::Doomed) {
            self.phase = Phase::Over(over);
        }
    }

    /// Ends the open transaction. A commit of what can only be aborted aborts.
    pub fn end(&mut self, commit: bool) {
        let can_commit = self.is_writable();
        match self.phase {
            Phase::Open | Phase::Doomed => {}
            Phase::Over(_) if commit => return self.last = Last::Aborted,
            _ => return,
        }
        self.open.straggling |= self.open.launched;
        let commits = commit && can_commit;
        if commit {
            self.last = if commits { Last::Pending } else { Last::Aborted };
        }
        if self.open.touched {
            self.phase = Phase::Ending { commit: commits, asked: false, unclear: false };
            return;
        }
        if commits {
            self.last = Last::Committed;
        }
        self.phase = Phase::Idle;
    }

    /// InitProducerId was answered.
    pub fn initialised(&mut self, answer: Result<Producer, Failure>) {
        if self.phase != Phase::Initialising {
            return;
        }
        match answer {
            Ok(producer) => {
                self.producer = Some(producer);
                self.sequences.clear();
                self.phase = Phase::Idle;
            }
            Err(failure) => match failure.code.map(|code| Verdict::of(Asked::Init, code)) {
                None | Some(Verdict::Again | Verdict::FindCoordinator | Verdict::Missing) => {}
                Some(Verdict::Fenced) => self.phase = Phase::Over(Over::Fenced),
                Some(_) => self.phase = Phase::Over(Over::Fatal),
            },
        }
    }

    /// EndTxn was answered; under version 2 with the identity that follows.
    pub fn ended(&mut self, answer: Result<Option<Producer>, Failure>) {
        let Phase::Ending { commit, unclear, .. } = self.phase else { return };
        let failure = match answer {
            Ok(next) => return self.done(commit, unclear, next),
            Err(failure) => failure,
        };
        match failure.code.map(|code| Verdict::of(Asked::End, code)) {
            None | Some(Verdict::Again | Verdict::FindCoordinator | Verdict::Missing) => {
                let open = failure.may_have_happened || failure.code.is_some_and(Verdict::leaves_end_open);
                self.phase = Phase::Ending { commit, asked: false, unclear: unclear || open };
            }
            Some(verdict) => self.refused(commit, unclear, verdict),
        }
    }

    fn done(&mut self, commit: bool, unclear: bool, next: Option<Producer>) {
        if commit {
            self.last = Last::Committed;
        }
        match (self.version, next) {
            (Version::Two, Some(next)) => {
                self.producer = Some(next);
                self.sequences.clear();
                self.phase = Phase::Idle;
            }
            (Version::One, _) if !unclear && !self.open.straggling => self.phase = Phase::Idle,
            _ => self.phase = Phase::Initialising,
        }
        self.open = Open::default();
    }

    /// The coordinator will not do it, and says why. Had an earlier try of a commit been heard, it may be done.
    fn refused(&mut self, commit: bool, unclear: bool, verdict: Verdict) {
        let after = match verdict {
            Verdict::Fenced => After::Over(Over::Fenced),
            Verdict::Fatal => After::Over(Over::Fatal),
            Verdict::Abort if commit && !unclear => After::Aborting,
            _ => After::Initialising,
        };
        let can_look = !self.open.witnesses.is_empty() && after != After::Over(Over::Fatal);
        match (commit, unclear) {
            (true, true) if can_look => self.phase = Phase::Looking(after),
            (true, true) => self.clear(Last::Unknown, after),
            (true, false) => self.clear(Last::Aborted, after),
            (false, _) => self.clear(self.last, after),
        }
    }

    fn clear(&mut self, last: Last, after: After) {
        self.last = last;
        match after {
            After::Over(over) => self.phase = Phase::Over(over),
            After::Initialising => {
                self.phase = Phase::Initialising;
                self.open = Open::default();
            }
            After::Aborting => self.phase = Phase::Ending { commit: false, asked: false, unclear: false },
        }
    }

    /// The log was looked at.
    pub fn looked(&mut self, sight: Sight) {
        let Phase::Looking(after) = self.phase else { return };
        match sight {
            Sight::Committed => self.clear(Last::Committed, after),
            Sight::Aborted => self.clear(Last::Aborted, after),
            Sight::Gone => self.clear(Last::Unknown, after),
            Sight::NotYet => {}
        }
    }
}
