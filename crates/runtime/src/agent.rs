//! The agent role: tasks in, partials out.

use std::sync::Arc;

use anabranch_kafka::Record;
use anabranch_protocol::{Completion, Envelope, EventId, Partial, PartialStatus, Task, Timestamp, Work};
use anabranch_sdk::agent::Agent;
use anabranch_sdk::context::Context;
use anabranch_sdk::error::AgentError;
use serde::Deserialize as _;
use tracing::Instrument as _;

use crate::attempts::{self, Bounds, Ended};
use crate::clock;
use crate::emit::{self, EmitError};
use crate::observe::Progress;
use crate::service::Service;
use crate::worker::{Processed, Processor};

/// Does the tasks of one agent.
pub(crate) struct Tasks<A> {
    pub(crate) agent: Arc<A>,
    pub(crate) service: Service,
    pub(crate) observed: Option<Progress>,
}

impl<A: Agent> Processor for Tasks<A> {
    async fn process(self: Arc<Self>, record: Record) -> Processed {
        // At error level, so that it is there whatever is logged: no line is without its case.
        let span = tracing::error_span!(
            "task",
            correlation_id = %Service::case_of(&record),
            agent = A::NAME,
            topic = &*record.topic,
            partition = record.partition,
            offset = record.offset
        );
        match self.task(&record).instrument(span).await {
            Ok(processed) => processed,
            Err(error) => Processed::Halt(format!("cannot emit: {error}")),
        }
    }
}

impl<A: Agent> Tasks<A> {
    async fn task(&self, record: &Record) -> Result<Processed, EmitError> {
        let (envelope, task) = match Service::decode::<Task>(record) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.service.dead_letter(record, "unreadable", &error.to_string(), 1).await?;
                return Ok(Processed::Done);
            }
        };
        if let Some(mut observed) = self.observed.clone() {
            observed.reached(record.partition, record.offset).await;
        }
        let started_at = clock::now();
        let queued = started_at.since(Timestamp::from_millis(record.timestamp_ms));
        self.service.metrics.queue_seconds.observe(queued.as_secs_f64());
        let (ended, attempts) = self.attempts(&envelope, &task).await;
        let status = match ended {
            Ended::Completed(completion) => {
                self.service.metrics.handled("completed");
                tracing::info!(attempts, "task done");
                PartialStatus::Completed(completion)
            }
            Ended::Expired => {
                self.service.metrics.handled("expired");
                tracing::warn!(attempts, "task expired");
                PartialStatus::Expired
            }
            Ended::DeadLetter(error) => {
                let (class, reason) = (class_word(&error), error.to_string());
                self.service.dead_letter(record, class, &reason, attempts).await?;
                PartialStatus::Failed { reason }
            }
            Ended::Fatal(error) => return Ok(Processed::Halt(error.to_string())),
        };
        let work = Work { started_at, finished_at: clock::now(), attempts };
        self.answer(record, &envelope, task, status, work).await?;
        Ok(Processed::Done)
    }

    async fn attempts(&self, envelope: &Envelope, task: &Task) -> (Ended<Completion>, u32) {
        let bounds = Bounds {
            policy: self.service.retry_policy(),
            timeout: self.service.settings.handler_timeout,
            deadline: envelope.deadline,
        };
        let model = self.service.model.for_case(&envelope.correlation_id);
        attempts::run(bounds, &self.service.metrics, async |attempt| {
            let input = A::Input::deserialize(&task.request)
                .map_err(|e| AgentError::terminal("the request does not fit this agent").with_source(e))?;
            let context = Context::new(envelope, task, attempt, clock::now, &model);
            let (output, confidence, disposition) = self.agent.handle(&context, input).await?.into_parts();
            let output = serde_json::to_value(output)
                .map_err(|e| AgentError::terminal("the answer cannot be written as JSON").with_source(e))?;
            Ok(Completion { output, confidence, disposition })
        })
        .await
    }

    async fn answer(
        &self,
        record: &Record,
        envelope: &Envelope,
        task: Task,
        status: PartialStatus,
        work: Work,
    ) -> Result<(), EmitError> {
        let partial = Partial {
            task_id: task.task_id,
            plan_id: task.plan_id,
            agent: task.agent,
            agent_version: A::VERSION.to_owned(),
            round: task.round,
            status,
            work,
        };
        let id = EventId::derive(&envelope.id, A::NAME, Partial::TYPE, 0);
        let mut caused = envelope.caused(id, &self.service.source(), Partial::TYPE, clock::now());
        caused.subject = Some(A::NAME.to_owned());
        let topic = self.service.topology.results_topic();
        let out = emit::record(&topic, &caused, &partial)?;
        match self.service.emitter.emit(vec![out]).await {
            Err(error) if error.is_too_large() => {
                let reason = format!("the answer is too large to be published: {error}");
                self.service.dead_letter(record, "terminal", &reason, partial.work.attempts).await?;
                let failed = Partial { status: PartialStatus::Failed { reason }, ..partial };
                let out = emit::record(&topic, &caused, &failed)?;
                self.service.emitter.emit(vec![out]).await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }
}

fn class_word(error: &AgentError) -> &'static str {
    match error.class() {
        anabranch_sdk::error::Class::Retryable { .. } => "retryable",
        anabranch_sdk::error::Class::Terminal => "terminal",
        anabranch_sdk::error::Class::Fatal => "fatal",
    }
}
