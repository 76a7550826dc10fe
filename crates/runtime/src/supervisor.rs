//! The supervisor role: requests in, plans and tasks out. Also emits the tasks that the composer asks for.

use anabranch_core::dispatch;
use anabranch_core::planning::{self, Candidate};
use anabranch_kafka::{OutRecord, Record};
use anabranch_protocol::{Envelope, EventId, FollowUpKind, Plan, PlanId, Task, TaskId, Timestamp, dead_letter};
use anabranch_sdk::error::{AgentError, Class};
use anabranch_sdk::supervisor::{Candidate as SdkCandidate, Directory as SdkDirectory, PlanContext, Supervisor};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::attempts::{self, Bounds, Ended};
use crate::clock;
use crate::directory::Shared;
use crate::emit::{self, EmitError, Reason};
use crate::letters::Admitted;
use crate::retry::Delivery;
use crate::service::Service;
use crate::worker::{Processed, Processor};

/// Plans requests and dispatches tasks.
pub(crate) struct Planning<S> {
    pub(crate) supervisor: S,
    pub(crate) service: Service,
    pub(crate) directory: Shared,
}

impl<S: Supervisor> Processor for Planning<S> {
    fn process<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Processed> {
        let record = delivery.record();
        // At error level, so that it is there whatever is logged: no line is without its case.
        let span = tracing::error_span!(
            "plan",
            correlation_id = %Service::case_of(record),
            agent = S::NAME,
            topic = &*record.topic,
            partition = record.partition,
            offset = record.offset
        );
        let work = async move {
            if *record.topic == *self.service.topology.followups_topic() {
                self.follow_up(record).await
            } else {
                self.request(delivery).await
            }
        };
        let ended = work.instrument(span);
        ended.map(|ended| ended.unwrap_or_else(|error| Processed::Halt(format!("cannot emit: {error}")))).boxed()
    }
}

impl<S: Supervisor> Planning<S> {
    async fn request(&self, delivery: &Delivery) -> Result<Processed, EmitError> {
        let record = delivery.record();
        let (envelope, request) = match Service::decode::<Value>(record) {
            Ok(decoded) => decoded,
            Err(error) => return self.give_up(record, &Reason::unreadable(&error)).await,
        };
        let began = delivery.first_failed_at().unwrap_or_else(clock::now);
        let own_deadline = began.plus(self.service.topology.join.deadline);
        let deadline = envelope.deadline.map_or(own_deadline, |d| d.min(own_deadline));
        let envelope = Envelope { deadline: Some(deadline), ..envelope };
        let before = delivery.attempts();
        let Some((planned, attempts)) = self.until_admitted(&envelope, &request, before).await else {
            return Ok(Processed::Back);
        };
        match planned {
            Ended::Completed((plan, deadline)) => {
                self.service.letters.done();
                self.dispatch(&envelope, plan, deadline, dead_letter::redrives(&record.headers)).await
            }
            Ended::DeadLetter(error) => {
                let reason = Reason { first_failure: Some(began), ..Reason::of(&error, attempts) };
                self.give_up(record, &reason).await
            }
            Ended::Retry(retry) => Ok(Processed::Retry(retry)),
            Ended::Fatal(error) => Ok(Processed::Halt(error.to_string())),
            Ended::Expired => {
                let reason = Reason::new("retryable", "planning took too long");
                self.give_up(record, &Reason { attempts, first_failure: Some(began), ..reason }).await
            }
        }
    }

    async fn give_up(&self, record: &Record, reason: &Reason) -> Result<Processed, EmitError> {
        self.service.dead_letter(record, reason).await?;
        Ok(Processed::Done)
    }

    /// An attempt at a plan, after `before` others. A request that can never be planned is its sender's fault, and counts for no limit; one that
    /// failed otherwise is held past the limits. `None`: the process drains meanwhile.
    async fn until_admitted(
        &self,
        envelope: &Envelope,
        request: &Value,
        mut before: u32,
    ) -> Option<(Ended<(Plan, Timestamp)>, u32)> {
        let bounds = Bounds {
            policy: self.service.retry_policy(),
            timeout: self.service.settings.handler_timeout,
            // A request past its deadline still gets its plan: the case ends on an outbound topic, never in silence.
            deadline: None,
        };
        loop {
            let (planned, attempts) = attempts::once(&bounds, before, self.plan(envelope, request)).await;
            let counts = matches!(&planned, Ended::DeadLetter(error) if error.class() != Class::Terminal);
            if !counts {
                return Some((planned, attempts));
            }
            match self.service.letters.give_up(None).await {
                Admitted::Emit => return Some((planned, attempts)),
                Admitted::Again => before = attempts,
                Admitted::Back => return None,
            }
        }
    }

    async fn plan(&self, envelope: &Envelope, request: &Value) -> Result<(Plan, Timestamp), AgentError> {
        let typed = S::Request::deserialize(request).map_err(|e| {
            AgentError::terminal("the request does not have the shape that is planned for")
                .with_source(anabranch_sdk::mask::serde_words(&e))
        })?;
        let candidates = self.directory.lock().await.candidates(clock::now(), request);
        for doubtful in candidates.iter().filter(|c| c.when_error.is_some()) {
            tracing::warn!(
                asked = doubtful.agent,
                error = doubtful.when_error,
                "`when` cannot be evaluated, asking the agent"
            );
        }
        let directory = SdkDirectory::new(candidates.into_iter().map(for_author).collect());
        let model = self.service.model_for(&envelope.correlation_id, request).about([request]);
        let context = PlanContext::new(envelope, clock::now, &model);
        let (steps, due) = self.supervisor.plan(&context, typed, &directory).await?.into_parts();
        let plan = planning::finish(&envelope.correlation_id, request.clone(), steps)
            .map_err(|e| AgentError::terminal("the plan cannot be followed").with_source(e))?;
        let deadline = envelope.deadline.into_iter().chain(due).min().unwrap_or_else(clock::now);
        Ok((plan, deadline))
    }

    /// The plan is acknowledged before any task is emitted. Of a request that was sent back it says so: a case that was
    /// given up begins anew with it.
    async fn dispatch(
        &self,
        envelope: &Envelope,
        plan: Plan,
        deadline: Timestamp,
        redrives: u32,
    ) -> Result<Processed, EmitError> {
        let now = clock::now();
        let mut planned = envelope.caused(EventId::from(&plan.plan_id), &self.service.source(), Plan::TYPE, now);
        planned.deadline = Some(deadline);
        let mut out = emit::record(&self.service.topology.results_topic(), &planned, &plan)?;
        if redrives > 0 {
            out.headers = dead_letter::redriven(&out.headers, redrives);
        }
        if let Err(error) = self.service.emitter.emit(vec![out]).await {
            return if error.is_too_large() { self.too_large(envelope, &error) } else { Err(error) };
        }
        tracing::info!(plan_id = %plan.plan_id, steps = plan.steps.len(), "planned");
        self.service.metrics.handled("planned");
        if now >= deadline {
            tracing::warn!("the deadline has passed, no task is emitted");
            return Ok(Processed::Done);
        }
        let tasks = dispatch::first_tasks(&self.service.topology, &plan);
        self.emit_tasks(&planned, tasks.iter().map(ToEmit::of).collect::<Result<_, _>>()?).await?;
        Ok(Processed::Done)
    }

    fn too_large(&self, envelope: &Envelope, error: &EmitError) -> Result<Processed, EmitError> {
        // The request itself fitted, so this takes a broker whose topics have unequal limits.
        Ok(Processed::Halt(format!(
            "the plan of case {} does not fit into {}: {error}; raise its max.message.bytes to that of the inbound topic",
            envelope.correlation_id,
            self.service.topology.results_topic()
        )))
    }

    async fn follow_up(&self, record: &Record) -> Result<Processed, EmitError> {
        let (envelope, follow_up) = match Service::decode::<WrittenFollowUp>(record) {
            Ok(decoded) => decoded,
            Err(error) => return self.give_up(record, &Reason::unreadable(&error)).await,
        };
        if envelope.is_expired(clock::now()) {
            tracing::warn!(kind = ?follow_up.kind, "a follow-up past the deadline, no task is emitted");
            return Ok(Processed::Done);
        }
        tracing::info!(kind = ?follow_up.kind, tasks = follow_up.tasks.len(), "follow-up");
        self.service.metrics.handled("follow-up");
        self.emit_tasks(&envelope, follow_up.tasks).await?;
        Ok(Processed::Done)
    }

    async fn emit_tasks(&self, cause: &Envelope, tasks: Vec<ToEmit>) -> Result<(), EmitError> {
        let source = self.service.source();
        let record = |task: ToEmit| {
            let caused = dispatch::envelope(cause, &task.id, &task.agent, &source, clock::now());
            OutRecord::message(&self.service.topology.tasks_topic(&task.agent), &caused, task.value)
        };
        let emitting = tasks.into_iter().map(record).map(|record| async move {
            let topic = record.topic.clone();
            match self.service.emitter.emit(vec![record]).await {
                // One agent's missing topic must not keep the others from working; the deadline names who is missing.
                Err(error) if error.is_unknown_topic() || error.is_too_large() => {
                    tracing::error!(%error, topic, "a task cannot be emitted; the case goes on without it");
                    Ok(())
                }
                other => other.map(|_| ()),
            }
        });
        futures::future::try_join_all(emitting).await?;
        Ok(())
    }
}

/// A task that is emitted as it is written.
struct ToEmit {
    id: TaskId,
    agent: String,
    value: Vec<u8>,
}

impl ToEmit {
    fn of(task: &Task) -> Result<Self, EmitError> {
        Ok(Self { id: task.task_id.clone(), agent: task.agent.clone(), value: serde_json::to_vec(task)? })
    }
}

/// A task that the composer has written complete: whom it is for, and that what a task needs is there.
impl<'de> Deserialize<'de> for ToEmit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Head {
            task_id: TaskId,
            #[serde(rename = "plan_id")]
            _plan_id: PlanId,
            agent: String,
            #[serde(rename = "request")]
            _request: IgnoredAny,
        }
        let written = Box::<RawValue>::deserialize(deserializer)?;
        let head: Head = serde_json::from_str(written.get()).map_err(serde::de::Error::custom)?;
        Ok(Self { id: head.task_id, agent: head.agent, value: String::from(Box::<str>::from(written)).into_bytes() })
    }
}

/// A [`FollowUp`](anabranch_protocol::FollowUp) as it is written.
#[derive(Deserialize)]
struct WrittenFollowUp {
    #[serde(rename = "plan_id")]
    _plan_id: PlanId,
    kind: FollowUpKind,
    tasks: Vec<ToEmit>,
}

fn for_author(candidate: Candidate) -> SdkCandidate {
    SdkCandidate {
        agent: candidate.agent,
        description: candidate.description,
        version: candidate.version,
        required: candidate.required,
        after: candidate.after,
        sees: candidate.sees,
        applies: candidate.applies,
    }
}
