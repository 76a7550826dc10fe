//! Records and messages from anywhere: no panic, and memory in proportion. How to run it longer: `crates/fuzz`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod common;

use std::{fs, path::Path};

use anabranch_fuzz::Fuzz;
use anabranch_protocol::dead_letter::{self, Failure};
use anabranch_protocol::{
    AgentCard, CorrelationId, Envelope, FollowUp, Header, InformationProvided, ParkedNotice, Partial, Plan,
    ReviewAnswer, ReviewDecision, Task, Timestamp, TraceParent, Work,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A JSON value of one byte takes seventy and more, and lists grow by doubling.
const BYTES_PER_BYTE: u64 = 400;
const FLOOR_BYTES: u64 = 128 << 10;

/// The records in `golden/`, as files: a line for each header, an empty line, the value.
fn golden() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// What no runtime writes.
fn odd() -> Vec<Vec<u8>> {
    let mut odd: Vec<Vec<u8>> = [
        "content-type: application/cloudevents+json; charset=utf-8\n\n{\"specversion\":\"1.0\",\"id\":1,\"source\":[],\"type\":null,\"data\":{}}",
        "\n\n{\"specversion\":\"1.0\",\"id\":\"a\",\"source\":\"s\",\"type\":\"t\",\"data_base64\":\"/w==\",\"correlationid\":\"\\ud800\"}",
        "ce_id: 1\nce_id: 2\nce_id(null)\nce_time: 0000-00-00T00:00:00Z\nce_expirytime: +999999-01-01T00:00:00Z\n\n{}",
        "traceparent: 00-00000000000000000000000000000000-0000000000000000-00\nce_correlationid: \u{0}\u{7f}\n\nnull",
        "ce_specversion: 0.3\n__dlq.errors.topic: a\n\n1e999",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    odd.push([&b"content-type: application/cloudevents+json\n\n"[..], &[b'['; 5_000]].concat());
    odd.push([&b"\n\n{\"specversion\":"[..], &b"{\"a\":".repeat(2_000)].concat());
    odd
}

/// The other way round than `golden/` is written.
fn parts(input: &[u8]) -> (Vec<Header>, Option<Bytes>) {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, value) = match end {
        Some(at) => (&input[..at], Some(Bytes::copy_from_slice(&input[at + 2..]))),
        None => (input, None),
    };
    let header = |line: &[u8]| {
        let (name, value) = match line.windows(2).position(|pair| pair == b": ") {
            Some(at) => (&line[..at], Some(Bytes::copy_from_slice(&line[at + 2..]))),
            None => (line, None),
        };
        Header { name: anabranch_protocol::header::name(name), value }
    };
    (head.split(|byte| *byte == b'\n').map(header).collect(), value)
}

fn failure(correlation_id: &CorrelationId) -> Failure<'_> {
    Failure {
        topic: "t",
        partition: 0,
        offset: 1,
        group: "g",
        attempts: 1,
        class: "terminal",
        message: "no",
        causes: &[],
        agent: "a",
        agent_version: "1",
        correlation_id,
        first_failure: Timestamp::from_millis(0),
        last_failure: Timestamp::from_millis(1),
    }
}

#[test]
fn any_record_as_an_envelope() {
    let corpus = golden().into_iter().chain(odd());
    Fuzz::new("any record as an envelope").corpus(corpus).allocating(BYTES_PER_BYTE, FLOOR_BYTES).run(|input| {
        let (headers, value) = parts(input);
        let key = input.get(..input.len() % 7);
        let record = common::record(key, value.as_ref(), &headers);
        let Ok(read) = Envelope::decode(&record) else { return };
        assert!(!read.envelope.id.as_str().is_empty() && !read.envelope.correlation_id.as_str().is_empty());
        // Read again from the same place it is the same, and so it is when it was written by us.
        assert_eq!(Envelope::decode(&record).unwrap().envelope, read.envelope);
        let written = read.envelope.headers();
        let again = Envelope::decode(&common::record(None, Some(&read.data), &written)).unwrap();
        assert_eq!(again.envelope, read.envelope);
        // The dead letter of what cannot be used keeps every header.
        let letter = dead_letter::headers(&headers, &failure(&read.envelope.correlation_id));
        assert_eq!(dead_letter::read(&letter).unwrap().original, headers);
        // Whatever claims to be a letter is taken apart or is none; what it was made of begins it.
        assert!(dead_letter::read(&headers).is_none_or(|letter| headers.starts_with(letter.original)));
        read.json::<Value>().ok();
    });
}

/// Reads a message; what can be read is written and read to the same text.
fn there_and_back<T: DeserializeOwned + Serialize>(json: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(json) else { return };
    let text = serde_json::to_string(&message).unwrap();
    let again = serde_json::from_str::<T>(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
}

#[test]
fn any_message() {
    let values = golden().into_iter().chain(odd()).filter_map(|file| parts(&file).1).map(Vec::from);
    Fuzz::new("any message").corpus(values).allocating(BYTES_PER_BYTE, FLOOR_BYTES).run(|json| {
        there_and_back::<Plan>(json);
        there_and_back::<Task>(json);
        there_and_back::<Partial>(json);
        there_and_back::<FollowUp>(json);
        there_and_back::<Work>(json);
        there_and_back::<AgentCard>(json);
        there_and_back::<ReviewDecision>(json);
        there_and_back::<InformationProvided>(json);
        there_and_back::<ReviewAnswer>(json);
        there_and_back::<ParkedNotice>(json);
    });
}

#[test]
fn any_trace() {
    let good = ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "01-ff-ff-00-more"];
    Fuzz::new("any trace").corpus(good).allocating(64, 4096).run(|input| {
        let text = String::from_utf8_lossy(input);
        if let Some(trace) = TraceParent::parse(&text) {
            assert_eq!(TraceParent::parse(&trace.to_string()), Some(trace));
        }
    });
}
