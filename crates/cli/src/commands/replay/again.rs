//! Tasks and case, done again by their programs, and what came of it beside what is on the cluster.

use std::collections::BTreeMap;

use anabranch_kafka::Record;
use anabranch_protocol::replay::{CaseAgain, CaseDone, Content, TaskAgain, TaskDone, TaskEnd, Written};
use anabranch_protocol::{Header, PartialStatus, dead_letter, header};
use anabranch_topology::{COMPOSER, Topology};
use anyhow::anyhow;
use futures::{StreamExt as _, TryStreamExt as _};

use super::compare::{Difference, contents};
use super::found::{Answer, Found, content, gone, kept};
use super::report::{Item, Verdict};
use super::steps::Journals;
use super::{program, turns};
use crate::agents::Program;
use crate::masking::Masking;
use crate::options::TopologyFile;

/// Programs that run at once.
const AT_ONCE: usize = 4;

/// What a case is done again with.
pub(super) struct Again<'a> {
    pub(super) found: &'a Found,
    pub(super) topology: &'a Topology,
    pub(super) file: &'a TopologyFile,
    pub(super) journals: Journals,
    pub(super) programs: Vec<Program>,
    /// Nobody's part is left out.
    pub(super) all: bool,
    /// For whose tasks models are asked anew.
    pub(super) live: Option<&'a str>,
    pub(super) masking: Masking,
}

impl Again<'_> {
    /// All answers, and the tasks without one; of agents that are done again.
    ///
    /// # Errors
    /// If a program cannot do it.
    pub(super) async fn answers(&self) -> anyhow::Result<Vec<Item>> {
        let ours = self.found.answers.iter().filter(|answer| self.is_wanted(&answer.read.data.agent));
        let doing = futures::stream::iter(ours.map(|answer| self.answer(answer))).buffered(AT_ONCE);
        let mut items: Vec<Item> = doing.try_collect().await?;
        for task in self.found.unanswered().into_iter().filter(|task| self.is_wanted(&task.data.agent)) {
            items.push(Item {
                note: Some("nobody answered it".to_owned()),
                ..Item::of(&task.data.agent, "task", Some(&task.record), Verdict::TakenAsItWas)
            });
        }
        Ok(items)
    }

    fn is_wanted(&self, agent: &str) -> bool {
        self.all || self.program(agent).is_some()
    }

    async fn answer(&self, answer: &Answer) -> anyhow::Result<Item> {
        let (record, partial) = (&answer.read.record, &answer.read.data);
        let item = |verdict| Item::of(&partial.agent, "answer", Some(record), verdict);
        let as_it_was = |note: String| Ok(Item { note: Some(note), ..item(Verdict::TakenAsItWas) });
        if let Some(late) = &answer.late {
            return as_it_was(format!("it does not count: {late}"));
        }
        match &partial.status {
            PartialStatus::Completed(_) => {}
            PartialStatus::Failed { .. } => return as_it_was("it failed, and errors are not journaled".to_owned()),
            PartialStatus::Expired => return as_it_was("it expired".to_owned()),
        }
        let Some(program) = self.program(&partial.agent) else { return as_it_was("left out".to_owned()) };
        let Some(task) = self.found.task_of(answer) else {
            let (case, topic) = (&answer.read.envelope.correlation_id, self.topology.tasks_topic(&partial.agent));
            return Err(gone(case, &topic, &format!("the task that {} answered", partial.agent)));
        };
        let journal = self.topology.journal_topic(&partial.agent);
        let held = self.journals.held(&journal, task.record.partition, answer);
        let live = self.live == Some(partial.agent.as_str());
        let asked = TaskAgain { task: kept(&task.record), answer: kept(record), journal: held.results, live };
        let within = self.topology.agent(&partial.agent).handler_timeout;
        let done: TaskDone = program::ask(program, self.file, &asked, within).await?;
        if done.version != partial.agent_version {
            let (agent, then, now) = (&partial.agent, &partial.agent_version, &done.version);
            let path = program.path.display();
            return Err(anyhow!(
                "{agent} {then} answered, and {path} is {now}: what another version does says nothing"
            ));
        }
        let lost = !done.not_recorded.is_empty() && held.trimmed;
        let missing = done.not_recorded.iter().map(|step| format!("`{}` ({})", step.name, step.index));
        let missing = missing.collect::<Vec<_>>().join(", ");
        let item = Item { live, ..item(Verdict::Same) };
        if lost {
            let note = format!("{journal} does not hold its time any more (journal.keep); it lacks {missing}");
            return Ok(Item { verdict: Verdict::Lost, note: Some(note), ..item });
        }
        let request = task.record.value.as_deref();
        let differences = without_personal_data(self.differences(record, done.end), &self.masking, request);
        let verdict = if differences.is_empty() { Verdict::Same } else { Verdict::Differs };
        let note = (!missing.is_empty()).then(|| format!("it asks for what is not in its journal: {missing}"));
        let attempts = partial.work.attempts;
        let note = note.or_else(|| live.then(|| "its model was asked anew".to_owned()));
        let note = note.or_else(|| (attempts > 1).then(|| format!("the answer of attempt {attempts}")));
        Ok(Item { verdict, note, differences, ..item })
    }

    fn differences(&self, record: &Record, end: TaskEnd) -> Vec<Difference> {
        match end {
            TaskEnd::Answered(written) => contents(&content(record), &written.content, &self.masking),
            TaskEnd::Failed(words) => {
                let words = self.masking.words(record.value.as_deref(), &words);
                vec![Difference::new("/status", Some("completed"), Some(&format!("failed: {words}")))]
            }
        }
    }

    fn program(&self, agent: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == agent)
    }

    /// What the composer wrote.
    ///
    /// # Errors
    /// If its program cannot do it.
    pub(super) async fn case(&self) -> anyhow::Result<Vec<Item>> {
        let Some(program) = self.program(COMPOSER) else { return Ok(Vec::new()) };
        let partition = self.found.results.first().map_or(0, |record| record.partition);
        let turns = turns::turns(self.found);
        let asked = CaseAgain { partition, review_partitions: self.found.review_partitions, turns };
        let within = self.topology.agent(COMPOSER).handler_timeout;
        let done: CaseDone = program::ask(program, self.file, &asked, within).await?;
        let mut items = pairs(&self.found.written, &done.written, &self.masking);
        let plan = self.found.results.first().and_then(|plan| plan.value.as_deref());
        for item in &mut items {
            let differences = std::mem::take(&mut item.differences);
            item.differences = without_personal_data(differences, &self.masking, plan);
        }
        if let Some(why) = done.stopped {
            let differences = vec![Difference::new("", Some("it went on"), Some(&format!("it stopped: {why}")))];
            items.push(Item { differences, ..Item::of(COMPOSER, "case", None, Verdict::Differs) });
        }
        Ok(items)
    }
}

fn without_personal_data(differences: Vec<Difference>, masking: &Masking, request: Option<&[u8]>) -> Vec<Difference> {
    differences.into_iter().map(|difference| difference.without_personal_data(masking, request)).collect()
}

/// What is on the cluster beside what would have been written, by topic and id, in order.
pub(super) fn pairs(recorded: &[Record], replayed: &[Written], masking: &Masking) -> Vec<Item> {
    let mut left: BTreeMap<(String, String), Vec<&Written>> = BTreeMap::new();
    for written in replayed.iter().rev() {
        left.entry(name(&written.topic, &written.content.headers())).or_default().push(written);
    }
    let mut items: Vec<Item> = recorded
        .iter()
        .map(|record| {
            let item = |verdict| Item::of(COMPOSER, what(&record.headers), Some(record), verdict);
            match left.get_mut(&name(&record.topic, &record.headers)).and_then(Vec::pop) {
                Some(written) => {
                    let differences = contents(&content(record), &written.content, masking);
                    let verdict = if differences.is_empty() { Verdict::Same } else { Verdict::Differs };
                    Item { differences, ..item(verdict) }
                }
                None => Item { note: Some("it is not written again".to_owned()), ..item(Verdict::Differs) },
            }
        })
        .collect();
    for written in left.into_values().flat_map(|written| written.into_iter().rev()) {
        items.push(only_replayed(&written.topic, &written.content));
    }
    items
}

fn only_replayed(topic: &str, content: &Content) -> Item {
    let headers = content.headers();
    Item {
        topic: topic.to_owned(),
        id: id(&headers),
        note: Some(format!("it would be written to {topic}, and is not there (see the topic's retention)")),
        ..Item::of(COMPOSER, what(&headers), None, Verdict::Differs)
    }
}

fn name(topic: &str, headers: &[Header]) -> (String, String) {
    (topic.to_owned(), id(headers))
}

pub(super) fn id(headers: &[Header]) -> String {
    header::last(headers, header::ID).unwrap_or_default().to_owned()
}

/// What a record of the composer is.
fn what(headers: &[Header]) -> &str {
    if dead_letter::read(headers).is_some() {
        return "dead letter";
    }
    match header::last(headers, header::LATE_REASON) {
        Some(_) => "late",
        None => header::last(headers, header::TYPE).unwrap_or_default(),
    }
}
