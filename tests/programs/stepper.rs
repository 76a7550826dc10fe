//! An agent of steps: asks a model, does something outside, asks again, and waits. It counts what it does outside in files
//! of a folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anabranch_sdk::prelude::*;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Job {
    number: u64,
    /// How long it waits when all steps are done.
    #[serde(default)]
    hold_ms: u64,
    /// Where the process ends itself, the first time.
    #[serde(default)]
    crash: Option<Crash>,
    /// At the first attempt it asks to be tried again after so long, when all steps are done.
    #[serde(default)]
    again_after_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Crash {
    BeforePaying,
    AfterPaying,
}

/// What the model is asked for.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Opinion {
    text: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Done {
    number: u64,
    pid: u32,
    opinions: Vec<String>,
    receipt: String,
}

#[derive(Deserialize)]
struct Config {
    folder: PathBuf,
}

struct Stepper {
    folder: PathBuf,
}

impl Stepper {
    /// Something outside that happens each time it is called.
    async fn note(&self, number: u64) -> Result<u64, AgentError> {
        append(&self.folder.join("notes"), &number.to_string())?;
        Ok(number)
    }

    async fn pay(&self, job: &Job, reference: &str) -> Result<String, AgentError> {
        self.crash_once(job, Crash::BeforePaying)?;
        append(&self.folder.join("payments"), &format!("{} {reference}", job.number))?;
        self.crash_once(job, Crash::AfterPaying)?;
        Ok(format!("paid {reference}"))
    }

    /// Whether there is a payment with this reference.
    async fn find(&self, job: &Job, reference: &str) -> Result<Option<String>, AgentError> {
        append(&self.folder.join("questions"), &job.number.to_string())?;
        let payments = std::fs::read_to_string(self.folder.join("payments")).unwrap_or_default();
        let found = payments.lines().any(|line| line.ends_with(reference));
        Ok(found.then(|| format!("found {reference}")))
    }

    /// As kill -9 would, at exactly this place.
    fn crash_once(&self, job: &Job, at: Crash) -> Result<(), AgentError> {
        let mark = self.folder.join(format!("crashed-{}", job.number));
        if job.crash == Some(at) && !mark.exists() {
            append(&mark, "")?;
            std::process::abort();
        }
        Ok(())
    }
}

fn append(file: &Path, line: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::options().create(true).append(true).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())
}

impl Agent for Stepper {
    const NAME: &'static str = "stepper";
    const DESCRIPTION: &'static str = "Does a job in steps.";
    type Config = Config;
    type Input = Job;
    type Output = Done;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { folder: config.folder })
    }

    async fn handle(&self, ctx: &Context<'_>, job: Job) -> Result<Outcome<Done>, AgentError> {
        let ask = async |when: &'static str| {
            let prompt = Prompt::new("Judge.").say(when).json("job", job.number);
            ctx.model().ask::<Opinion>("opinion", &prompt).await
        };
        let first = ask("before").await?;
        ctx.step("note", self.note(job.number)).await?;
        let reference = ctx.idempotency_key("pay");
        let receipt = ctx.step_with("pay", self.find(&job, &reference), self.pay(&job, &reference)).await?;
        let second = ask("after").await?;
        ctx.step("last", async { Ok(()) }).await?;
        if ctx.attempt() == 1 && job.again_after_ms > 0 {
            return Err(AgentError::retry_after("not yet", Duration::from_millis(job.again_after_ms)));
        }
        tokio::time::sleep(Duration::from_millis(job.hold_ms)).await;
        let opinions = vec![first.text, second.text];
        Ok(Outcome::new(Done { number: job.number, pid: std::process::id(), opinions, receipt }).confidence(1.0))
    }
}

fn main() -> ExitCode {
    anabranch_runtime::agent::<Stepper>()
}
