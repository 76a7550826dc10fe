//! A case as the author's composer sees it.

use anabranch_core::join::{AnswerStatus, Case, Unanswered, WhyMissing};
use anabranch_sdk::composer::{Joined, Missing, MissingReason, Part, Parts};

pub(super) fn part_of<'a>(case: &'a Case, agent: &str) -> Option<Part<'a>> {
    let (name, answer) = case.answers.get_key_value(agent)?;
    match &answer.status {
        AnswerStatus::Completed(completion) => {
            Some(Part { agent: name, version: &answer.version, round: answer.round, completion })
        }
        _ => None,
    }
}

pub(super) fn voting_parts(case: &Case) -> impl Iterator<Item = Part<'_>> {
    case.plan.steps.iter().filter(|s| !s.follows_outcome()).filter_map(|s| part_of(case, &s.agent))
}

pub(super) fn joined(parts: Parts<'_>, unanswered: Vec<Unanswered>) -> Joined<'_> {
    if unanswered.is_empty() {
        return Joined::All(parts);
    }
    let missing = unanswered.into_iter().map(|u| Missing {
        agent: u.agent,
        required: u.required,
        reason: match u.why {
            WhyMissing::Late => MissingReason::Late,
            WhyMissing::Failed(reason) => MissingReason::Failed(reason),
        },
    });
    Joined::Incomplete { missing: missing.collect(), parts }
}
