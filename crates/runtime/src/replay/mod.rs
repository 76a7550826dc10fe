//! A task or a case that is over, done again for `anabranch replay`: from a JSON document on stdin to one on stdout. There is
//! no broker here, and nothing is written anywhere.
//!
//! | room | what is in it |
//! |---|---|
//! | `task` | a task, by its agent, from its journal |
//! | `composer::replaying` | a case, by its composer |

mod task;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{OutRecord, Record};
use anabranch_protocol::replay::{CaseAgain, Content, Kept, TaskAgain, Written};
use anabranch_sdk::composer::Composer;
use anabranch_topology::Topology;
use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::Args;
use crate::boot::{self, EX_USAGE, Usage};
use crate::composer::replaying;
use crate::kind::Kind;
use crate::metrics::Metrics;
use crate::site::Site;

/// Does a task again.
pub(crate) fn agent(kind: Kind, args: &Args) -> ExitCode {
    again(args, async |topology: Topology, asked: TaskAgain| task::again(kind, topology, asked).await)
}

/// Decides a case again.
pub(crate) fn composer<C: Composer>(args: &Args) -> ExitCode {
    again(args, async |topology: Topology, asked: CaseAgain| {
        let settings = topology.agent(C::NAME);
        let config = boot::config_of::<C::Config>(C::NAME, &settings)?;
        let composer = C::new(config).map_err(|e| Usage(format!("agents.{}.config: {e}", C::NAME)))?;
        Ok(replaying::again(composer, site(topology, C::NAME), asked))
    })
}

fn site(topology: Topology, name: &'static str) -> Site {
    Site { name, topology: Arc::new(topology), metrics: Arc::new(Metrics::register(name).0) }
}

fn again<T: DeserializeOwned, R: Serialize>(
    args: &Args,
    doing: impl AsyncFnOnce(Topology, T) -> anyhow::Result<R>,
) -> ExitCode {
    boot::init_logs(args.log_format);
    let done = asked(args).and_then(|(topology, asked)| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(doing(topology, asked));
        runtime.shutdown_timeout(Duration::from_millis(200));
        Ok(serde_json::to_string(&done?)?)
    });
    match done {
        Ok(done) => {
            // On a line of its own, whatever the agent has printed.
            println!("\n{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() { ExitCode::from(EX_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn asked<T: DeserializeOwned>(args: &Args) -> anyhow::Result<(Topology, T)> {
    let topology = boot::load_topology(args)?;
    let text = std::io::read_to_string(std::io::stdin()).context("cannot read stdin")?;
    let asked = serde_json::from_str(&text).map_err(|e| {
        Usage(format!("what is to be done again cannot be read from stdin: {e}; use `anabranch replay`"))
    })?;
    Ok((topology, asked))
}

/// A record as it was read from its topic.
pub(crate) fn record_of(kept: Kept) -> Record {
    Record {
        topic: kept.topic.into(),
        partition: kept.partition,
        offset: kept.offset,
        timestamp_ms: kept.timestamp_ms,
        key: kept.content.key().cloned(),
        value: kept.content.value().cloned(),
        headers: kept.content.headers(),
    }
}

/// A record that would have been written.
pub(crate) fn written(record: OutRecord) -> Written {
    Written { topic: record.topic, content: Content::new(record.key, record.value, record.headers) }
}
