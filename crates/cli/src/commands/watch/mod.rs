//! `anabranch watch`: the records of a topology as they are written.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anabranch_kafka::{Cluster, Fetched, Fetcher, Isolation, Position, TopicPartition};
use anabranch_topology::{TopicRole, Topology};

use crate::hop::Hop;
use crate::masking::Masking;
use crate::options::{Brokers, TopologyFile};
use crate::output::{Format, OutputArgs, json_line, line};
use crate::reading::{self, Survey};

/// How often topics are looked for that are new: an agent was dropped in.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Follow all records of the topology, one line each, while cases run.
///
/// Shows requests, plans, tasks, answers, follow-ups, outcomes, late records and dead letters; with --all also agents'
/// announcements, model calls and the composer's state. It belongs to no group and changes nothing. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch watch                              # everything, from now on
  anabranch watch case-17 --from-beginning     # one case, and what it did so far
  anabranch watch -o json | jq -c 'select(.kind == \"dead-letter\")'")]
pub(crate) struct Args {
    /// Only this case.
    #[arg(value_name = "CORRELATION_ID")]
    case: Option<String>,
    /// Begin with the oldest records there are, not with the next.
    #[arg(long)]
    from_beginning: bool,
    /// Agents' announcements, model calls and the composer's state as well.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
    /// A table, or one JSON object a line.
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    let cluster = args.brokers.connect().await?;
    let mut watch = Watch {
        fetcher: reading::fetcher(&cluster),
        cluster,
        topology,
        case: args.case,
        all: args.all,
        format: args.output.format,
        reading: BTreeSet::new(),
        roles: Vec::new(),
        topic_width: 0,
        masking: Masking::default(),
    };
    let start = if args.from_beginning { Position::Earliest } else { Position::Latest };
    watch.look(start).await?;
    if watch.reading.is_empty() {
        eprintln!("no topic of topology {} is there yet; waiting for one", watch.topology.name);
    } else {
        eprintln!("watching {} topics of {}; Ctrl-C ends", watch.roles.len(), watch.topology.name);
    }
    tokio::select! {
        ended = watch.follow() => ended.map(|()| ExitCode::SUCCESS),
        signal = tokio::signal::ctrl_c() => signal.map(|()| ExitCode::SUCCESS).map_err(Into::into),
    }
}

struct Watch {
    cluster: Cluster,
    topology: Topology,
    case: Option<String>,
    all: bool,
    format: Format,
    fetcher: Fetcher,
    reading: BTreeSet<TopicPartition>,
    roles: Vec<(String, TopicRole)>,
    topic_width: usize,
    masking: Masking,
}

impl Watch {
    /// Prints what comes, for ever.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                fetched = reading::next(&self.cluster, &mut self.fetcher) => self.print(&fetched?)?,
                // Also what finds out that the broker is gone. What is new here began after this command did.
                _ = look.tick() => self.look(Position::Earliest).await?,
            }
        }
    }

    /// Adds the topics' partitions that are not read yet.
    async fn look(&mut self, start: Position) -> anyhow::Result<()> {
        let survey = Survey::take(&self.cluster, &self.topology).await?;
        let mut new = Vec::new();
        for topic in &survey.present {
            use TopicRole::{Directory, Journal, Ledger, Limits, Marks, State};
            let internal = matches!(topic.spec.role, State | Directory | Journal | Ledger | Limits | Marks);
            if internal && !self.all {
                continue;
            }
            if self.role_of(&topic.spec.name).is_none() {
                self.topic_width = self.topic_width.max(topic.spec.name.chars().count());
                self.roles.push((topic.spec.name.clone(), topic.spec.role));
            }
            new.extend(topic.all().filter(|tp| !self.reading.contains(tp)));
        }
        if !new.is_empty() || self.masking.is_empty() {
            self.masking = Masking::take(&self.cluster, &survey).await?;
        }
        let ends = match start {
            // Now, not when the first fetch is answered: what is sent next is to be seen.
            Position::Latest if !new.is_empty() => {
                self.cluster.admin().end_offsets(&new, Isolation::ReadCommitted).await?
            }
            _ => Default::default(),
        };
        for tp in new {
            let position = ends.get(&tp).map_or(start, |end| Position::Offset(*end));
            self.fetcher.add(tp.clone(), position);
            self.reading.insert(tp);
        }
        Ok(())
    }

    fn role_of(&self, topic: &str) -> Option<TopicRole> {
        self.roles.iter().find(|(name, _)| name == topic).map(|(_, role)| *role)
    }

    fn print(&self, fetched: &Fetched) -> anyhow::Result<()> {
        let Some(role) = self.role_of(&fetched.topic) else { return Ok(()) };
        for record in &fetched.records {
            let hop = Hop::read(role, record, &self.masking);
            if self.case.as_ref().is_some_and(|case| hop.case.as_str() != case) {
                continue;
            }
            match self.format {
                Format::Json => json_line(&hop)?,
                Format::Table => line(row(&hop, self.topic_width))?,
            }
        }
        Ok(())
    }
}

/// One line: time, topic, kind, case, agent, what.
fn row(hop: &Hop, topic_width: usize) -> String {
    let case = crate::console::plain(hop.case.as_str());
    let agent = hop.agent.as_deref().unwrap_or("-");
    let text = format!(
        "{}  {:<topic_width$}  {:<11}  {case:<36}  {agent:<12}  {}",
        hop.time_of_day(),
        hop.topic,
        hop.kind,
        hop.what
    );
    text.trim_end().to_owned()
}
