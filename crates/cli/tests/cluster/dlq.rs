//! Dead letters: found, shown, sent back and dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_core::join::Phase;
use anabranch_kafka::{OutRecord, Record};
use anabranch_protocol::dead_letter::{self, Failure};
use anabranch_protocol::{CorrelationId, Envelope, Header, Plan, Timestamp, header};
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::Child;

use crate::support::{LIMIT, Setup, Story, decode, finished, now};

const TASKS: &str = "kyc.tasks.identity";
const DLQ: &str = "kyc.tasks.identity.dlq";

/// A record as an agent gives it up.
fn given_up(original: &OutRecord, agent: &str, class: &'static str, message: &str) -> OutRecord {
    let case = header::last(&original.headers, header::CORRELATION_ID).map(CorrelationId::new);
    let case = case.unwrap_or_else(|| CorrelationId::mint(original.key.as_deref(), &original.topic, 1, 7));
    let causes: Vec<String> = message.split(": ").map(str::to_owned).collect();
    let failure = Failure {
        topic: &original.topic,
        partition: 1,
        offset: 7,
        group: &format!("kyc.{agent}"),
        attempts: 3,
        class,
        message,
        causes: &causes,
        agent,
        agent_version: "0.1.0",
        correlation_id: &case,
        first_failure: Timestamp::from_millis(now().as_millis() - 5_000),
        last_failure: now(),
    };
    let topic = format!("{}.dlq", original.topic);
    let headers = dead_letter::headers(&original.headers, &failure);
    OutRecord { topic, headers, partition: None, timestamp_ms: None, ..original.clone() }
}

/// The task of a case.
fn task(case: &str) -> OutRecord {
    Story::new(case).planned().remove(1)
}

/// Letters of so many cases.
async fn letters(setup: &Setup, count: usize) {
    let letter = |n| given_up(&task(&format!("case-{n:03}")), "identity", "retryable", &format!("no row {n}"));
    setup.emit((0..count).map(letter).collect()).await;
}

async fn read(setup: &Setup, topic: &str, count: usize) -> Vec<Record> {
    match count {
        0 => Vec::new(),
        _ => setup.read(topic, count).await,
    }
}

/// Cases whose task was sent back, and how often.
async fn sent_back(setup: &Setup) -> BTreeMap<String, usize> {
    let count = usize::try_from(setup.count(TASKS).await).unwrap();
    let mut cases = BTreeMap::new();
    for record in read(setup, TASKS, count).await {
        *cases.entry(decode(&record).0.correlation_id.to_string()).or_default() += 1;
    }
    cases
}

fn lines(done: &crate::support::Done) -> Vec<Value> {
    done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_goes_back_byte_for_byte_and_only_once() {
    let setup = Setup::with_topics().await;
    let odd = OutRecord {
        topic: TASKS.to_owned(),
        key: Some(Bytes::from_static(b"\xff\xfe key")),
        value: Some(Bytes::from_static(b"{ \"n\": 1.10, \xc3\x28")),
        headers: vec![
            Header { name: "from-outside".into(), value: None },
            Header { name: "from-outside".into(), value: Some(Bytes::from_static(b"\xff\n\x00")) },
            Header::text(header::CORRELATION_ID, "case-odd"),
            Header::text(header::ID, "e-1"),
            Header::text(header::ORIGIN_TRACE_PARENT, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Header::text(header::ORIGIN_TRACE_PARENT, ""),
        ],
        ..OutRecord::default()
    };
    setup.emit(vec![given_up(&odd, "identity", "unreadable", "the value is not valid JSON")]).await;
    let done = setup.run(&["dlq", "redrive", "--all", "-o", "json"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let told = &lines(&done)[0];
    assert_eq!((&told["did"], &told["to"], &told["redrives"]), (&json!("redriven"), &json!(TASKS), &json!(1)));
    let sent = setup.read(TASKS, 1).await.remove(0);
    assert_eq!((&sent.key, &sent.value), (&odd.key, &odd.value));
    let (last, before) = sent.headers.split_last().unwrap();
    assert_eq!(before, &odd.headers[..], "every header, in order, null and repeated ones too");
    assert_eq!(*last, Header::text(dead_letter::REDRIVES, "1"));

    let again = setup.run(&["dlq", "redrive", "--all"]).await;
    assert_eq!((again.code, again.out.as_str()), (0, ""), "{again:?}");
    assert!(again.err.contains("0 redriven, 1 were sent back or dropped before"), "{again:?}");
    let named = setup.run(&["dlq", "redrive", told["letter"].as_str().unwrap()]).await;
    assert_eq!(named.code, 0, "{named:?}");
    assert_eq!(setup.count(TASKS).await, 1);

    // Given up once more, it is another letter, and the count goes on.
    let back = OutRecord { headers: sent.headers.clone(), ..odd.clone() };
    setup.emit(vec![given_up(&back, "identity", "unreadable", "the value is not valid JSON")]).await;
    assert_eq!(setup.run(&["dlq", "redrive", "--all"]).await.code, 0);
    let records = setup.read(TASKS, 2).await;
    let counts: BTreeSet<u32> = records.iter().map(|record| dead_letter::redrives(&record.headers)).collect();
    assert_eq!(counts, BTreeSet::from([1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_counted_by_error_and_listed_by_what_they_say() {
    let setup = Setup::with_topics().await;
    letters(&setup, 3).await;
    let foul =
        OutRecord { topic: "kyc.requests".into(), value: Some(Bytes::from_static(b"{")), ..OutRecord::default() };
    setup.emit(vec![given_up(&foul, "supervisor", "unreadable", "not JSON: line 1 column 1\u{1b}[2J")]).await;
    let list = setup.run(&["dlq", "list", "-o", "json"]).await;
    assert_eq!(list.code, 0, "{list:?}");
    let seen = list.json();
    let groups: Vec<(u64, &str, &str)> = seen["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            (group["count"].as_u64().unwrap(), group["agent"].as_str().unwrap(), group["error"].as_str().unwrap())
        })
        .collect();
    assert_eq!(groups, [(3, "identity", "no row #"), (1, "supervisor", "not JSON: line # column #\u{FFFD}[#J")]);
    assert_eq!((&seen["letters"], &seen["handled"]), (&json!(4), &json!(0)));

    let count = async |args: &[&str]| {
        let done = setup.run(&[&["dlq", "list", "--each", "-o", "json"], args].concat()).await;
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
        lines(&done).len()
    };
    let an_hour_ago = Timestamp::from_millis(now().as_millis() - 3_600_000).to_string();
    for (args, expected) in [
        (&[][..], 4),
        (&["--agent", "identity"][..], 3),
        (&["--class", "unreadable"], 1),
        (&["--topic", TASKS], 3),
        (&["--topic", "kyc.requests.dlq"], 1),
        (&["--correlation-id", "case-001"], 1),
        (&["--since", "1h"], 4),
        (&["--since", &an_hour_ago, "--agent", "identity"], 3),
        (&["--until", "1h"], 0),
        (&["--agent", "identity", "--class", "terminal"], 0),
    ] {
        assert_eq!(count(args).await, expected, "{args:?}");
    }
    let table = setup.run(&["dlq", "list"]).await;
    assert!(table.out.contains("no row #") && table.out.contains(DLQ) && !table.out.contains('\u{1b}'), "{table:?}");
    assert!(table.err.contains("4 dead letters; 0 more were sent back or dropped"), "{table:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_shown_with_its_causes_headers_and_value() {
    let setup = Setup::with_topics().await;
    let original = task("case-1");
    setup.emit(vec![given_up(&original, "identity", "terminal", "cannot look it up: connection refused")]).await;
    let each = setup.run(&["dlq", "list", "--each", "-o", "json"]).await;
    let letter = lines(&each)[0]["letter"].as_str().unwrap().to_owned();
    let text = setup.run(&["dlq", "show", &letter]).await;
    assert_eq!(text.code, 0, "{text:?}");
    for words in [
        "cannot look it up",
        "\n                connection refused",
        "identity 0.1.0",
        "kyc.tasks.identity/1/7",
        "ce_correlationid: case-1",
        "\"agent\":\"identity\"",
    ] {
        assert!(text.out.contains(words), "{words:?}: {}", text.out);
    }
    let shown = setup.run(&["dlq", "show", &letter, "-o", "json"]).await.json();
    assert_eq!(shown["causes"], json!(["cannot look it up", "connection refused"]));
    assert_eq!((&shown["attempts"], &shown["value"]["agent"]), (&json!(3), &json!("identity")));
    assert!(shown["first_failure"].as_str() < shown["last_failure"].as_str(), "{shown}");
    let raw = setup.run(&["dlq", "show", &letter, "--value"]).await;
    assert_eq!(Some(raw.out.as_bytes()), original.value.as_deref());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_back_is_left_and_says_why() {
    let setup = Setup::with_topics().await;
    let with = |case: &str, name: &str, value: &str| {
        let mut task = task(case);
        task.headers.retain(|header| header.name != name);
        task.headers.push(Header::text(name.to_owned(), value));
        given_up(&task, "identity", "terminal", "boom")
    };
    let elsewhere = OutRecord { topic: "payments".into(), ..task("case-elsewhere") };
    let plan = Story::new("case-plan").planned().remove(0);
    setup
        .emit(vec![
            with("case-loop", dead_letter::REDRIVES, "3"),
            with("case-late", header::EXPIRY_TIME, "2001-01-01T00:00:00Z"),
            OutRecord { topic: DLQ.to_owned(), ..given_up(&elsewhere, "identity", "terminal", "boom") },
            OutRecord { topic: DLQ.to_owned(), ..task("case-stranger") },
            given_up(&plan, "composer", "terminal", "the deadline passed"),
            given_up(&task("case-good"), "identity", "terminal", "boom"),
        ])
        .await;
    let done = setup.run(&["dlq", "redrive", "--all", "-o", "json"]).await;
    assert_eq!(done.code, 1, "{done:?}");
    let told: BTreeMap<String, String> = lines(&done)
        .iter()
        .map(|line| {
            let reason = line["reason"].as_str().unwrap_or(line["did"].as_str().unwrap());
            (line["correlation_id"].as_str().unwrap().to_owned(), reason.to_owned())
        })
        .collect();
    let expected = [
        ("case-elsewhere", "foreign"),
        ("case-good", "redriven"),
        ("case-late", "expired"),
        ("case-loop", "looped"),
        ("case-plan", "of-case"),
        ("case-stranger", "no-letter"),
    ];
    assert_eq!(told, expected.map(|(case, word)| (case.to_owned(), word.to_owned())).into());
    assert_eq!(sent_back(&setup).await, [("case-good".to_owned(), 1)].into());
    // A higher bound, and nothing else, lets the one go that came back three times.
    let more = setup.run(&["dlq", "redrive", "--all", "--max-redrives", "4"]).await;
    assert_eq!(more.code, 1, "{more:?}");
    assert!(more.err.contains("1 redriven, 4 left (1 expired, 1 foreign, 1 no-letter, 1 of-case)"), "{more:?}");
    assert!(more.err.contains("--case begins the case anew"), "{more:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_sends_nothing_and_a_limit_and_a_rate_hold() {
    let setup = Setup::with_topics().await;
    letters(&setup, 12).await;
    let dry = setup.run(&["dlq", "redrive", "--all", "--dry-run"]).await;
    assert_eq!((dry.code, dry.out.lines().count()), (0, 12), "{dry:?}");
    assert!(dry.err.contains("12 would be redriven"), "{dry:?}");
    assert_eq!((setup.count(TASKS).await, setup.count("kyc.dlq-marks").await), (0, 0));
    let some = setup.run(&["dlq", "redrive", "--agent", "identity", "--limit", "5"]).await;
    assert_eq!((some.code, some.out.lines().count()), (0, 5), "{some:?}");
    let began = std::time::Instant::now();
    let rest = setup.run(&["dlq", "redrive", "--agent", "identity", "--rate", "10/s"]).await;
    assert_eq!((rest.code, rest.out.lines().count()), (0, 7), "{rest:?}");
    assert!(began.elapsed() >= Duration::from_millis(600), "7 at 10/s, the first at once: {:?}", began.elapsed());
    let all = sent_back(&setup).await;
    assert_eq!((all.len(), all.values().sum::<usize>()), (12, 12), "each once: {all:?}");
}

/// Waits until so many tasks were sent back.
async fn under_way(setup: &Setup, count: i64) {
    let wait = async {
        while setup.count(TASKS).await < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it is under way");
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), signal).unwrap();
}

const MANY: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_it_goes_on_and_leaves_nothing_out() {
    let setup = Setup::with_topics().await;
    letters(&setup, MANY).await;
    let mut killed = 0;
    for at in [10, 40, 70] {
        let run = setup.start(&["dlq", "redrive", "--all", "--rate", "200/s"]);
        under_way(&setup, at).await;
        signal(&run, Signal::SIGKILL);
        killed += usize::from(finished(run).await.code != 0);
    }
    assert_eq!(killed, 3, "each was killed before its end");
    let last = setup.run(&["dlq", "redrive", "--all"]).await;
    assert_eq!(last.code, 0, "{last:?}");
    let sent = sent_back(&setup).await;
    let repeats = sent.values().sum::<usize>() - MANY;
    println!("{MANY} letters, {killed} times killed: {repeats} were sent twice");
    assert_eq!(sent.len(), MANY, "each was sent back");
    assert!(repeats <= killed * 20, "at most a portion for each kill: {repeats}");
    let none = setup.run(&["dlq", "redrive", "--all"]).await;
    assert_eq!((none.code, none.out.as_str()), (0, ""), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_between_two_portions() {
    let setup = Setup::with_topics().await;
    letters(&setup, 60).await;
    let run = setup.start(&["dlq", "redrive", "--all", "--rate", "50/s"]);
    under_way(&setup, 10).await;
    signal(&run, Signal::SIGINT);
    let stopped = finished(run).await;
    assert_eq!(stopped.code, 1, "{stopped:?}");
    assert!(stopped.err.contains("stopped: run it again to go on"), "{stopped:?}");
    let first = stopped.out.lines().count();
    assert!((10..60).contains(&first), "{first}");
    let rest = setup.run(&["dlq", "redrive", "--all"]).await;
    assert_eq!((rest.code, rest.out.lines().count()), (0, 60 - first), "{rest:?}");
    let sent = sent_back(&setup).await;
    assert_eq!((sent.len(), sent.values().sum::<usize>()), (60, 60), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_not_there_any_more_and_nothing_is_deleted() {
    let setup = Setup::with_topics().await;
    letters(&setup, 3).await;
    let asked = setup.run(&["dlq", "drop", "--all"]).await;
    assert_eq!(asked.code, 64, "{asked:?}");
    assert!(asked.err.contains("--yes"), "{asked:?}");
    let dry = setup.run(&["dlq", "drop", "--all", "--dry-run"]).await;
    assert_eq!((dry.code, dry.out.lines().count()), (0, 3), "{dry:?}");
    let one = setup.run(&["dlq", "drop", "--correlation-id", "case-001", "--yes"]).await;
    assert_eq!((one.code, one.out.lines().count()), (0, 1), "{one:?}");
    let list = setup.run(&["dlq", "list", "-o", "json"]).await.json();
    assert_eq!((&list["letters"], &list["handled"]), (&json!(2), &json!(1)));
    let all = setup.run(&["dlq", "list", "--each", "--handled", "-o", "json"]).await;
    let handled: Vec<Value> = lines(&all).into_iter().filter(|line| line["handled"] == "dropped").collect();
    assert_eq!((lines(&all).len(), handled.len(), &handled[0]["correlation_id"]), (3, 1, &json!("case-001")));
    let sent = setup.run(&["dlq", "redrive", "--all"]).await;
    assert_eq!((sent.code, sent_back(&setup).await.len()), (0, 2), "{sent:?}");
    assert_eq!(setup.count(DLQ).await, 3);
    let again = setup.run(&["dlq", "drop", "--all", "--yes"]).await;
    assert!(again.err.contains("0 dropped, 3 were sent back or dropped before"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_begins_anew_only_if_it_ended_as_a_dead_letter() {
    let setup = Setup::with_topics().await;
    let stories = ["case-ended", "case-open", "case-decided", "case-unknown", "case-forgotten"].map(Story::new);
    for story in &stories {
        setup.emit(vec![story.request()]).await;
        let letter = match story.case().as_str() {
            // What the composer makes of a case that it cannot decide.
            "case-ended" | "case-forgotten" => {
                given_up(&story.planned()[0], "composer", "terminal", "the deadline passed")
            }
            _ => given_up(&story.planned()[1], "identity", "terminal", "boom"),
        };
        setup.emit(vec![letter]).await;
    }
    let [ended, open, decided, ..] = &stories;
    setup.emit(vec![open.state(Phase::Joining), decided.state(Phase::Closed { at: now() })]).await;
    let closed = ended.state(Phase::Closed { at: now() });
    let state = json!({ "phase": "closed", "since_ms": 1, "redrives": 1, "given_up": true });
    setup.emit(vec![OutRecord { value: Some(Bytes::from(state.to_string())), ..closed }]).await;
    let done = setup.run(&["dlq", "redrive", "--case", "--all", "-o", "json"]).await;
    assert_eq!(done.code, 1, "{done:?}");
    let told: BTreeMap<String, String> = lines(&done)
        .iter()
        .map(|line| {
            let word = line["reason"].as_str().unwrap_or(line["did"].as_str().unwrap());
            (line["correlation_id"].as_str().unwrap().to_owned(), word.to_owned())
        })
        .collect();
    let expected = [
        ("case-decided", "decided"),
        ("case-ended", "case-redriven"),
        ("case-forgotten", "case-redriven"),
        ("case-open", "open"),
        ("case-unknown", "not-ended"),
    ];
    assert_eq!(told, expected.map(|(case, word)| (case.to_owned(), word.to_owned())).into());
    let requests = setup.read("kyc.requests", 7).await;
    let of = |case: &str| -> Vec<&Record> {
        requests.iter().filter(|record| record.key.as_deref() == Some(case.as_bytes())).collect()
    };
    let [before, after] = of("case-ended")[..] else { panic!("{requests:?}") };
    assert_eq!((&before.value, before.headers.len() + 1), (&after.value, after.headers.len()));
    assert_eq!(decode(before).0, decode(after).0, "the same ids, time, trace and deadline");
    assert_eq!(dead_letter::redrives(&after.headers), 2, "once more than what was given up");
    assert_eq!(dead_letter::redrives(&of("case-forgotten")[1].headers), 1);
    assert_eq!(setup.run(&["dlq", "redrive", "--case", "--correlation-id", "case-ended"]).await.code, 0);
    assert_eq!(setup.count("kyc.requests").await, 7, "once is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_time_is_over_is_given_time() {
    let setup = Setup::with_topics().await;
    let mut late = Story::new("case-late").request();
    late.headers.retain(|header| header.name != header::EXPIRY_TIME);
    late.headers.push(Header::text(header::EXPIRY_TIME, "2001-01-01T00:00:00Z"));
    let plan = Story::new("case-late").planned().remove(0);
    setup.emit(vec![late, given_up(&plan, "composer", "terminal", "the deadline passed")]).await;
    let refused = setup.run(&["dlq", "redrive", "--case", "--all"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("2001-01-01") && refused.err.contains("--deadline"), "{refused:?}");
    let sent = setup.run(&["dlq", "redrive", "--case", "--all", "--deadline", "5m"]).await;
    assert_eq!(sent.code, 0, "{sent:?}");
    let requests = setup.read("kyc.requests", 2).await;
    let left = requests.iter().filter_map(|r| decode(r).0.deadline).max().unwrap().since(now());
    assert!(left > Duration::from_secs(240) && left <= Duration::from_secs(300), "{left:?}");
}

/// A request that was written without any header, and given up because it has no value that can be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_headers_keeps_its_case() {
    let setup = Setup::with_topics().await;
    let bare =
        OutRecord { topic: "kyc.requests".into(), value: Some(Bytes::from_static(b"{}")), ..OutRecord::default() };
    setup.emit(vec![given_up(&bare, "supervisor", "terminal", "the request does not have the shape")]).await;
    assert_eq!(setup.run(&["dlq", "redrive", "--all"]).await.code, 0);
    let sent = setup.read("kyc.requests", 1).await.remove(0);
    let envelope: Envelope = decode(&sent).0;
    assert_eq!(envelope.correlation_id, CorrelationId::mint(None, "kyc.requests", 1, 7), "as where it lay first");
    assert_ne!(envelope.kind, Plan::TYPE);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_input_is_told_and_nothing_is_sent() {
    let setup = Setup::with_topics().await;
    letters(&setup, 1).await;
    let gone = format!("{DLQ}/0/999");
    for (args, code, words) in [
        (&["dlq"][..], 64, "Usage"),
        (&["dlq", "lst"], 64, "list"),
        (&["dlq", "list", "--class", "odd"], 64, "terminal, retryable, unreadable"),
        (&["dlq", "list", "--since", "yesterday"], 64, "1h30m"),
        (&["dlq", "list", "--since", "1h", "--until", "2h"], 64, "--until is to be later than --since"),
        (&["dlq", "list", "--agent", "idenity"], 64, "no agent is called \"idenity\"; there are identity"),
        (&["dlq", "list", "--topic", "kyc.decisions"], 64, "has no dead letters topic; there are kyc.requests.dlq"),
        (&["dlq", "list", "-o", "xml"], 64, "possible values"),
        (&["dlq", "show"], 64, "LETTER"),
        (&["dlq", "show", "case-000"], 64, "PARTITION/OFFSET"),
        (&["dlq", "show", "kyc.tasks.nobody.dlq/0/1"], 1, "no dead letters partition"),
        (&["dlq", "show", "kyc.tasks.identity.dlq/9/1"], 1, "no dead letters partition"),
        (&["dlq", "show", &gone], 1, "there is no dead letter kyc.tasks.identity.dlq/0/999"),
        (&["dlq", "redrive"], 64, "--all means all"),
        (&["dlq", "redrive", &gone], 1, "there is no dead letter"),
        (&["dlq", "redrive", "--all", "--agent", "identity"], 64, "cannot be used with"),
        (&["dlq", "redrive", "--all", "--rate", "fast"], 64, "50/s"),
        (&["dlq", "redrive", "--all", "--limit", "0"], 64, "--limit"),
        (&["dlq", "redrive", "--all", "--deadline", "5m"], 64, "--case"),
        (&["dlq", "redrive", "--all", "--case", "--deadline", "soon"], 64, "no time span"),
        (&["dlq", "redrive", "--all", "--max-redrives=-1"], 64, "--max-redrives"),
        (&["dlq", "drop"], 64, "--all means all"),
        (&["dlq", "drop", "--all", "--yes", "--dry-run"], 64, "cannot be used with"),
        (&["dlq", "drop", &gone, "--yes"], 1, "there is no dead letter"),
        (&["dlq", "list", "--topology", "missing.yaml"], 64, "cannot read missing.yaml"),
    ] {
        let done = setup.run(args).await;
        assert_eq!(done.code, code, "{args:?}: {done:?}");
        assert!(done.err.contains(words), "{args:?}: {words:?} is not in {}", done.err);
        assert_eq!(done.out, "", "{args:?}");
    }
    assert_eq!((setup.count(TASKS).await, setup.count("kyc.dlq-marks").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_topology_or_without_letters_says_so() {
    let setup = Setup::empty().await;
    let none = setup.run(&["dlq", "list"]).await;
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.err.contains("no topic of topology kyc is on this cluster"), "{none:?}");
    let setup = Setup::with_topics().await;
    let empty = setup.run(&["dlq", "list"]).await;
    assert_eq!((empty.code, empty.out.as_str()), (0, ""), "{empty:?}");
    assert!(empty.err.contains("0 dead letters"), "{empty:?}");
    let redriven = setup.run(&["dlq", "redrive", "--all"]).await;
    assert_eq!(redriven.code, 0, "{redriven:?}");
    assert!(redriven.err.contains("0 redriven"), "{redriven:?}");
}
