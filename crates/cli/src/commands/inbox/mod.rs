//! `anabranch inbox`: the cases that wait for a person, and what people do about them.

mod ask;
mod cases;
mod decide;
mod list;
mod provide;
mod show;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

/// The cases that wait for a person: list them, look at one, decide it.
///
/// What is listed is the composer's own state, committed records only. A decision is a record on the review topic; the first
/// one in the log counts, and each one is answered on `<name>.inbox`, where reminders and escalations leave too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch inbox list --older-than 24h
  anabranch inbox show case-17
  anabranch inbox decide case-17 --decision approve --reviewer ada --reason 'saw the passport'
  anabranch inbox provide case-17 --field 'documents_provided=[\"passport\"]'")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(list::Args),
    Show(show::Args),
    Decide(decide::Args),
    Provide(provide::Args),
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list::run(args).await,
        Command::Show(args) => show::run(args).await,
        Command::Decide(args) => decide::run(args).await,
        Command::Provide(args) => provide::run(args).await,
    }
}
