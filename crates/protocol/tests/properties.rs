//! Properties: what is written is read, and nothing from outside panics or is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;

use anabranch_protocol::dead_letter::{self, Failure};
use anabranch_protocol::partition::partition_for_key;
use anabranch_protocol::{
    Completion, CorrelationId, Envelope, EventId, FollowUp, FollowUpKind, Header, Partial, PartialStatus, Plan, PlanId,
    Step, Task, TaskId, Timestamp, TraceParent, Work, header,
};
use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

/// Text of any characters, not empty: an empty attribute is an absent one.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,20}", "(?s:.{1,12})"]
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn trace() -> impl Strategy<Value = TraceParent> {
    (1..=u128::MAX, 1..=u64::MAX, any::<u8>()).prop_map(|(trace, span, flags)| {
        TraceParent::parse(&format!("00-{trace:032x}-{span:016x}-{flags:02x}")).expect("well formed")
    })
}

prop_compose! {
    fn envelope()(
        (id, source, kind) in (text(), text(), text()),
        (subject, causation, trace_state) in (option::of(text()), option::of(text()), option::of(text())),
        (time, deadline) in (timestamp(), option::of(timestamp())),
        correlation_id in "\\PC{1,40}".prop_filter("plain", |text| CorrelationId::is_plain(text)),
        (trace, origin_trace) in (trace(), trace()),
    ) -> Envelope {
        Envelope {
            id: EventId::new(id), source, kind, subject, time,
            correlation_id: CorrelationId::new(correlation_id),
            causation_id: causation.map(EventId::new),
            deadline, trace, trace_state, origin_trace,
        }
    }
}

/// JSON of some depth, with numbers of all kinds.
fn json() -> impl Strategy<Value = Value> {
    let number = any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::from);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        number,
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(text(), inner, 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn completion() -> impl Strategy<Value = Completion> {
    (json(), option::of(0.0..=1.0), option::of(text())).prop_map(|(output, confidence, disposition)| Completion {
        output,
        confidence,
        disposition,
    })
}

prop_compose! {
    fn task()(
        (task_id, plan_id, agent) in (text(), text(), text()),
        (round, question, request) in (any::<u32>(), option::of(text()), json()),
        parts in btree_map(text(), completion(), 0..3),
        // `null` and nothing are the same outcome.
        outcome in option::of(json().prop_filter("not null", |value| !value.is_null())),
    ) -> Task {
        let (task_id, plan_id) = (TaskId::new(task_id), PlanId::new(plan_id));
        Task { task_id, plan_id, agent, round, question, request, parts, outcome, case: None }
    }
}

prop_compose! {
    fn plan()(
        (plan_id, request) in (text(), json()),
        steps in vec((text(), any::<bool>(), vec(text(), 0..3), option::of(text())), 0..4),
    ) -> Plan {
        let step = |(agent, required, after, version)| Step { agent, required, after, sees: None, version };
        Plan { plan_id: PlanId::new(plan_id), request, steps: steps.into_iter().map(step).collect() }
    }
}

prop_compose! {
    fn partial()(
        (task_id, plan_id, agent, agent_version) in (text(), text(), text(), text()),
        round in any::<u32>(),
        status in prop_oneof![
            completion().prop_map(PartialStatus::Completed),
            text().prop_map(|reason| PartialStatus::Failed { reason }),
            Just(PartialStatus::Expired),
        ],
        (started_at, finished_at, attempts) in (timestamp(), timestamp(), any::<u32>()),
    ) -> Partial {
        let (task_id, plan_id) = (TaskId::new(task_id), PlanId::new(plan_id));
        let work = Work { started_at, finished_at, attempts };
        Partial { task_id, plan_id, agent, agent_version, round, status, work }
    }
}

fn follow_up() -> impl Strategy<Value = FollowUp> {
    let kind = prop_oneof![
        Just(FollowUpKind::StepReady),
        Just(FollowUpKind::Round),
        Just(FollowUpKind::Outcome),
        Just(FollowUpKind::Replan),
    ];
    (text(), kind, vec(task(), 0..3)).prop_map(|(plan_id, kind, tasks)| FollowUp {
        plan_id: PlanId::new(plan_id),
        kind,
        tasks,
    })
}

/// Headers as anybody may write them: null, repeated, not UTF-8, ours with nonsense in them.
fn hostile_headers() -> impl Strategy<Value = Vec<Header>> {
    let known = [
        header::SPEC_VERSION,
        header::ID,
        header::SOURCE,
        header::TYPE,
        header::TIME,
        header::SUBJECT,
        header::CONTENT_TYPE,
        header::CORRELATION_ID,
        header::CAUSATION_ID,
        header::EXPIRY_TIME,
        header::TRACE_PARENT,
        header::TRACE_STATE,
        header::ORIGIN_TRACE_PARENT,
    ];
    let name = prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), text()];
    let content_types = vec!["application/json", "application/cloudevents+json", "2030-01-01T00:00:00Z", ""];
    let value = prop_oneof![
        vec(any::<u8>(), 0..20),
        text().prop_map(String::into_bytes),
        prop::sample::select(content_types).prop_map(|text| text.as_bytes().to_vec()),
    ];
    let header =
        (name, option::of(value)).prop_map(|(name, value)| Header { name: name.into(), value: value.map(Bytes::from) });
    vec(header, 0..12)
}

fn hostile_value() -> impl Strategy<Value = Vec<u8>> {
    let members = btree_map(
        prop::sample::select(vec!["specversion", "id", "source", "type", "time", "data", "data_base64", "expirytime"]),
        json(),
        0..8,
    );
    prop_oneof![
        vec(any::<u8>(), 0..64),
        json().prop_map(|value| value.to_string().into_bytes()),
        members.prop_map(|members: BTreeMap<&str, Value>| serde_json::to_vec(&members).expect("JSON")),
    ]
}

proptest! {
    #[test]
    fn an_envelope_is_read_as_it_was_written(envelope in envelope(), data in json()) {
        let data = Bytes::from(data.to_string());
        let headers = envelope.headers();
        let read = Envelope::decode(&common::record(None, Some(&data), &headers)).unwrap();
        prop_assert_eq!(&read.envelope, &envelope);
        prop_assert_eq!(&read.data, &data);
        prop_assert!(headers.is_sorted_by(|a, b| a.name < b.name), "sorted, and no name twice");
    }

    #[test]
    fn structured_mode_is_read_as_it_was_written(
        envelope in envelope(),
        data in prop_oneof![
            json().prop_filter("data", |value| !value.is_null()).prop_map(|value| value.to_string().into_bytes()),
            vec(any::<u8>(), 0..64),
        ],
    ) {
        prop_assume!(data.trim_ascii() != b"null");
        let (headers, value) = envelope.structured(&data).unwrap();
        let read = Envelope::decode(&common::record(None, Some(&value), &headers)).unwrap();
        prop_assert_eq!(&read.envelope, &envelope);
        // White space around JSON is not data.
        let is_json = serde_json::from_slice::<&serde_json::value::RawValue>(&data).is_ok();
        let wanted = if is_json { data.trim_ascii() } else { &data };
        prop_assert_eq!(&read.data[..], wanted);
    }

    #[test]
    fn messages_are_read_as_they_were_written(
        (plan, task, partial, follow_up) in (plan(), task(), partial(), follow_up())
    ) {
        prop_assert_eq!(&serde_json::from_slice::<Plan>(&serde_json::to_vec(&plan).unwrap()).unwrap(), &plan);
        prop_assert_eq!(&serde_json::from_slice::<Task>(&serde_json::to_vec(&task).unwrap()).unwrap(), &task);
        prop_assert_eq!(&serde_json::from_slice::<Partial>(&serde_json::to_vec(&partial).unwrap()).unwrap(), &partial);
        let text = serde_json::to_vec(&follow_up).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<FollowUp>(&text).unwrap(), &follow_up);
    }

    #[test]
    fn nothing_from_outside_panics_and_a_redelivery_reads_the_same(
        headers in hostile_headers(),
        value in option::of(hostile_value()),
        key in option::of(vec(any::<u8>(), 0..300)),
    ) {
        let value = value.map(Bytes::from);
        let record = common::record(key.as_deref(), value.as_ref(), &headers);
        match (Envelope::decode(&record), Envelope::decode(&record)) {
            (Ok(first), Ok(again)) => {
                prop_assert!(CorrelationId::is_plain(first.envelope.correlation_id.as_str()));
                prop_assert!(!first.envelope.id.as_str().is_empty());
                prop_assert_eq!(first.envelope, again.envelope);
            }
            (Err(first), Err(again)) => prop_assert_eq!(first, again),
            (first, again) => prop_assert!(false, "{first:?} and {again:?}"),
        }
    }

    #[test]
    fn a_dead_letter_keeps_what_it_was(headers in hostile_headers(), message in ".{0,40}", repeat in 1usize..2000) {
        let message = message.repeat(repeat);
        let correlation_id = CorrelationId::new("c");
        let failure = Failure {
            topic: "t", partition: 0, offset: i64::MAX, group: "g", attempts: 1, class: "retryable",
            message: &message, causes: &[], agent: "a", agent_version: "1", correlation_id: &correlation_id,
            first_failure: Timestamp::from_millis(0), last_failure: Timestamp::from_millis(1),
        };
        let letter = dead_letter::headers(&headers, &failure);
        prop_assert_eq!(dead_letter::read(&letter).map(|letter| letter.original), Some(&headers[..]));
        let redriven = dead_letter::redriven(&headers, 7);
        prop_assert_eq!(dead_letter::redrives(&redriven), 7);
        let said = header::last(&letter, dead_letter::MESSAGE).unwrap();
        prop_assert!(message.starts_with(said) && said.len() <= dead_letter::MAX_MESSAGE_BYTES);
        prop_assert!(said.len() == message.len() || said.len() + 4 > dead_letter::MAX_MESSAGE_BYTES);
    }

    #[test]
    fn times_and_traces_are_read_as_they_were_written(time in timestamp(), trace in trace(), noise in ".{0,60}") {
        prop_assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        prop_assert_eq!(TraceParent::parse(&trace.to_string()), Some(trace));
        if let Some(read) = TraceParent::parse(&noise) {
            prop_assert_eq!(TraceParent::parse(&read.to_string()), Some(read));
        }
    }

    #[test]
    fn a_key_goes_to_one_partition_of_those_there_are(key in vec(any::<u8>(), 0..64), partitions in 1..=i32::MAX) {
        let partition = partition_for_key(&key, partitions);
        prop_assert!((0..partitions).contains(&partition));
        prop_assert_eq!(partition, partition_for_key(&key, partitions));
    }

    #[test]
    fn ids_derive_from_all_their_parts(cause in text(), agent in text(), kind in text(), index in any::<u32>()) {
        let id = |cause: &str, agent: &str, kind: &str, index| EventId::derive(&EventId::new(cause), agent, kind, index);
        let derived = id(&cause, &agent, &kind, index);
        prop_assert_eq!(&derived, &id(&cause, &agent, &kind, index));
        prop_assert_ne!(&derived, &id(&cause, &agent, &kind, index.wrapping_add(1)));
        prop_assert_ne!(&derived, &id(&cause, &format!("{agent}x"), &kind, index));
        prop_assert_ne!(&derived, &id(&format!("{cause}x"), &agent, &kind, index));
    }
}
