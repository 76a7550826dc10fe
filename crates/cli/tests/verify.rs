//! `anabranch verify`, as a user runs it: a run that holds, runs that do not, and options that cannot be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anabranch_kafka::{Isolation, NewTopic, OutRecord, Record};
use anabranch_testkit::cluster::{Reader, TestCluster, send};
use anabranch_testkit::process;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Longest time that anything here may take; agents may have to be built.
const LIMIT: Duration = Duration::from_secs(900);

/// Runs with real agents come one after the other: together they would be slower than their deadlines.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Done {
    code: i32,
    out: String,
    err: String,
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\nstdout:\n{}\nstderr:\n{}", self.code, self.out, self.err)
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The reference application's agents, built beside the command.
fn build_agents() {
    let agents = ["supervisor", "identity", "document", "fraud", "compliance", "customer", "composer"];
    let folder = process::built(&workspace(), &agents.map(|agent| format!("anabranch-agent-{agent}"))).unwrap();
    let beside = Path::new(env!("CARGO_BIN_EXE_anabranch")).parent().unwrap();
    assert_eq!(folder.canonicalize().unwrap(), beside.canonicalize().unwrap());
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
    command.arg("verify").args(args).current_dir(folder);
    for name in ["ANABRANCH_TOPOLOGY", "ANABRANCH_KAFKA", "OPENAI_API_KEY", "OPENAI_BASE_URL", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn finished(child: Child) -> Done {
    let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("it ends");
    let Output { status, stdout, stderr } = ended.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

async fn run(folder: &Path, args: &[&str]) -> Done {
    finished(command(folder, args).spawn().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn under_kills_stops_and_cuts_every_case_has_one_outcome() {
    let _alone = ONE_AT_A_TIME.lock().await;
    build_agents();
    let args = ["--cases", "60", "--for", "20s", "--kills", "5", "--stops", "2", "--cuts", "3", "-o", "json"];
    let done = run(&workspace(), &[&args[..], &["--no-build"]].concat()).await;
    assert_eq!(done.code, 0, "{done:?}");
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["verdict"], "held", "{done:?}");
    assert_eq!(report["violation"], Value::Null);
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    assert_eq!(number("/cases/acknowledged") + number("/cases/in_doubt"), 60, "{done:?}");
    assert_eq!((number("/cases/fresh"), number("/cases/open")), (6, 0), "{done:?}");
    let outcomes: u64 = report["cases"]["outcomes"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert!(outcomes + number("/cases/dead_letters") >= 66 - number("/cases/in_doubt"), "{done:?}");
    assert_eq!((number("/faults/kills"), number("/faults/stops")), (5, 2), "{done:?}");
    assert_eq!(number("/faults/cuts") + number("/faults/silences"), 3, "{done:?}");
    assert!(report["seed"].is_u64() && done.err.contains(&format!("seed     {}", report["seed"])), "{done:?}");
}

/// Runs it on a broker of the test, and writes a record of the test's own as soon as there is an outcome.
async fn with_a_foreign_record(make: impl Fn(&Record) -> OutRecord) -> (Done, Vec<String>) {
    let _alone = ONE_AT_A_TIME.lock().await;
    build_agents();
    let cluster = TestCluster::embedded(anabranch_broker::BrokerConfig::default()).await.unwrap();
    let args = ["--brokers", cluster.bootstrap(), "--suffix", "t", "--cases", "40", "--for", "20s"];
    let quiet = ["--kills", "0", "--stops", "0", "--cuts", "0", "--no-build"];
    let running = command(&workspace(), &[&args[..], &quiet].concat()).spawn().unwrap();
    let client = cluster.client();
    let ending = tokio::spawn(finished(running));
    let decisions = "kyc-verify-t.decisions".to_owned();
    while !client.admin().list_topics().await.unwrap().iter().any(|topic| topic.name == decisions) {
        assert!(!ending.is_finished(), "{:?}", ending.await.unwrap());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut reader = Reader::new(&client, &[decisions], Isolation::ReadCommitted).await.unwrap();
    let records = reader.until("an outcome", LIMIT, |records| !records.is_empty()).await.unwrap();
    send(&client, vec![make(&records[0])]).await.unwrap();
    let done = ending.await.unwrap();
    let topics = client.admin().list_topics().await.unwrap().into_iter().map(|topic| topic.name).collect();
    cluster.stop().await;
    (done, topics)
}

fn again(record: &Record) -> OutRecord {
    OutRecord {
        topic: record.topic.to_string(),
        partition: None,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
        timestamp_ms: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_outcome_is_found_and_shown_with_the_records_around_it() {
    // With a ce_id of its own: it is the case that counts.
    let (done, topics) = with_a_foreign_record(|record| {
        // And wherever it lies.
        let mut second = OutRecord { partition: Some((record.partition + 1) % 6), ..again(record) };
        second.headers.retain(|header| header.name != "ce_id");
        second.headers.push(anabranch_protocol::Header::text("ce_id", "another"));
        second
    })
    .await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("VIOLATION: case-") && done.out.contains("has 2 ends, and may have one"), "{done:?}");
    let marked: Vec<&str> = done.out.lines().filter(|line| line.trim_start().starts_with('!')).collect();
    assert_eq!(marked.len(), 2, "{done:?}");
    assert!(marked.iter().all(|line| line.contains(" decisions/")), "{done:?}");
    for around in [" requests/", " results/", " tasks.fraud/", "another"] {
        assert!(done.out.contains(around), "{around}: {done:?}");
    }
    assert!(topics.contains(&"kyc-verify-t.decisions".to_owned()), "the evidence stays: {topics:?}");
    let kept = done.err.lines().find_map(|line| line.strip_prefix("kept     the agents' log and the topology: "));
    let kept = PathBuf::from(kept.unwrap_or_else(|| panic!("{done:?}")));
    assert!(kept.join("agents.log").exists() && kept.join("topics.yaml").exists());
    std::fs::remove_dir_all(kept).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_without_a_case_is_found() {
    let (done, _) = with_a_foreign_record(|record| {
        let headers = record.headers.iter().filter(|header| header.name != "ce_correlationid").cloned().collect();
        OutRecord { key: Some("nobody".into()), headers, ..again(record) }
    })
    .await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        done.out.contains("VIOLATION: nobody was never sent, and yet there is kyc-verify-t.decisions/"),
        "{done:?}"
    );
    let kept = done.err.lines().find_map(|line| line.strip_prefix("kept     the agents' log and the topology: "));
    std::fs::remove_dir_all(kept.unwrap()).unwrap();
}

/// A topology, and a folder of programs that pass for agents: this script.
fn scripted(script: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let topology = "name: shop\npartitions: 2\ninbound: { requests: orders }\noutbound: { shipped: shipped }\n\
                    agents:\n  packer: {}\n";
    std::fs::write(folder.path().join("topics.yaml"), topology).unwrap();
    std::fs::write(folder.path().join("order.json"), "{\"order\": \"{case}\"}").unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    for agent in ["supervisor", "packer", "composer"] {
        let path = folder.path().join(format!("bin/anabranch-agent-{agent}"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be_are_refused_with_what_to_write() {
    let folder = scripted("exit 64");
    let bin = ["--bin-dir", "bin"];
    for (args, says) in [
        (&["--cases", "0"][..], "0 is not in 1..="),
        (&["--cases", "9", "--rate", "3", "--for", "3s"], "two give the third"),
        (&["--rate", "fast"], "write a number above 0"),
        (&["--for", "60"], "60"),
        (&["--suffix", "a/b"], "1 to 64 of the characters"),
        (&["--kills", "-1"], "-1"),
        (&[], "name it with --request FILE"),
        (&["--request", "missing.json"], "missing.json"),
        (&["--request", "topics.yaml"], "topics.yaml:1:"),
        (&["--request", "order.json", "--outcome", "sent"], "it has: shipped"),
        (&["--request", "order.json", "--topology", "nowhere.yaml"], "nowhere.yaml"),
        (&["--request", "order.json", "--suffix", &"x".repeat(64), "--topology", "long.yaml"], "cannot be used"),
        (&["--real-model", "--mock-script", "x"], "cannot be used with"),
    ] {
        let long = format!("name: {}\ninbound: {{ requests: a }}\noutbound: {{ shipped: b }}\n", "n".repeat(180));
        std::fs::write(folder.path().join("long.yaml"), long).unwrap();
        let done = run(folder.path(), &[args, &bin].concat()).await;
        assert_eq!(done.code, 64, "{args:?}: {done:?}");
        assert!(done.err.contains(says) && done.out.is_empty(), "{args:?}: {done:?}");
    }
    let away = ["--request", "order.json", "--brokers", "127.0.0.1:9"];
    let done = run(folder.path(), &[&away[..], &bin].concat()).await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("no broker answers at 127.0.0.1:9"), "{done:?}");
}

/// No test: the process of an agent that says it is ready, and does nothing. Ends with whoever holds its stdin.
#[test]
#[ignore = "run as an agent by a test"]
fn idle_agent() {
    use std::io::{Read as _, Write as _};
    let Ok(port) = std::env::var("IDLE_AGENT_PORT") else { return };
    let port: u16 = port.parse().unwrap();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 1024]).unwrap();
            connection.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_nobody_decides_is_lost_and_shown() {
    let own = std::env::current_exe().unwrap();
    let folder = scripted(&format!(
        "while [ \"$1\" != --http-port ]; do shift; done\nexport IDLE_AGENT_PORT=\"$2\"\nexec {} --exact idle_agent --ignored",
        own.display()
    ));
    let args = ["--bin-dir", "bin", "--request", "order.json", "--cases", "4", "--for", "1s", "--patience", "1s"];
    let faults = ["--seed", "7", "--kills", "2", "--stops", "0", "--cuts", "1"];
    let done = run(folder.path(), &[&args[..], &faults].concat()).await;
    assert_eq!(done.code, 1, "{done:?}");
    let says = "VIOLATION: case-00000 was acknowledged, and has neither an outcome nor a dead letter";
    assert!(done.out.contains(says) && done.out.contains(" orders/"), "{done:?}");
    assert!(done.out.contains("4 open") && done.out.contains("seed     7"), "{done:?}");
    assert!(done.out.contains("2 kill -9, 0 stops") && done.out.contains("VIOLATED"), "{done:?}");
    let kept = done.err.lines().find_map(|line| line.strip_prefix("kept     the agents' log and the topology: "));
    std::fs::remove_dir_all(kept.unwrap()).unwrap();
}

async fn topics(cluster: &TestCluster) -> Vec<String> {
    cluster.client().admin().list_topics().await.unwrap().into_iter().map(|topic| topic.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_away_from_what_is_there_and_takes_its_own_with_it() {
    let folder = scripted("exit 64");
    let cluster = TestCluster::embedded(anabranch_broker::BrokerConfig::default()).await.unwrap();
    let there = ["orders", "shop.results", "shop-verify-a.orders"];
    let new = there.map(|name| NewTopic {
        name: name.to_owned(),
        partitions: 1,
        replication_factor: 1,
        configs: Default::default(),
    });
    cluster.client().admin().create_topics(new.to_vec()).await.unwrap();
    let common = ["--bin-dir", "bin", "--request", "order.json", "--brokers", cluster.bootstrap()];
    let refused = run(folder.path(), &[&common[..], &["--suffix", "a"]].concat()).await;
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.err.contains("shop-verify-a.orders is on the cluster already"), "{refused:?}");
    // These agents cannot work: the end, without a topic left behind.
    let failed = run(folder.path(), &[&common[..], &["--suffix", "b"]].concat()).await;
    assert_eq!(failed.code, 64, "{failed:?}");
    assert!(failed.err.contains("cannot work with what it was given"), "{failed:?}");
    assert!(failed.err.contains("exit code 64"), "the agents' log is shown: {failed:?}");
    let left = topics(&cluster).await;
    assert_eq!(left, ["orders", "shop-verify-a.orders", "shop.results"], "{failed:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_with_all_that_it_started() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let folder = scripted("trap 'exit 0' TERM; echo $$ >> pids; while :; do sleep 0.1; done");
    let cluster = TestCluster::embedded(anabranch_broker::BrokerConfig::default()).await.unwrap();
    let args = ["--bin-dir", "bin", "--request", "order.json", "--brokers", cluster.bootstrap(), "-o", "json"];
    let child = command(folder.path(), &args).spawn().unwrap();
    let pids = || -> Vec<i32> {
        let text = std::fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let started = async {
        while pids().len() < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), started).await.expect("three agents start");
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGINT).unwrap();
    let done = finished(child).await;
    assert_eq!(done.code, 1, "{done:?}");
    let report: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!(report["verdict"], "interrupted");
    assert!(done.err.contains("interrupted"), "{done:?}");
    for pid in pids() {
        assert!(kill(Pid::from_raw(pid), None).is_err(), "process {pid} is still there");
    }
    assert_eq!(topics(&cluster).await, Vec::<String>::new());
    cluster.stop().await;
}
