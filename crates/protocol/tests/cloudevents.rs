//! An independent implementation of `CloudEvents` (Python's `cloudevents`, with its Kafka binding of 2.x and the one
//! of 1.x) reads what we write, and we read what it writes, in binary and in structured mode.
//!
//! It is installed into a virtual environment under `target/`. Where that cannot be done the test is skipped and
//! says why; with `CI` set it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anabranch_protocol::{Decoded, Envelope, EventId, Header, Timestamp, TraceParent};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What `interop.py` is asked.
#[derive(Serialize)]
struct Question {
    records: Vec<Named>,
}

#[derive(Serialize)]
struct Named {
    name: String,
    mode: &'static str,
    #[serde(flatten)]
    record: Wire,
}

/// A record, bytes in base64.
#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    key: Option<String>,
    headers: Vec<(String, String)>,
    value: String,
}

/// What it answers.
#[derive(Deserialize)]
struct Answer {
    read: Vec<Read>,
    own: Vec<Own>,
}

#[derive(Deserialize)]
struct Read {
    name: String,
    attributes: BTreeMap<String, String>,
    data: Value,
    old_attributes: BTreeMap<String, String>,
    old_data: Value,
    again: BTreeMap<String, Wire>,
}

#[derive(Deserialize)]
struct Own {
    name: String,
    attributes: BTreeMap<String, String>,
    data: String,
    modes: BTreeMap<String, Wire>,
}

impl Wire {
    fn of(key: Option<&str>, headers: &[Header], value: &[u8]) -> Self {
        let header = |header: &Header| {
            (header.name.clone().into_owned(), STANDARD.encode(header.value.as_deref().unwrap_or_default()))
        };
        Self {
            key: key.map(|key| STANDARD.encode(key)),
            headers: headers.iter().map(header).collect(),
            value: STANDARD.encode(value),
        }
    }

    fn decode(&self) -> Decoded {
        let bytes = |text: &str| Bytes::from(STANDARD.decode(text).expect("base64"));
        let headers: Vec<Header> = self
            .headers
            .iter()
            .map(|(name, value)| Header { name: name.clone().into(), value: Some(bytes(value)) })
            .collect();
        let (key, value) = (self.key.as_deref().map(bytes), bytes(&self.value));
        Envelope::decode(&common::record(key.as_deref(), Some(&value), &headers))
            .unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The Python of a virtual environment that holds the requirements, or why there is none.
fn python() -> Result<PathBuf, String> {
    let run = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}: {said}", output.status)) }
    };
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cloudevents");
    let io = |error: std::io::Error| format!("{}: {error}", place.display());
    std::fs::create_dir_all(&place).map_err(io)?;
    // Two runs of the tests do not build it at once.
    let lock = File::create(place.join("lock")).map_err(io)?;
    lock.lock().map_err(io)?;
    let (environment, stamp) = (place.join("venv"), place.join("requirements.txt"));
    let python = environment.join("bin").join("python");
    let wanted = include_str!("cloudevents/requirements.txt");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloudevents/requirements.txt");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(install).arg(requirements))?;
    std::fs::write(&stamp, wanted).map_err(io)?;
    Ok(python)
}

fn ask(python: &Path, question: &Question) -> Answer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloudevents/interop.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let text = serde_json::to_vec(question).expect("JSON");
    child.stdin.take().expect("a pipe").write_all(&text).expect("Python reads");
    let output = child.wait_with_output().expect("Python ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("an answer")
}

/// Envelopes that differ in what they hold.
fn envelopes() -> Vec<(&'static str, Envelope)> {
    let full = common::full("anabranch.task.v1");
    let unicode =
        Envelope { id: EventId::new("id-🙂"), subject: Some("東京, a \"quoted\" one".into()), ..full.clone() };
    let early = Envelope { time: Timestamp::from_millis(0), ..common::bare("anabranch.plan.v1") };
    vec![("full", full), ("bare", common::bare("anabranch.plan.v1")), ("unicode", unicode), ("early", early)]
}

fn data() -> Value {
    json!({ "amount": 1250.1, "name": "Žofie Špecimen", "nested": { "list": [1, null, true] } })
}

fn question() -> Question {
    let data = data().to_string().into_bytes();
    let records = envelopes().into_iter().flat_map(|(name, envelope)| {
        let key = envelope.correlation_id.as_str();
        let binary = Wire::of(Some(key), &envelope.headers(), &data);
        let (headers, value) = envelope.structured(&data).expect("it is written");
        let structured = Wire::of(Some(key), &headers, &value);
        let named = |mode, record| Named { name: name.to_owned(), mode, record };
        [named("binary", binary), named("structured", structured)]
    });
    Question { records: records.collect() }
}

/// The attributes that a reader must see, as text.
fn attributes(envelope: &Envelope) -> BTreeMap<String, String> {
    let optional = [
        ("subject", envelope.subject.clone()),
        ("causationid", envelope.causation_id.as_ref().map(ToString::to_string)),
        ("expirytime", envelope.deadline.map(|deadline| deadline.to_string())),
    ];
    let always = [
        ("specversion", "1.0".to_owned()),
        ("id", envelope.id.to_string()),
        ("source", envelope.source.clone()),
        ("type", envelope.kind.clone()),
        ("time", envelope.time.to_string()),
        ("datacontenttype", "application/json".to_owned()),
        ("correlationid", envelope.correlation_id.to_string()),
        ("traceparent", envelope.origin_trace.to_string()),
        ("partitionkey", envelope.correlation_id.to_string()),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    always.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(optional).collect()
}

/// Times are compared as times: Python writes another offset and more digits.
fn with_plain_time(mut attributes: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if let Some(time) = attributes.get_mut("time") {
        *time = Timestamp::parse(time).expect("a time").to_string();
    }
    attributes
}

fn what_we_write_is_read(question: &Question, answers: Vec<Read>) {
    assert_eq!(answers.len(), question.records.len());
    let envelopes: BTreeMap<_, _> = envelopes().into_iter().collect();
    for (asked, answer) in question.records.iter().zip(answers) {
        let (name, mode) = (answer.name.as_str(), asked.mode);
        let envelope = &envelopes[name];
        let wanted = attributes(envelope);
        assert_eq!(with_plain_time(answer.attributes), wanted, "{name}, {mode}");
        assert_eq!((&answer.data, &answer.old_data), (&data(), &data()), "{name}, {mode}");
        let mut old = with_plain_time(answer.old_attributes);
        if mode == "structured" {
            // The binding of 1.x takes Kafka's own headers of a structured event for attributes.
            for header in ["tracestate", "traceparent", "datacontenttype"] {
                old.remove(header);
            }
            old.extend(
                wanted.clone().into_iter().filter(|(name, _)| name == "traceparent" || name == "datacontenttype"),
            );
        }
        assert_eq!(old, wanted, "{name}, {mode}, read by the binding of 1.x");
        // Kafka's headers of this hop are not the event's: they do not come back.
        let hopless = Envelope { trace: envelope.origin_trace, trace_state: None, ..envelope.clone() };
        for (mode, record) in &answer.again {
            let read = record.decode();
            assert_eq!(read.envelope, hopless, "{name}, written again in {mode} mode");
            assert_eq!(read.json::<Value>(), Ok(data()), "{name}, written again in {mode} mode");
        }
        assert_eq!(answer.again.len(), 2);
    }
}

fn what_they_write_is_read(own: Vec<Own>) {
    let mut read = 0;
    for event in own {
        for (mode, record) in &event.modes {
            let what = format!("{}, {mode}", event.name);
            let Decoded { envelope, data } = record.decode();
            let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
            assert_eq!(Some(envelope.id.as_str()), attribute("id"), "{what}");
            assert_eq!(Some(envelope.source.as_str()), attribute("source"), "{what}");
            assert_eq!(Some(envelope.kind.as_str()), attribute("type"), "{what}");
            assert_eq!(envelope.subject.as_deref(), attribute("subject"), "{what}");
            assert_eq!(Some(envelope.time), attribute("time").and_then(Timestamp::parse), "{what}");
            assert_eq!(envelope.deadline, attribute("expirytime").and_then(Timestamp::parse), "{what}");
            assert_eq!(envelope.causation_id.as_ref().map(EventId::as_str), attribute("causationid"), "{what}");
            if let Some(case) = attribute("correlationid") {
                assert_eq!(envelope.correlation_id.as_str(), case, "{what}");
            }
            let trace = attribute("traceparent").and_then(TraceParent::parse);
            assert_eq!(trace.unwrap_or(envelope.origin_trace), envelope.origin_trace, "{what}");
            same_data(&data, &STANDARD.decode(&event.data).expect("base64"), &what);
            read += 1;
        }
    }
    assert!(read >= 18, "only {read} records came");
}

/// The same bytes, or the same JSON: where JSON was embedded it may be written another way.
fn same_data(data: &[u8], wanted: &[u8], what: &str) {
    match (serde_json::from_slice::<Value>(data), serde_json::from_slice::<Value>(wanted)) {
        (Ok(data), Ok(wanted)) => assert_eq!(data, wanted, "{what}"),
        _ => assert_eq!(data, wanted, "{what}"),
    }
}

#[test]
fn an_independent_implementation_agrees() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) if std::env::var_os("CI").is_some() => {
            panic!("the independent implementation is missing: {reason}")
        }
        Err(reason) => return eprintln!("skipped: the independent implementation is missing: {reason}"),
    };
    let question = question();
    let answer = ask(&python, &question);
    what_we_write_is_read(&question, answer.read);
    what_they_write_is_read(answer.own);
}
