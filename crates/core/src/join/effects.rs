//! What goes in and out of the join: events that count or do not, what is to be done, and what a composer decided.

use anabranch_protocol::{FollowUpKind, Partial, PlanId};

use super::desk::Parking;

/// Something that happens to a case.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A plan came.
    Plan(&'a PlanId),
    /// An answer came.
    Partial(&'a Partial),
    /// A person decided.
    Review,
    /// Something that was asked for came.
    Information,
    /// Its deadline may have passed.
    Overdue,
    /// Something may be due while it is parked.
    Bell,
}

/// Which payloads must be at hand before an event is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// None.
    Nothing,
    /// The plan, and the information that came since.
    Plan,
    /// All of them.
    All,
}

/// A voting step without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Its index.
    pub step: usize,
    /// Whose.
    pub agent: String,
    /// Whether the case needs it.
    pub required: bool,
    /// Why.
    pub why: WhyMissing,
}

/// Why an answer is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyMissing {
    /// The deadline passed first.
    Late,
    /// Its task became a dead letter. The answer says why.
    Failed,
    /// There was enough to decide without it.
    NotWaitedFor,
}

/// Why something came too late to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateReason {
    /// No such case is known: it was never planned, or was forgotten after its time.
    UnknownCase,
    /// The case has its outcome.
    Closed,
    /// The case waits for a person, and this is not what they decided.
    Parked,
    /// It belongs to a plan that does not count.
    OtherPlan,
    /// This answer is in already.
    Repeated,
    /// The agent was asked again meanwhile; the later answer counts.
    Superseded,
    /// Nobody asked this agent, or not in this round.
    NotAsked,
}

impl LateReason {
    /// A fixed word for headers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCase => "unknown-case",
            Self::Closed => "closed",
            Self::Parked => "parked",
            Self::OtherPlan => "other-plan",
            Self::Repeated => "repeated",
            Self::Superseded => "superseded",
            Self::NotAsked => "not-asked",
        }
    }
}

/// Tasks to ask the supervisor for. Whoever follows them puts in request, answers and outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asks {
    /// Why.
    pub kind: FollowUpKind,
    /// Whom and what, at least one.
    pub tasks: Vec<Ask>,
}

/// One task to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The step's index.
    pub step: usize,
    /// In which round.
    pub round: u32,
    /// What a follow-up round asks.
    pub question: Option<String>,
}

/// What is to be done after an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Effects {
    /// The case changed: its state is to be saved.
    pub changed: bool,
    /// The step whose answer was taken in: the composer is to see it.
    pub part: Option<usize>,
    /// Tasks to ask the supervisor for.
    pub asks: Vec<Asks>,
    /// The composer is to decide, with these answers missing.
    pub compose: Option<Vec<Unanswered>>,
    /// The case is to become a dead letter, because these answers are missing.
    pub give_up: Option<Vec<Unanswered>>,
    /// The event changed nothing.
    pub late: Option<LateReason>,
}

impl Effects {
    pub(super) fn late(reason: LateReason) -> Self {
        Self { late: Some(reason), ..Self::default() }
    }
}

/// What a composer decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The outcome.
    Close,
    /// Another round: agent and question.
    FollowUp(Vec<(String, String)>),
    /// A person must look.
    Park(Parking),
}

/// A decision that cannot be followed: a fault of the composer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// Past the deadline there is no time for another round.
    #[error("a follow-up round was asked for after the deadline")]
    TooLate,
    /// The topology's bound.
    #[error("follow-up round {0} was asked for, past the most that the topology allows")]
    TooManyRounds(u32),
    /// Nobody to ask.
    #[error("a follow-up round asks {0:?}, which has no voting step in the plan")]
    NoSuchStep(String),
    /// An empty round would never end.
    #[error("a follow-up round asks nobody, or information is asked for that has no name")]
    Empty,
    /// The topology's bound.
    #[error("information was asked for the {0}. time, past the most that the topology allows")]
    TooManyRequests(u32),
}
