//! A model that calls tools: an agent's own, and those of the reference server that the Model Context Protocol's own
//! project publishes on npm, over stdio and over HTTP. Without npm or node the tests say so and do nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_e2e::{App, Given, Spec, answers};
use anabranch_kafka::Record;
use anabranch_llm::mock::{Answer, MockConfig, Rule, Script, ScriptedCall, When};
use anabranch_protocol::PartialStatus;
use anabranch_sdk::tools::mcp::{McpServer, ServerConfig, Transport};
use anabranch_sdk::tools::{ToolContext, ToolSource as _};
use anabranch_testkit::cluster::Reader;
use anabranch_testkit::process::{self, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Pinned, so that what is tested does not change by itself.
const SERVER: &str = "@modelcontextprotocol/server-everything@2026.8.31";
const WITHIN: Duration = Duration::from_secs(60);

/// The server's program, installed once per run of this file; `None` where that is not possible.
async fn server() -> Option<PathBuf> {
    static INSTALLED: OnceCell<Option<(tempfile::TempDir, PathBuf)>> = OnceCell::const_new();
    let installed = INSTALLED.get_or_init(async || {
        let folder = tempfile::tempdir().unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(folder.path()).arg(SERVER);
        npm.kill_on_drop(true);
        let ended = tokio::time::timeout(Duration::from_secs(120), npm.output()).await;
        let entry = folder.path().join("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
        let node = Command::new("node").arg("--version").output().await;
        match (ended, node) {
            (Ok(Ok(output)), Ok(_)) if output.status.success() && entry.exists() => Some((folder, entry)),
            (ended, node) => {
                println!("skipped: {SERVER} cannot be installed here: npm: {ended:?}, node: {node:?}");
                None
            }
        }
    });
    installed.await.as_ref().map(|(_, entry)| entry.clone())
}

/// One agent; the model calls what `calls` says, and then answers.
fn spec(tools: &Value, calls: Vec<ScriptedCall>) -> Spec {
    let topology = format!(
        "name: tool\npartitions: 2\ninbound:\n  requests: tool.requests\noutbound:\n  done: tool.done\n\
         join:\n  deadline: 30m\nagents:\n  tooler: {{ tools: {tools}, retry: {{ max_attempts: 50, max_backoff: 1s }} }}\n"
    );
    let rule = |after_tool, answer| Rule {
        when: When { agent: Some("tooler".into()), after_tool: Some(after_tool), ..When::default() },
        answer: Some(answer),
        ..Rule::default()
    };
    let rules = vec![rule(false, Answer::ToolCalls(calls)), rule(true, Answer::Text("It is done.".into()))];
    let mock = MockConfig::default().with_script(Script { rules, ..Script::default() });
    Spec { topology, agents: vec!["tooler"], mock, env: vec![("KEPT_SECRET".into(), "kept-secret".into())] }
}

fn call(name: &str, arguments: Value) -> ScriptedCall {
    ScriptedCall { name: name.to_owned(), arguments }
}

struct Asked {
    app: App,
    reader: Reader,
    sent: u64,
}

impl Asked {
    async fn start(spec: Spec) -> Self {
        let app = App::start(spec).await.unwrap();
        let reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
        Self { app, reader, sent: 0 }
    }

    /// Asks once more, and gives the answer's output.
    async fn ask(&mut self) -> Value {
        self.sent += 1;
        let number = self.sent;
        let topic = self.app.topology.tasks_topic("tooler");
        let case = format!("case-{number}");
        let request = json!({ "text": "What is 2 + 40?", "number": number });
        let given = Given { agent: "tooler", topic: &topic, case: &case, number, request, within: WITHIN };
        self.app.send(vec![given.record().unwrap()]).await.unwrap();
        let answered = |records: &[Record]| answers(records).iter().any(|(n, ..)| *n == number);
        if let Err(error) = self.reader.until("an answer", WITHIN, answered).await {
            panic!("{error}\n{}", self.log());
        }
        let (_, _, partial) = answers(self.reader.records()).into_iter().find(|(n, ..)| *n == number).unwrap();
        let PartialStatus::Completed(completion) = partial.status else { panic!("{partial:?}") };
        completion.output
    }

    fn log(&mut self) -> String {
        self.app.process("tooler").unwrap().log()
    }

    /// The process of the server, as the agent logged it last.
    fn server_pid(&mut self) -> u32 {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains("the MCP server is up")).unwrap_or_else(|| panic!("{log}"));
        let digits = line.split("pid=").nth(1).unwrap().split_whitespace().next().unwrap();
        digits.parse().unwrap_or_else(|_| panic!("{line}"))
    }
}

fn verdicts(output: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    output["calls"].as_array().unwrap().iter().map(|c| (text(&c["tool"]), text(&c["verdict"]))).collect()
}

fn expected(calls: &[(&str, &str)]) -> Vec<(String, String)> {
    calls.iter().map(|(tool, verdict)| ((*tool).to_owned(), (*verdict).to_owned())).collect()
}

async fn is_gone(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        if kill(pid, None).is_err() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_server_over_stdio_is_called_restarted_and_ended_with_its_agent() {
    let Some(entry) = server().await else { return };
    let tools = json!({
        "allow": ["capital", "everything.get-sum", "everything.echo"],
        "mcp": { "everything": { "command": ["node", entry, "stdio"] } },
    });
    let calls = vec![
        call("everything_get-sum", json!({ "a": 2, "b": 40 })),
        call("capital", json!({ "country": "Utopia" })),
        call("everything_get-env", json!({})),
        call("everything_echo", json!({ "message": 7 })),
    ];
    let mut asked = Asked::start(spec(&tools, calls)).await;
    let output = asked.ask().await;
    let as_allowed = expected(&[
        ("everything.get-sum", "done"),
        ("capital", "done"),
        ("everything_get-env", "not_allowed"),
        ("everything.echo", "bad_arguments"),
    ]);
    assert_eq!(verdicts(&output), as_allowed);
    assert_eq!(output["text"], "It is done.");

    // The server is killed: the next task waits for a new one.
    let first = asked.server_pid();
    kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(verdicts(&asked.ask().await), as_allowed);
    let second = asked.server_pid();
    assert_ne!(first, second);

    // The agent is killed: the server's stdin ends, and with it the server.
    asked.app.process("tooler").unwrap().kill().await.unwrap();
    assert!(is_gone(second).await, "the server outlives an agent that was killed");
    asked.app.spawn("tooler", "tooler").unwrap();
    assert_eq!(verdicts(&asked.ask().await), as_allowed);

    // The agent drains: it takes the server along.
    let third = asked.server_pid();
    asked.app.stop().await.unwrap();
    assert!(is_gone(third).await, "the server outlives an agent that drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_server_over_http_is_called_and_found_again() {
    let Some(entry) = server().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = process::free_port().unwrap();
    let mut http = serve(&entry, folder.path(), port).await;
    let tools = json!({
        "allow": ["everything.*"],
        "mcp": { "everything": { "url": format!("http://127.0.0.1:{port}/mcp"), "call_timeout": "2s" } },
    });
    let calls = vec![
        call("everything_get-sum", json!({ "a": 2, "b": 40 })),
        call("everything_get-sum", json!({ "a": "two" })),
        call("capital", json!({ "country": "Utopia" })),
    ];
    let mut asked = Asked::start(spec(&tools, calls)).await;
    let as_allowed = expected(&[
        ("everything.get-sum", "done"),
        ("everything.get-sum", "bad_arguments"),
        ("capital", "not_allowed"),
    ]);
    assert_eq!(verdicts(&asked.ask().await), as_allowed);
    // The server is replaced, and knows nothing of the session. This one does not say so: a call times out, and the next is
    // made in a session of its own.
    http.kill().await.unwrap();
    let mut http = serve(&entry, folder.path(), port).await;
    assert_eq!(verdicts(&asked.ask().await), as_allowed);
    asked.app.stop().await.unwrap();
    http.kill().await.unwrap();
}

#[tokio::test]
async fn an_agent_whose_tools_cannot_be_had_does_not_start() {
    let binary = anabranch_e2e::binaries(&["tooler"]).unwrap().join("anabranch-agent-tooler");
    let folder = tempfile::tempdir().unwrap();
    for (tools, words) in [
        (json!({ "allow": ["captial"] }), "`captial` is allowed, but the agent has no such tool"),
        (
            json!({ "allow": ["x.y"], "mcp": { "x": { "command": ["node"], "env": ["NO_SUCH_VARIABLE_X"] } } }),
            "tools.mcp.x: the environment variable NO_SUCH_VARIABLE_X is not set",
        ),
    ] {
        let topology = folder.path().join("topics.yaml");
        std::fs::write(&topology, spec(&tools, Vec::new()).topology).unwrap();
        // Nobody listens there, and nobody is asked.
        let mut process = Process::agent("refused", folder.path(), &binary, "127.0.0.1:9", &topology, &[]).unwrap();
        let status = process.ended(WITHIN).await.unwrap();
        assert_eq!(status.code(), Some(64), "{}", process.log());
        assert!(process.log().contains(words), "{}", process.log());
    }
}

async fn serve(entry: &Path, folder: &Path, port: u16) -> Process {
    let mut command = Command::new("node");
    command.arg(entry).arg("streamableHttp").env("PORT", port.to_string());
    let process = Process::start("everything", folder, command).unwrap();
    let until = Instant::now() + WITHIN;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(Instant::now() < until, "{}", process.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    process
}

#[tokio::test]
async fn a_reference_server_is_given_no_secret_that_is_not_named() {
    let Some(entry) = server().await else { return };
    let transport = Transport::Stdio {
        command: "node".to_owned(),
        args: vec![entry.display().to_string(), "stdio".to_owned()],
        env: Vec::new(),
    };
    let config = ServerConfig { transport, start_timeout: WITHIN, call_timeout: WITHIN };
    let server = Arc::new(McpServer::new("everything", config));
    let tools = server.tools().await.unwrap();
    let named = |name: &str| tools.iter().find(|tool| tool.name() == name).unwrap();
    let context = ToolContext { correlation_id: "case-1", idempotency_key: "key", within: WITHIN };
    let sum = named("get-sum").call(context, json!({ "a": 2, "b": 40 })).await.unwrap();
    assert!(sum.as_str().unwrap().contains("42"), "{sum}");
    // Cargo gives every test its package's name; the server was not to have it.
    assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
    let env = named("get-env").call(context, json!({})).await.unwrap();
    let env: Value = serde_json::from_str(env.as_str().unwrap()).unwrap();
    let names: Vec<&str> = env.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(names.iter().all(|name| ["PATH", "HOME", "LANG", "TMPDIR"].contains(name)), "{names:?}");
    server.end(Duration::from_secs(5)).await;
}
