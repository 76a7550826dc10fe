//! The agent role: tasks in, partials out.

use std::sync::Arc;

use anabranch_kafka::{AssignedPartition, Record, TopicPartition};
use anabranch_llm::Journal;
use anabranch_protocol::{Completion, Envelope, EventId, Partial, PartialStatus, Task, Timestamp, Work};
use anabranch_sdk::agent::Agent;
use anabranch_sdk::context::Context;
use anabranch_sdk::error::AgentError;
use anabranch_sdk::tools::Toolbox;
use tracing::Instrument as _;

use crate::attempts::{self, Bounds, Ended};
use crate::claims;
use crate::clock;
use crate::emit::{self, EmitError, Reason};
use crate::journal::{Journals, NoJournal, TaskJournal};
use crate::letters::Admitted;
use crate::observe::Progress;
use crate::retry::Delivery;
use crate::service::Service;
use crate::worker::{Processed, Processor};

/// Does the tasks of one agent.
pub(crate) struct Tasks<A> {
    pub(crate) agent: Arc<A>,
    pub(crate) service: Service,
    pub(crate) observed: Option<Progress>,
    pub(crate) journals: Journals,
    pub(crate) toolbox: Arc<Toolbox>,
}

impl<A: Agent> Processor for Tasks<A> {
    async fn process(self: Arc<Self>, delivery: &Delivery) -> Processed {
        let record = delivery.record();
        // At error level, so that it is there whatever is logged: no line is without its case.
        let span = tracing::error_span!(
            "task",
            correlation_id = %Service::case_of(record),
            agent = A::NAME,
            topic = &*record.topic,
            partition = record.partition,
            offset = record.offset
        );
        match self.task(delivery).instrument(span).await {
            Ok(processed) => processed,
            Err(error) => Processed::Halt(format!("cannot emit: {error}")),
        }
    }

    fn assigned(&self, epoch: u64, partitions: &[AssignedPartition]) {
        self.journals.assigned(epoch, partitions);
    }

    fn committed(&self, tp: &TopicPartition, covers: &dyn Fn(i64) -> bool) {
        self.journals.committed(tp, covers);
    }

    async fn leaving(&self, partitions: &[TopicPartition]) {
        self.journals.leaving(partitions).await;
    }

    fn left(&self, partitions: &[TopicPartition]) {
        self.journals.left(partitions);
    }
}

impl<A: Agent> Tasks<A> {
    async fn task(&self, delivery: &Delivery) -> Result<Processed, EmitError> {
        let record = delivery.record();
        let (envelope, task) = match Service::decode::<Task>(record) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.service.dead_letter(record, &Reason::unreadable(&error)).await?;
                return Ok(Processed::Done);
            }
        };
        if let Some(mut observed) = self.observed.clone() {
            observed.reached(record.partition, record.offset).await;
        }
        let started_at = clock::now();
        if delivery.tried().is_none() {
            let queued = started_at.since(Timestamp::from_millis(record.timestamp_ms));
            self.service.metrics.queue_seconds.observe(queued.as_secs_f64());
        }
        let journal = match self.journals.open(record.partition, &task.task_id, &envelope).await {
            Ok(journal) => journal,
            Err(NoJournal::Left) => return Ok(Processed::Back),
            Err(error @ NoJournal::Broken(_)) => return Ok(Processed::Halt(error.to_string())),
        };
        let ended = tokio::select! {
            ended = self.until_admitted(&envelope, &task, delivery.attempts(), &journal) => ended,
            () = journal.abandoned() => None,
        };
        let Some((ended, attempts)) = ended else { return Ok(Processed::Back) };
        let status = match ended {
            Ended::Completed(completion) => {
                self.service.letters.done();
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
                let first_failure = delivery.first_failed_at().or(Some(started_at));
                let reason = Reason { first_failure, ..Reason::of(&error, attempts) };
                self.service.dead_letter(record, &reason).await?;
                PartialStatus::Failed { reason: reason.message }
            }
            Ended::Retry(retry) => return Ok(Processed::Retry(retry)),
            Ended::Fatal(error) => return Ok(Processed::Halt(error.to_string())),
        };
        let work = Work { started_at, finished_at: clock::now(), attempts };
        self.answer(record, &envelope, task, status, work).await?;
        journal.finished(delivery.read_at());
        Ok(Processed::Done)
    }

    /// An attempt at a task, after `before` others. What would become a dead letter past the limits is held, and tried
    /// again when its turn comes. `None`: the process drains meanwhile.
    async fn until_admitted(
        &self,
        envelope: &Envelope,
        task: &Task,
        mut before: u32,
        journal: &TaskJournal,
    ) -> Option<(Ended<Completion>, u32)> {
        loop {
            let (ended, attempts) = self.attempt(envelope, task, before, journal.attempt()).await;
            if !matches!(ended, Ended::DeadLetter(_)) {
                return Some((ended, attempts));
            }
            match self.service.letters.give_up(envelope.deadline).await {
                Admitted::Emit => return Some((ended, attempts)),
                Admitted::Again => before = attempts,
                Admitted::Back => return None,
            }
        }
    }

    async fn attempt(
        &self,
        envelope: &Envelope,
        task: &Task,
        before: u32,
        journal: Arc<dyn Journal>,
    ) -> (Ended<Completion>, u32) {
        let bounds = Bounds {
            policy: self.service.retry_policy(),
            timeout: self.service.settings.handler_timeout,
            deadline: envelope.deadline,
        };
        let known = std::iter::once(&task.request).chain(task.parts.values().map(|part| &part.output));
        let model = self.service.model_for(&envelope.correlation_id, &task.request);
        let model = model.about(known.chain(&task.outcome)).with_journal(journal.clone());
        let attempt = async {
            let context = Context::new(envelope, task, before + 1, clock::now, &model);
            let context = context.with_claims(self.service.claims.as_ref()).with_journal(journal);
            let context = context.with_tools(&self.toolbox);
            let input =
                context.case().request::<A::Input>().map_err(|e| e.context("the request does not fit this agent"))?;
            let (output, confidence, disposition) = self.agent.handle(&context, input).await?.into_parts();
            let output = serde_json::to_value(output)
                .map_err(|e| AgentError::terminal("the answer cannot be written as JSON").with_source(e))?;
            let output = claims::check_in(self.service.claims.as_ref(), output).await?;
            Ok(Completion { output, confidence, disposition })
        };
        attempts::once(&bounds, before, attempt).await
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
                let why = Reason { attempts: partial.work.attempts, ..Reason::new("terminal", reason.as_str()) };
                self.service.dead_letter(record, &why).await?;
                let failed = Partial { status: PartialStatus::Failed { reason }, ..partial };
                let out = emit::record(&topic, &caused, &failed)?;
                self.service.emitter.emit(vec![out]).await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }
}
