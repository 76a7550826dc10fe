//! What the topology says about joins, and when it lets the composer decide.

use std::time::Duration;

use anabranch_topology::{ParkingSettings, WaitFor, WhenDeadlinePasses};

use super::case::Case;

/// What the topology says about joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinPolicy {
    /// Deadline of a case whose plan brings none.
    pub deadline: Duration,
    /// How long a closed case is remembered.
    pub closed_memory: Duration,
    /// Most follow-up rounds.
    pub max_follow_up_rounds: u32,
    /// Which answers a decision waits for.
    pub wait_for: WaitFor,
    /// What becomes of a case whose deadline passes first.
    pub when_deadline_passes: WhenDeadlinePasses,
    /// What becomes of cases that wait for a person.
    pub parking: ParkingSettings,
}

impl Case {
    /// Whether the composer may decide. Once no answer is outstanding it may, whatever the policy: nothing else would
    /// come. What a follow-up round asks is waited for, whatever the policy: it was asked to be heard.
    pub(super) fn is_decidable(&self, wait_for: WaitFor) -> bool {
        let mut waited = self.voting().filter(|i| self.is_waited_for(*i)).peekable();
        let by_policy = match wait_for {
            WaitFor::All => false,
            WaitFor::Required => waited.peek().is_some() && waited.all(|i| self.is_resolved(i)),
            WaitFor::Quorum(answers) => {
                let in_time = self.voting().filter(|i| self.is_answered(*i)).count();
                let must = |i: usize| if self.steps()[i].required { self.is_answered(i) } else { self.is_resolved(i) };
                usize::try_from(answers).is_ok_and(|quorum| in_time >= quorum) && waited.all(must)
            }
        };
        by_policy || self.voting().all(|i| self.is_resolved(i))
    }

    fn is_waited_for(&self, step: usize) -> bool {
        self.steps()[step].required || (self.round > 0 && self.states[step].asked == Some(self.round))
    }
}
