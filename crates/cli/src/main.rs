//! The `anabranch` command.
//!
//! | room | what is in it |
//! |---|---|
//! | `commands` | one module for each subcommand: its arguments and what it does |
//! | `agents` | the agents there are: found by `cargo metadata`, built by cargo |
//! | `backing` | broker, model and vendor, where there are none |
//! | `processes` | agents as processes: started, restarted, drained |
//! | `console` | lines and live rows on stderr |
//! | `options` | arguments that several subcommands share |
//! | `reading` | the topology's topics on a cluster: which there are, and what is in them |
//! | `hop` | one record, as a person wants to see it |
//! | `output` | tables for people, JSON for programs; data on stdout, the rest on stderr |
//! | `usage` | errors that are the user's to mend: exit code 64 |

mod agents;
mod backing;
mod commands;
mod console;
mod hop;
mod masking;
mod options;
mod output;
mod processes;
mod reading;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    acls, bench, claims, cost, dev, dlq, graph, inbox, mock_llm, new, replay, send, status, topics, trace, up,
    validate, verify, watch,
};

/// A streaming-native multi-agent runtime: agents are Kafka consumers, and nothing else is between them.
#[derive(Debug, Parser)]
#[command(name = "anabranch", version, propagate_version = true, max_term_width = 110, after_help = EXIT_CODES, after_long_help = help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 64 wrong usage.";

/// What `--help` says beyond the commands.
fn help() -> String {
    format!("{}\n\n{EXIT_CODES}", anabranch_kafka::SecurityConfig::HELP)
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Args),
    Up(up::Args),
    New(new::Args),
    Validate(validate::Args),
    Topics(topics::Args),
    Send(send::Args),
    Watch(watch::Args),
    Trace(trace::Args),
    Replay(replay::Args),
    Status(status::Args),
    Dlq(dlq::Args),
    Inbox(inbox::Args),
    Cost(cost::Args),
    Claims(claims::Args),
    Verify(verify::Args),
    Bench(Box<bench::Args>),
    /// Serve the embedded broker, for `anabranch bench`.
    #[command(hide = true)]
    BenchBroker(bench::BrokerArgs),
    Graph(graph::Args),
    Acls(acls::Args),
    MockLlm(mock_llm::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::clap_exit(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Dev(args) => Box::pin(dev::run(args)).await,
            Command::Up(args) => up::run(args).await,
            Command::New(args) => new::run(args),
            Command::Validate(args) => validate::run(args),
            Command::Topics(args) => topics::run(args).await,
            Command::Send(args) => send::run(args).await,
            Command::Watch(args) => watch::run(args).await,
            Command::Trace(args) => trace::run(args).await,
            Command::Replay(args) => Box::pin(replay::run(args)).await,
            Command::Status(args) => status::run(args).await,
            Command::Dlq(args) => dlq::run(args).await,
            Command::Inbox(args) => inbox::run(args).await,
            Command::Claims(args) => claims::run(args).await,
            Command::Cost(args) => cost::run(args).await,
            Command::Verify(args) => Box::pin(verify::run(args)).await,
            Command::Bench(args) => Box::pin(bench::run(*args)).await,
            Command::BenchBroker(args) => bench::run_broker(args).await,
            Command::Graph(args) => graph::run(&args),
            Command::Acls(args) => acls::run(&args),
            Command::MockLlm(args) => mock_llm::run(args).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    match result {
        Ok(code) => code,
        Err(error) => usage::exit(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Every command, with what is under it.
    fn all(command: &clap::Command, under: &str, found: &mut Vec<(String, String)>) {
        for command in
            command.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set())
        {
            let name = format!("{under} {}", command.get_name());
            all(command, &name, found);
            found.push((name, command.get_after_help().map(ToString::to_string).unwrap_or_default()));
        }
    }

    #[test]
    fn help_shows_every_command_by_example() {
        let mut commands = Vec::new();
        all(&Cli::command(), "anabranch", &mut commands);
        assert!(commands.len() > 25, "{commands:?}");
        for (name, help) in &commands {
            // A command that only holds others may leave it to them.
            let leaves_it = commands.iter().any(|(other, _)| other.starts_with(&format!("{name} ")));
            assert!(help.contains("Examples:\n") && help.contains(name) || leaves_it, "{name}: {help}");
        }
    }
}
