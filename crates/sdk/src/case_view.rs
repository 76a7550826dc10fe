//! What an agent sees of its case: the request, the plan, earlier answers, the outcome.
//!
//! What an agent may see is declared ([`crate::Agent::SEES`], and `sees` and `hidden_fields` in `topics.yaml`), and decided
//! where its task is made: what it may not see is not in its task.

use std::time::Duration;

use anabranch_protocol::{CaseContext, Completion, CorrelationId, Envelope, Step, Task, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::{Context, Time};
use crate::error::AgentError;
use crate::mask;

/// The memory that the agents of a case share, as far as this agent may see it. It is as of when the task was made.
#[derive(Debug, Clone, Copy)]
pub struct CaseView<'a> {
    envelope: &'a Envelope,
    task: &'a Task,
    time: Time<'a>,
}

impl Context<'_> {
    /// The case: request, plan, earlier answers, outcome, as far as this agent may see them.
    pub fn case(&self) -> CaseView<'_> {
        CaseView { envelope: self.envelope(), task: self.task(), time: self.time() }
    }
}

impl<'a> CaseView<'a> {
    /// The case.
    pub fn correlation_id(&self) -> &'a CorrelationId {
        &self.envelope.correlation_id
    }

    /// 0 for the first time this agent is asked, then the number of the follow-up round.
    pub fn round(&self) -> u32 {
        self.task.round
    }

    /// What the follow-up round asks.
    pub fn question(&self) -> Option<&'a str> {
        self.task.question.as_deref()
    }

    /// The deadline, absolute.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.envelope.deadline
    }

    /// What is left of the deadline; `None` if the case has none.
    pub fn remaining(&self) -> Option<Duration> {
        self.envelope.deadline.map(|deadline| deadline.since(self.time.now()))
    }

    /// The request as JSON, without the fields that are hidden from this agent.
    pub fn request_json(&self) -> &'a Value {
        &self.task.request
    }

    /// The request, typed: for what [`crate::Agent::Input`] leaves out.
    ///
    /// # Errors
    /// Terminal, if the request does not have the shape of `T`; it says which fields are hidden from this agent.
    pub fn request<T: DeserializeOwned>(&self) -> Result<T, AgentError> {
        T::deserialize(&self.task.request).map_err(|e| {
            AgentError::terminal(format!("the request cannot be read{}", hidden_note(self.hidden())))
                .with_source(mask::serde_words(&e))
        })
    }

    /// The request's fields that are hidden from this agent, as JSON pointers.
    pub fn hidden(&self) -> &'a [String] {
        self.context().map_or(&[], |context| &context.hidden)
    }

    /// The plan: who is asked, whether the case needs the answer, who waits for whom. Empty in a task that an older
    /// version wrote.
    pub fn steps(&self) -> &'a [Step] {
        self.context().map_or(&[], |context| &context.steps)
    }

    /// The plan's step of `agent`, if it is asked.
    pub fn step(&self, agent: &str) -> Option<&'a Step> {
        self.steps().iter().find(|step| step.agent == agent)
    }

    /// Whether this agent may see what `agent` answered. In a task that an older version wrote: whether it does.
    pub fn may_see(&self, agent: &str) -> bool {
        agent == self.task.agent
            || self.context().map_or_else(|| self.task.parts.contains_key(agent), |c| sees(c, agent))
    }

    /// The answers there were when the task was made and that this agent may see, its own earlier one included.
    pub fn parts(&self) -> impl Iterator<Item = (&'a str, &'a Completion)> + use<'a> {
        self.task.parts.iter().map(|(agent, part)| (agent.as_str(), part))
    }

    /// What `agent` answered, with its confidence and disposition. `None`: it had not answered when the task was made.
    ///
    /// # Errors
    /// Terminal, if this agent may not see it.
    pub fn answer(&self, agent: &str) -> Result<Option<&'a Completion>, AgentError> {
        if let Some(part) = self.task.parts.get(agent) {
            return Ok(Some(part));
        }
        match self.context() {
            Some(context) if agent != self.task.agent && !sees(context, agent) => {
                let me = &self.task.agent;
                Err(AgentError::terminal(format!(
                    "{me} may not see the answer of {agent}; name it in {me}'s SEES or AFTER, or in agents.{me}.sees in \
                     topics.yaml"
                )))
            }
            _ => Ok(None),
        }
    }

    /// What `agent` answered, typed.
    ///
    /// # Errors
    /// Terminal, if this agent may not see it, or it does not have the shape of `T`.
    pub fn part<T: DeserializeOwned>(&self, agent: &str) -> Result<Option<T>, AgentError> {
        let Some(part) = self.answer(agent)? else { return Ok(None) };
        T::deserialize(&part.output).map(Some).map_err(|e| {
            AgentError::terminal(format!("the answer of {agent} cannot be read")).with_source(mask::serde_words(&e))
        })
    }

    /// The outcome, for a step after the outcome that may see it.
    ///
    /// # Errors
    /// Terminal, if the outcome does not have the shape of `T`.
    pub fn outcome<T: DeserializeOwned>(&self) -> Result<Option<T>, AgentError> {
        let Some(outcome) = &self.task.outcome else { return Ok(None) };
        T::deserialize(outcome)
            .map(Some)
            .map_err(|e| AgentError::terminal("the outcome cannot be read").with_source(mask::serde_words(&e)))
    }

    fn context(&self) -> Option<&'a CaseContext> {
        self.task.case.as_ref()
    }
}

fn sees(context: &CaseContext, agent: &str) -> bool {
    context.sees.iter().any(|seen| seen == agent || seen == Step::EVERYBODY)
}

/// What to add to an error that a hidden field may be the reason of.
pub(crate) fn hidden_note(hidden: &[String]) -> String {
    if hidden.is_empty() { String::new() } else { format!(" (hidden from this agent: {})", hidden.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anabranch_llm::script::ScriptedModel;
    use anabranch_protocol::{EventId, PlanId, TaskId, TraceParent};
    use serde_json::json;

    use super::*;
    use crate::error::Class;
    use crate::model::{ModelHandle, ModelSettings};

    fn task(case: Option<CaseContext>) -> Task {
        let part = Completion { output: json!({ "hits": 2 }), confidence: Some(0.9), disposition: None };
        Task {
            task_id: TaskId::new("t"),
            plan_id: PlanId::new("p"),
            agent: "fraud".into(),
            round: 1,
            question: Some("again?".into()),
            request: json!({ "applicant": { "name": "AVA" } }),
            parts: [("identity".to_owned(), part)].into(),
            outcome: None,
            case,
        }
    }

    fn context() -> CaseContext {
        let step =
            |agent: &str, required| Step { agent: agent.into(), required, after: vec![], sees: None, version: None };
        CaseContext {
            steps: vec![step("fraud", false), step("identity", true)],
            sees: vec!["identity".into(), "document".into()],
            hidden: vec!["/applicant/ssn".into()],
        }
    }

    fn with<T>(case: Option<CaseContext>, look: impl FnOnce(&Context<'_>) -> T) -> T {
        let id = EventId::new("e");
        let envelope = Envelope {
            trace: TraceParent::root(&id),
            origin_trace: TraceParent::root(&id),
            id,
            source: "/s".into(),
            kind: Task::TYPE.into(),
            subject: None,
            time: Timestamp::from_millis(0),
            correlation_id: CorrelationId::new("c"),
            causation_id: None,
            deadline: Some(Timestamp::from_millis(5_000)),
            trace_state: None,
        };
        let model = ModelHandle::new(Arc::new(ScriptedModel::new()), ModelSettings::default(), "fraud");
        let task = task(case);
        look(&Context::new(&envelope, &task, 1, || Timestamp::from_millis(2_000), &model))
    }

    #[derive(serde::Deserialize)]
    struct Hits {
        hits: u32,
    }

    #[test]
    fn an_agent_sees_its_case() {
        with(Some(context()), |ctx| {
            let case = ctx.case();
            assert_eq!((case.correlation_id().as_str(), case.round(), case.question()), ("c", 1, Some("again?")));
            assert_eq!(case.remaining(), Some(Duration::from_secs(3)));
            assert_eq!(case.steps().iter().map(|s| s.agent.as_str()).collect::<Vec<_>>(), ["fraud", "identity"]);
            assert!(case.step("identity").is_some_and(|step| step.required) && case.step("nobody").is_none());
            assert_eq!(case.part::<Hits>("identity").unwrap().unwrap().hits, 2);
            assert_eq!(ctx.part::<Hits>("identity").unwrap().unwrap().hits, 2, "both say the same");
            assert_eq!(case.answer("identity").unwrap().unwrap().confidence, Some(0.9));
            assert!(case.part::<Hits>("document").unwrap().is_none(), "it has not answered");
            assert!(case.part::<Hits>("fraud").unwrap().is_none(), "its own it may see");
            assert!(case.may_see("document") && !case.may_see("compliance"));
            assert_eq!(case.parts().count(), 1);
            assert_eq!(case.request_json()["applicant"]["name"], "AVA");
        });
    }

    #[test]
    fn what_it_may_not_see_and_what_has_another_shape_is_said() {
        with(Some(context()), |ctx| {
            let error = ctx.part::<Hits>("compliance").err().unwrap();
            assert_eq!(error.class(), Class::Terminal);
            assert!(error.to_string().starts_with("fraud may not see the answer of compliance; name it in"), "{error}");
            let error = ctx.case().part::<String>("identity").unwrap_err();
            assert_eq!(error.class(), Class::Terminal);
            assert!(error.to_string().starts_with("the answer of identity cannot be read: "), "{error}");
            let error = ctx.case().request::<Hits>().err().unwrap();
            assert_eq!(error.class(), Class::Terminal);
            let said = "the request cannot be read (hidden from this agent: /applicant/ssn): missing field";
            assert!(error.to_string().starts_with(said), "{error}");
        });
    }

    #[test]
    fn a_task_of_an_older_version_is_read() {
        with(None, |ctx| {
            assert!(ctx.case().steps().is_empty() && ctx.case().hidden().is_empty());
            assert!(ctx.case().may_see("identity") && !ctx.case().may_see("compliance"));
            assert!(ctx.part::<Hits>("compliance").unwrap().is_none(), "as it was then");
            assert_eq!(ctx.case().part::<Hits>("identity").unwrap().unwrap().hits, 2);
        });
    }
}
