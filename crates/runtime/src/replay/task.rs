//! A task that was answered, done again by its agent from its journal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_claims::ClaimCheck;
use anabranch_core::retry::RetryPolicy;
use anabranch_llm::journal::Recorded;
use anabranch_protocol::replay::{Kept, StepName, TaskAgain, TaskDone, TaskEnd, clock_readings};
use anabranch_protocol::{Completion, Envelope, Partial, PartialStatus, Task};
use anabranch_sdk::context::Context;
use anabranch_sdk::model::ModelHandle;
use anabranch_sdk::tools::Toolbox;
use anabranch_topology::{AgentSettings, Topology};
use anyhow::Context as _;
use serde::de::DeserializeOwned;

use super::{site, written};
use crate::attempts::{self, Bounds, Ended};
use crate::clock::{self, Shown};
use crate::kind::{Handler, Kind};
use crate::tools::Tools;
use crate::{agent as role, claims, model};

/// Wait between tries while a tool's server starts.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What an attempt is made with.
struct Desk<'a> {
    agent: &'a dyn Handler,
    settings: &'a AgentSettings,
    claims: Option<ClaimCheck>,
    model: ModelHandle,
    toolbox: &'a Toolbox,
    clock: Shown,
    envelope: Envelope,
    task: Task,
    /// Which attempt it was that answered.
    attempt: u32,
}

/// Does a task again.
///
/// # Errors
/// [`Usage`], if topology or environment cannot be used; and if one of the records is not what it should be.
pub(super) async fn again(kind: Kind, topology: Topology, asked: TaskAgain) -> anyhow::Result<TaskDone> {
    let settings = topology.agent(kind.name);
    let agent = kind.build(&settings)?;
    let (envelope, task) = read::<Task>(&asked.task).context("the task cannot be read")?;
    let (answer, answered) = read::<Partial>(&asked.answer).context("the answer cannot be read")?;
    let readings = clock_readings(&asked.answer.content.headers());
    let model = model::again(&topology, &settings, kind.name, asked.live)?.for_case(&envelope.correlation_id);
    let model = model::recorded_without(model, &kind.schemas());
    let tools = Tools::open(kind.name, agent.tools(), &settings.tools)?;
    let desk = Desk {
        agent: &*agent,
        settings: &settings,
        claims: claims::open_to_read(&topology)?,
        model: role::about(model, &task),
        toolbox: &tools.toolbox,
        clock: Shown::new(readings.clone(), answered.work.started_at),
        envelope,
        task,
        attempt: answered.work.attempts.max(1),
    };
    let (end, refused) = desk.until_tools_are_up(&asked).await;
    let Desk { envelope, task, .. } = desk;
    tools.end().await;
    let site = site(topology, kind.name);
    let end = match end {
        Ok(completion) => {
            let partial = role::partial(kind.version, task, PartialStatus::Completed(completion), answered.work);
            let record = role::answer(&site, &envelope, &partial, answer.time, &readings)?;
            TaskEnd::Answered(written(record))
        }
        Err(words) => TaskEnd::Failed(words),
    };
    let not_recorded = refused.into_iter().map(|(name, index)| StepName { name, index }).collect();
    Ok(TaskDone { version: kind.version.to_owned(), end, not_recorded })
}

type Steps = Vec<(String, u32)>;

impl Desk<'_> {
    /// An attempt, and the steps that it asked for in vain. Where servers of tools are only starting, it is made again.
    async fn until_tools_are_up(&self, asked: &TaskAgain) -> (Result<Completion, String>, Steps) {
        let starting = self.settings.tools.mcp.values().map(|server| server.start_timeout).max();
        let until = Instant::now() + starting.unwrap_or_default();
        loop {
            let journal = journal(asked);
            let ended = self.attempt(journal.clone()).await;
            let refused = journal.refused();
            return match ended {
                Ended::Completed(completion) => (Ok(completion), refused),
                Ended::Retry(_) if refused.is_empty() && Instant::now() < until => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                    continue;
                }
                Ended::Retry(retry) => (Err(retry.error), refused),
                Ended::DeadLetter(error) | Ended::Fatal(error) => (Err(error.to_string()), refused),
                Ended::Expired => (Err("the deadline passed".to_owned()), refused),
            };
        }
    }

    async fn attempt(&self, journal: Arc<Recorded>) -> Ended<Completion> {
        // A retryable failure is told as one, and the case's deadline is long past.
        let policy = RetryPolicy {
            max_attempts: u32::MAX,
            initial_backoff: AGAIN_AFTER,
            max_backoff: AGAIN_AFTER,
            tiers: Vec::new(),
        };
        let bounds = Bounds { policy, timeout: self.settings.handler_timeout, deadline: None };
        let model = self.model.with_journal(journal.clone());
        let attempt = async {
            let context = Context::new(&self.envelope, &self.task, self.attempt, clock::now, &model);
            let context = context.with_clock(&self.clock).with_claims(self.claims.as_ref()).with_journal(journal);
            let context = context.with_tools(self.toolbox);
            self.agent.handle(&context, self.claims.as_ref()).await
        };
        attempts::once(&bounds, 0, attempt).await.0
    }
}

fn journal(asked: &TaskAgain) -> Arc<Recorded> {
    let results = asked.journal.iter().map(|r| ((r.step.name.clone(), r.step.index), r.result.clone()));
    Arc::new(if asked.live { Recorded::asking_models(results) } else { Recorded::new(results) })
}

fn read<T: DeserializeOwned>(kept: &Kept) -> anyhow::Result<(Envelope, T)> {
    let headers = kept.content.headers();
    let decoded = Envelope::decode(&kept.view(&headers))?;
    let message = decoded.json()?;
    Ok((decoded.envelope, message))
}
