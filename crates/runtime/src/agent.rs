//! The agent role: tasks in, partials out.

use std::sync::Arc;

use anabranch_kafka::{AssignedPartition, OutRecord, Record, TopicPartition};
use anabranch_llm::Journal;
use anabranch_protocol::{Completion, Envelope, EventId, Partial, PartialStatus, Task, Timestamp, Work, replay};
use anabranch_sdk::context::Context;
use anabranch_sdk::model::ModelHandle;
use anabranch_sdk::tools::Toolbox;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tracing::Instrument as _;

use crate::attempts::{self, Bounds, Ended};
use crate::clock::{self, Watched};
use crate::emit::{self, EmitError, Reason};
use crate::journal::{Journals, NoJournal, TaskJournal};
use crate::kind::Handler;
use crate::letters::Admitted;
use crate::observe::Progress;
use crate::retry::Delivery;
use crate::service::Service;
use crate::site::Site;
use crate::worker::{Processed, Processor};

/// What a handler answered, and what it read of the clock for it.
type Answered = (Completion, Vec<Timestamp>);

/// The model, asked about what this task holds.
pub(crate) fn about(model: ModelHandle, task: &Task) -> ModelHandle {
    let known = std::iter::once(&task.request).chain(task.parts.values().map(|part| &part.output));
    model.about(known.chain(&task.outcome))
}

/// The answer of an agent of this version to a task.
pub(crate) fn partial(version: &str, task: Task, status: PartialStatus, work: Work) -> Partial {
    Partial {
        task_id: task.task_id,
        plan_id: task.plan_id,
        agent: task.agent,
        agent_version: version.to_owned(),
        round: task.round,
        status,
        work,
    }
}

/// The record of an answer, with what its handler read of the clock.
///
/// # Errors
/// If it cannot be written as JSON.
pub(crate) fn answer(
    site: &Site,
    task: &Envelope,
    partial: &Partial,
    now: Timestamp,
    readings: &[Timestamp],
) -> Result<OutRecord, EmitError> {
    let id = EventId::derive(&task.id, site.name, Partial::TYPE, 0);
    let mut caused = task.caused(id, &site.source(), Partial::TYPE, now);
    caused.subject = Some(site.name.to_owned());
    let mut out = emit::record(&site.topology.results_topic(), &caused, partial)?;
    // First by name, as headers are in order of name.
    out.headers.splice(0..0, replay::clock_header(readings));
    Ok(out)
}

/// Does the tasks of one agent.
pub(crate) struct Tasks {
    pub(crate) agent: Arc<dyn Handler>,
    pub(crate) service: Service,
    pub(crate) observed: Option<Progress>,
    pub(crate) journals: Journals,
    pub(crate) toolbox: Arc<Toolbox>,
}

impl Processor for Tasks {
    fn process<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Processed> {
        let record = delivery.record();
        // At error level, so that it is there whatever is logged: no line is without its case.
        let span = tracing::error_span!(
            "task",
            correlation_id = %Service::case_of(record),
            agent = self.service.name,
            topic = &*record.topic,
            partition = record.partition,
            offset = record.offset
        );
        let ended = self.task(delivery).instrument(span);
        ended.map(|ended| ended.unwrap_or_else(|error| Processed::Halt(format!("cannot emit: {error}")))).boxed()
    }

    fn assigned(&self, epoch: u64, partitions: &[AssignedPartition]) {
        self.journals.assigned(epoch, partitions);
    }

    fn committed(&self, tp: &TopicPartition, covers: &dyn Fn(i64) -> bool) {
        self.journals.committed(tp, covers);
    }

    fn leaving<'a>(&'a self, partitions: &'a [TopicPartition]) -> BoxFuture<'a, ()> {
        self.journals.leaving(partitions).boxed()
    }

    fn left(&self, partitions: &[TopicPartition]) {
        self.journals.left(partitions);
    }
}

impl Tasks {
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
        let mut readings = Vec::new();
        let status = match ended {
            Ended::Completed((completion, read)) => {
                readings = read;
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
        self.answer(record, &envelope, partial(self.service.version, task, status, work), &readings).await?;
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
    ) -> Option<(Ended<Answered>, u32)> {
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
    ) -> (Ended<Answered>, u32) {
        let bounds = Bounds {
            policy: self.service.retry_policy(),
            timeout: self.service.settings.handler_timeout,
            deadline: envelope.deadline,
        };
        let model = self.service.model_for(&envelope.correlation_id, &task.request);
        let model = about(model, task).with_journal(journal.clone());
        let attempt = async {
            let clock = Watched::default();
            let context = Context::new(envelope, task, before + 1, clock::now, &model).with_clock(&clock);
            let context = context.with_claims(self.service.claims.as_ref()).with_journal(journal);
            let context = context.with_tools(&self.toolbox);
            let completion = self.agent.handle(&context, self.service.claims.as_ref()).await?;
            Ok((completion, clock.readings()))
        };
        attempts::once(&bounds, before, attempt).await
    }

    async fn answer(
        &self,
        record: &Record,
        envelope: &Envelope,
        partial: Partial,
        readings: &[Timestamp],
    ) -> Result<(), EmitError> {
        let (site, now) = (self.service.site(), clock::now());
        let out = answer(&site, envelope, &partial, now, readings)?;
        match self.service.emitter.emit(vec![out]).await {
            Err(error) if error.is_too_large() => {
                let reason = format!("the answer is too large to be published: {error}");
                let why = Reason { attempts: partial.work.attempts, ..Reason::new("terminal", reason.as_str()) };
                self.service.dead_letter(record, &why).await?;
                let failed = Partial { status: PartialStatus::Failed { reason }, ..partial };
                let out = answer(&site, envelope, &failed, now, &[])?;
                self.service.emitter.emit(vec![out]).await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }
}
