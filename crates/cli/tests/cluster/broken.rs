//! Broken input to the commands about dead letters, people, costs and claims: a clear error, an exit code that says whose
//! fault it is (64: the caller's, 1: what is there), nothing on stdout, and nothing written.

use std::process::Stdio;

use anabranch_kafka::{Isolation, TopicPartition};
use tokio::io::AsyncWriteExt as _;

use crate::support::{Done, Setup, TOPOLOGY, finished};

/// What is said, on stdin or not at all, the exit code, and words of the error.
type Row<'a> = (&'a [&'a str], Option<&'a [u8]>, i32, &'a str);

async fn run(setup: &Setup, args: &[&str], stdin: Option<&[u8]>) -> Done {
    let mut child = setup.command(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // A command that does not read it has ended before; that is no matter.
    let _ = pipe.write_all(stdin.unwrap_or_default()).await;
    drop(pipe);
    finished(child).await
}

/// All records on the cluster.
async fn written(setup: &Setup) -> i64 {
    let admin = setup.cluster.admin();
    let topics = admin.list_topics().await.unwrap();
    let all = topics.iter().flat_map(|t| (0..t.partitions).map(|p| TopicPartition::new(t.name.as_str(), p)));
    let tps: Vec<TopicPartition> = all.collect();
    admin.end_offsets(&tps, Isolation::ReadUncommitted).await.unwrap().values().sum()
}

async fn refused(setup: &Setup, rows: &[Row<'_>]) {
    let before = written(setup).await;
    for (args, stdin, code, words) in rows {
        let done = run(setup, args, *stdin).await;
        assert_eq!((done.code, done.out.as_str()), (*code, ""), "{args:?}: {}", done.err);
        assert!(done.err.contains(words), "{args:?}: {}", done.err);
        assert!(!done.err.contains("panicked") && !done.err.contains('\u{1b}'), "{args:?}: {}", done.err);
    }
    assert_eq!(written(setup).await, before, "nothing is written");
}

const DECIDE: [&str; 3] = ["inbox", "decide", "case-1"];
const APPROVE: [&str; 7] = ["inbox", "decide", "case-1", "--decision", "approve", "--reviewer", "ada"];

/// Arguments with others behind.
fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_cannot_be_meant() {
    let setup = Setup::with_topics().await;
    let longest = "2562047788015215h";
    let long_id = "c".repeat(257);
    let rows: &[Row<'_>] = &[
        (&["dlq", "list", "--since", "yesterday"], None, 64, "\"yesterday\" is no time; write how long ago"),
        (&["dlq", "list", "--since", "-5m"], None, 64, "\"-5m\" is no time"),
        (&["dlq", "list", "--since", longest], None, 64, "is no time"),
        (&["dlq", "list", "--since", "1h", "--until", "2h"], None, 64, "--until is to be later than --since"),
        (&["dlq", "list", "--class", "odd"], None, 64, "[possible values: terminal, retryable, unreadable]"),
        (&["dlq", "list", "--agent", "x\u{1b}[2J"], None, 64, "no agent is called \"x\\u{1b}[2J\"; there are identity"),
        (&["dlq", "list", "--topic", "kyc.nothing"], None, 64, "has no dead letters topic; there are kyc.requests.dlq"),
        (&["dlq", "show", "17"], None, 64, "write it as `dlq list --each` prints it"),
        (&["dlq", "show", "kyc.requests.dlq/0/99999999999999999999"], None, 64, "is no dead letter's name"),
        (&["dlq", "redrive"], None, 64, "--all means all"),
        (&["dlq", "redrive", "--all", "--agent", "identity"], None, 64, "cannot be used with"),
        (&["dlq", "redrive", "--all", "--limit", "0"], None, 64, "0 is not in 1.."),
        (&["dlq", "redrive", "--all", "--limit", "-5"], None, 64, "invalid value '-5' for '--limit <COUNT>'"),
        (&["dlq", "redrive", "--all", "--rate", "-1"], None, 64, "\"-1\" is no rate; write for example 50/s"),
        (&["dlq", "redrive", "--all", "--rate", "1e-300/h"], None, 64, "is no rate"),
        (&["dlq", "redrive", "--all", "--max-redrives", "-1"], None, 64, "invalid value '-1'"),
        (&["dlq", "redrive", "--all", "--deadline", "5m"], None, 64, "--case"),
        (&["dlq", "redrive", "--all", "--case", "--deadline", "-5m"], None, 64, "a time span is not negative"),
        (&["dlq", "redrive", "--all", "--case", "--deadline", longest], None, 64, "is longer than 36500 days"),
        (&["dlq", "drop"], None, 64, "--all means all"),
        (&["dlq", "drop", "--all"], None, 64, "there is no terminal to ask at"),
        (&["dlq", "drop", "--all", "--yes", "--dry-run"], None, 64, "cannot be used with"),
        (&["inbox", "list", "--older-than", "-1h"], None, 64, "a time span is not negative"),
        (&["inbox", "list", "--older-than", "soon"], None, 64, "write for example 90s, 5m, 1h30m or 7d"),
        (&["inbox", "show", "a\nb\u{1b}[2J"], None, 64, "\"a\\nb\\u{1b}[2J\" is no correlation id"),
        (&["inbox", "show", ""], None, 64, "is no correlation id"),
        (&DECIDE, None, 64, "--reviewer <NAME>"),
        (
            &["inbox", "decide", &long_id, "--decision", "approve", "--reviewer", "a"],
            None,
            64,
            "at most 256 bytes long",
        ),
        (&["inbox", "decide", "c", "--decision", " ", "--reviewer", "a"], None, 64, "it names no decision"),
        (&["inbox", "decide", "c", "--decision", "approve", "--reviewer", ""], None, 64, "it names no reviewer"),
        (&["inbox", "provide", "case-1"], None, 64, "<FILE>"),
        (&["inbox", "provide", "case-1", "none.json"], None, 64, "cannot read none.json: No such file"),
        (&["inbox", "provide", "case-1", "."], None, 64, "cannot read .: Is a directory"),
        (&["inbox", "provide", "case-1", "-"], None, 64, "stdin holds no JSON value; nothing was sent"),
        (&["inbox", "provide", "case-1", "-"], Some(b"[1]"), 64, "not a JSON object"),
        (&["inbox", "provide", "case-1", "-"], Some(b"{}"), 64, "there is nothing in it that was asked for"),
        (
            &["inbox", "provide", "case-1", "-"],
            Some(b"{}\n{}"),
            64,
            "one JSON object is needed, and there are 2 values",
        ),
        (&["inbox", "provide", "case-1", "-"], Some(b"{\"a\":"), 64, "stdin:1:5: not JSON"),
        (&["inbox", "provide", "case-1", "-"], Some(b"\xff\xfe"), 64, "not JSON"),
        (&["inbox", "provide", "case-1", "--field", "a"], None, 64, "\"a\" is no field"),
        (&["inbox", "provide", "case-1", "--field", "a=b"], None, 64, "a text needs its quotes"),
        (&["inbox", "provide", "case-1", "--field", "a=1", "--field", "a=2"], None, 64, "\"a\" is given twice"),
        (&["inbox", "provide", "case-1", "f.json", "--field", "a=1"], None, 64, "cannot be used with"),
        (&["cost", "--day", "2026-13-40"], None, 64, "\"2026-13-40\" is no day; write for example"),
        (&["cost", "--day", "-001-01-01"], None, 64, "is no day"),
        (&["cost", "--brokers", "nonsense"], None, 64, "write HOST:PORT"),
        (&["cost", "--brokers", ""], None, 64, "write HOST:PORT"),
        (&["send", "--review"], None, 64, "--correlation-id <ID>"),
        (&["send", "--review", "--correlation-id", "c", "none.json"], None, 64, "cannot read none.json"),
        (&["send", "--review", "--correlation-id", "c", "-"], None, 64, "stdin holds no JSON value; nothing was sent"),
        (
            &["send", "--review", "--correlation-id", "c", "-"],
            Some(b"{\"decision\":\"approve\"}"),
            64,
            "no review decision: missing field `reviewer`",
        ),
        (
            &["send", "--review", "--correlation-id", "c", "-"],
            Some(b"{\"decision\":\"approve\",\"reviewer\":\"\"}"),
            64,
            "it names no reviewer; nothing was sent",
        ),
        (&["send", "--review", "--correlation-id", "c", "--decision", "approve"], None, 64, "--reviewer <NAME>"),
        (&["send", "-", "--wait", "--timeout", longest], Some(b"{}"), 64, "is longer than 36500 days"),
    ];
    refused(&setup, rows).await;
    let (timeout, needs) = (with(&APPROVE, &["--timeout", longest]), with(&APPROVE, &["--needs", ""]));
    let contradiction = with(&APPROVE, &["--no-wait", "--timeout", "5s"]);
    let rows: [Row<'_>; 3] = [
        (&timeout, None, 64, "is longer than 36500 days"),
        (&needs, None, 64, "--needs has an empty name"),
        (&contradiction, None, 64, "cannot be used with"),
    ];
    refused(&setup, &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    let setup = Setup::with_topics().await;
    let rows: [Row<'_>; 7] = [
        (&["dlq", "show", "kyc.requests.dlq/0/7"], None, 1, "there is no dead letter kyc.requests.dlq/0/7"),
        (&["dlq", "show", "kyc.requests.dlq/99/0"], None, 1, "no dead letters partition kyc.requests.dlq/99"),
        (&["dlq", "show", "elsewhere.dlq/0/0"], None, 1, "no dead letters partition elsewhere.dlq/0"),
        (
            &["dlq", "redrive", "kyc.requests.dlq/0/7"],
            None,
            1,
            "nothing was redriven: there is no dead letter kyc.requests.dlq/0/7",
        ),
        (&["dlq", "drop", "kyc.requests.dlq/0/7", "--yes"], None, 1, "there is no dead letter kyc.requests.dlq/0/7"),
        (&["inbox", "show", "case-1"], None, 1, "no case case-1 is known: it was never planned, or was forgotten"),
        (&["dlq", "list", "--topology", "none.yaml"], None, 64, "cannot read none.yaml"),
    ];
    refused(&setup, &rows).await;
    // What nobody answers is kept, and said to be: it counts when a composer reads it.
    let before = written(&setup).await;
    let done = setup.run(&with(&APPROVE, &["--timeout", "300ms"])).await;
    assert_eq!((done.code, done.out.as_str()), (1, ""), "{done:?}");
    assert!(done.err.contains("no answer within 0.3 s: is a composer running?"), "{done:?}");
    assert_eq!(written(&setup).await, before + 1);

    setup.topology(&TOPOLOGY.replace(", review: kyc.review-decisions", ""));
    let rows: [Row<'_>; 2] = [
        (&APPROVE, None, 64, "the topology has no review topic; name one as inbound.review in topics.yaml"),
        (&["inbox", "provide", "c", "--field", "a=1"], None, 64, "the topology has no review topic"),
    ];
    refused(&setup, &rows).await;
    setup.topology("name: kyc\nname: kyc\n");
    refused(&setup, &[(&["cost"], None, 64, "topics.yaml:2:1: error")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_topics() {
    let setup = Setup::empty().await;
    let nothing = "no topic of topology kyc is on this cluster; create them with `anabranch topics apply`";
    let rows: [Row<'_>; 7] = [
        (&["dlq", "list"], None, 1, nothing),
        (&["dlq", "redrive", "--all"], None, 1, nothing),
        (&["dlq", "drop", "--all", "--yes"], None, 1, nothing),
        (&["cost"], None, 1, nothing),
        (&["inbox", "list"], None, 1, "kyc.composer-state is not on this cluster: no composer has run yet"),
        (&APPROVE, None, 1, "kyc.composer-state is not on this cluster"),
        (&["inbox", "provide", "c", "--field", "a=1"], None, 1, "kyc.review-decisions is not on this cluster"),
    ];
    refused(&setup, &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_are_none() {
    let setup = Setup::empty().await;
    let no_store = "the topology has no claim store; name one as claims.store in topics.yaml";
    refused(
        &setup,
        &[(&["claims", "put", "-"], Some(b"x"), 64, no_store), (&["claims", "get", "-"], None, 64, no_store)],
    )
    .await;
    let store = setup.path("store");
    setup.topology(&format!("{TOPOLOGY}claims: {{ store: \"dir:{}\" }}\n", store.display()));
    let put = run(&setup, &["claims", "put", "-"], Some(b"hello")).await;
    assert_eq!(put.code, 0, "{put:?}");
    let sha = put.json()["$claim"]["sha256"].as_str().unwrap().to_owned();
    let claim = |sha: &str, bytes: &str| {
        format!(r#"{{"$claim":{{"sha256":"{sha}","bytes":{bytes},"content_type":"text/plain"}}}}"#).into_bytes()
    };
    let (longer, unknown, outside) = (claim(&sha, "6"), claim(&"a".repeat(64), "5"), claim("../../etc/passwd", "5"));
    let (negative, huge) = (claim(&sha, "-1"), claim(&sha, "18446744073709551615"));
    let rows: [Row<'_>; 14] = [
        (&["claims", "put", "none.txt"], None, 64, "cannot read none.txt: No such file"),
        (&["claims", "put", "."], None, 64, "cannot read .: Is a directory"),
        (&["claims", "put", "-"], None, 64, "stdin is empty; nothing was put"),
        (&["claims", "put", "-", "--content-type", "text"], Some(b"x"), 64, "write for example text/plain"),
        (&["claims", "get", "-"], None, 64, "stdin holds no claim, as `anabranch claims put` prints one"),
        (&["claims", "get", "-"], Some(b"{}"), 64, "missing field `$claim`"),
        (&["claims", "get", "-"], Some(&outside), 64, "a SHA-256 has 64 hexadecimal digits"),
        (&["claims", "get", "-"], Some(&negative), 64, "stdin holds no claim"),
        (&["claims", "get", "-"], Some(&huge), 1, "is larger than the 67108864 bytes that claims.most allows"),
        (&["claims", "get", "-"], Some(&longer), 1, "is not what the claim says"),
        (&["claims", "get", "-"], Some(&unknown), 1, "the claim store has no content with the SHA-256 aaaa"),
        (&["claims", "gc"], None, 64, "--older-than <TIME>"),
        (&["claims", "gc", "--older-than", "-1d"], None, 64, "is no time span; write for example"),
        (&["claims", "gc", "--older-than", "99999999999d"], None, 64, "is no time span; write for example"),
    ];
    refused(&setup, &rows).await;
    let got = run(&setup, &["claims", "get", "-"], Some(&claim(&sha, "5"))).await;
    assert_eq!((got.code, got.out.as_str()), (0, "hello"), "nothing is lost");
    // Something else is where the store should be.
    setup.write("a-file", "x");
    let file = setup.path("a-file");
    setup.topology(&format!("{TOPOLOGY}claims: {{ store: \"dir:{}\" }}\n", file.display()));
    let rows: [Row<'_>; 2] = [
        (&["claims", "put", "-"], Some(b"x"), 64, "claims.store: the claim store cannot be used"),
        (&["claims", "gc", "--older-than", "1h"], None, 64, "claims.store: the claim store cannot be used"),
    ];
    refused(&setup, &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_that_are_none() {
    let setup = Setup::with_topics().await;
    setup.topology(&format!("{TOPOLOGY}budgets: {{ per_case: {{ money: 1 }} }}\nprices: prices.yaml\n"));
    for (prices, words) in [
        (None, "prices.yaml:1:1: error: cannot be read: No such file"),
        (Some(""), "prices.yaml:1:1: error"),
        (Some("gpt-4o-mini: { input: -1, output: 2 }\n"), "prices.yaml:1:23: error: gpt-4o-mini.input: -1 is not"),
        (Some("gpt-4o-mini: { input: 1e300, output: 2 }\n"), "1e+300 is not a number from 0"),
        (Some("gpt-4o: { input: 1, output: 2 }\n"), "the model `gpt-4o-mini` has no price here"),
        (Some("- 1\n"), "prices.yaml:1:1: error"),
        (Some("\0"), "prices.yaml:1:1: error"),
    ] {
        if let Some(text) = prices {
            setup.write("prices.yaml", text);
        }
        let done = setup.run(&["validate"]).await;
        assert_eq!(done.code, 64, "{prices:?}: {done:?}");
        assert!(done.out.contains(words), "{prices:?}: {done:?}");
    }
}
