//! Having an agent's binary do something again.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::agents::Program;
use crate::options::TopologyFile;
use crate::usage::usage;

/// What a program may need beside its handler: to start, and to end its tools.
const BESIDE: Duration = Duration::from_secs(30);
/// `EX_USAGE` of an agent.
const EX_USAGE: i32 = 64;

/// Has it done, within the handler's time.
///
/// # Errors
/// If the program cannot do it: it does not run, is of an older version, or cannot use the topology or its environment.
pub(super) async fn ask<R: DeserializeOwned>(
    program: &Program,
    topology: &TopologyFile,
    asked: &impl Serialize,
    handler: Duration,
) -> anyhow::Result<R> {
    let asked = serde_json::to_vec(asked)?;
    let name = &program.name;
    let output = tokio::time::timeout(handler + BESIDE, run(program, topology, &asked));
    let output = output.await.map_err(|_| anyhow!("{name} did not end in time"))?;
    let output = output.with_context(|| format!("cannot run {}", program.path.display()))?;
    let words = || said(&output);
    match output.status.code() {
        Some(0) => {}
        Some(EX_USAGE) if words().contains("--replay") => {
            let path = program.path.display();
            return Err(usage(format!("{path} is of a version that cannot do anything again: build it anew")));
        }
        Some(EX_USAGE) => return Err(usage(format!("{name}: {}", words()))),
        _ => return Err(anyhow!("{name} ended with {}: {}", output.status, words())),
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("what {name} says cannot be read"))
}

async fn run(program: &Program, topology: &TopologyFile, asked: &[u8]) -> std::io::Result<Output> {
    let mut command = Command::new(&program.path);
    command.arg("--replay").arg("--topology").arg(&topology.path);
    // Nothing of this reaches a cluster, whatever the environment names.
    command.env_remove("ANABRANCH_KAFKA");
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "error");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take();
    let give = async {
        if let Some(stdin) = &mut stdin {
            // One that ends before it has read says why on its own.
            let _ = stdin.write_all(asked).await;
        }
        drop(stdin);
    };
    let ((), output) = tokio::join!(give, child.wait_with_output());
    output
}

/// The error that a program has told of, or its last line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let told = lines().find_map(|line| line.strip_prefix("error: ")).or_else(|| lines().next_back());
    crate::console::plain(told.unwrap_or("it does not say why"))
}
