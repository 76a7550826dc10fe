//! One case in the table: whole, or as little as is remembered of it once it is over.

use anabranch_protocol::Timestamp;

use super::case::{Case, Phase};
use super::desk::Judged;
use super::place::{Log, Piece};
use super::policy::JoinPolicy;

/// What is known of a case.
#[derive(Debug)]
pub(super) enum Entry {
    Whole(Box<Case>),
    /// It closed then, and nothing can come that would still count.
    Over(Timestamp),
    /// The same of one that a person decided: whoever decides it later is told.
    Judged(Box<(Timestamp, Judged)>),
    /// The same of one that ended as a dead letter, after its request was sent back so often: sent back once more, it begins
    /// anew.
    GivenUp(Timestamp, u32),
}

impl Entry {
    pub(super) fn whole(&self) -> Option<&Case> {
        match self {
            Self::Whole(case) => Some(case),
            Self::Over(_) | Self::Judged(_) | Self::GivenUp(..) => None,
        }
    }

    /// Of a case that ended as a dead letter, how often its request was sent back before that.
    pub(super) fn given_up(&self) -> Option<u32> {
        match self {
            Self::GivenUp(_, redrives) => Some(*redrives),
            Self::Whole(case) if case.given_up => Some(case.redrives),
            _ => None,
        }
    }

    /// A case that is over, as little of it as is remembered.
    pub(super) fn over(at: Timestamp, judged: Option<Judged>) -> Self {
        match judged {
            Some(judged) => Self::Judged(Box::new((at, judged))),
            None => Self::Over(at),
        }
    }

    pub(super) fn phase(&self) -> usize {
        match self.whole().map(|case| &case.phase) {
            Some(Phase::Joining) => 0,
            Some(Phase::Parked { .. }) => 1,
            Some(Phase::Closed { .. }) | None => 2,
        }
    }

    pub(super) fn due(&self, policy: &JoinPolicy) -> Option<Timestamp> {
        match self {
            Self::Over(at) | Self::GivenUp(at, _) => Some(at.plus(policy.closed_memory)),
            Self::Judged(over) => Some(over.0.plus(policy.closed_memory)),
            Self::Whole(case) => match case.phase {
                Phase::Joining => Some(case.deadline),
                Phase::Parked { .. } => case.next_bell().map(|(at, _)| at),
                Phase::Closed { at } => Some(at.plus(policy.closed_memory)),
            },
        }
    }

    pub(super) fn copies(&self) -> impl Iterator<Item = Piece> + '_ {
        let places = self.whole().into_iter().flat_map(Case::places);
        places.filter(|(_, place)| place.log == Log::State).map(|(piece, _)| piece)
    }
}
