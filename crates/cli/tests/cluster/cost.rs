//! `cost` reads what agents wrote, and what others did.

use anabranch_kafka::OutRecord;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::Setup;

fn entry(id: &str, agent: &str, case: &str, day: u64) -> OutRecord {
    let value = json!({
        "id": id, "process": "p", "at_ms": 1_795_478_400_000_u64 + day * 86_400_000, "agent": agent,
        "correlation_id": case, "model": "gpt-4o-mini", "prompt_tokens": 1000, "completion_tokens": 100,
        "cost_micros": 210, "outcome": "answered", "something": "that a later version adds"
    });
    foreign(case, &value.to_string(), day)
}

fn foreign(key: &str, value: &str, day: u64) -> OutRecord {
    OutRecord {
        topic: "kyc.ledger".to_owned(),
        key: Some(Bytes::from(key.to_owned())),
        value: Some(Bytes::from(value.to_owned())),
        timestamp_ms: Some(1_795_478_400_000 + i64::try_from(day).unwrap() * 86_400_000),
        ..OutRecord::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_is_added_up_and_what_is_no_entry_is_said() {
    let setup = Setup::empty().await;
    let early = setup.run(&["cost"]).await;
    assert_eq!((early.code, early.out.as_str()), (1, ""), "{early:?}");
    assert!(early.err.contains("no topic of topology kyc is on this cluster"), "{early:?}");

    let setup = Setup::with_topics().await;
    let none = setup.run(&["cost", "-o", "json"]).await;
    assert_eq!(none.code, 0, "{none:?}");
    assert!(none.err.contains("no such model call is in the ledger"), "{none:?}");
    setup
        .emit(vec![
            entry("p-1", "identity", "a", 0),
            entry("p-1", "identity", "a", 0),
            entry("p-2", "document", "a", 1),
            entry("p-3", "document\u{1b}[2J", "b", 1),
            foreign("b", "no JSON", 1),
        ])
        .await;
    let all = setup.run(&["cost"]).await;
    assert_eq!(all.code, 0, "{all:?}");
    assert_eq!(all.out.lines().count(), 5, "a head, three rows, a total: {}", all.out);
    assert!(all.out.lines().last().unwrap().contains("0.000630"), "{}", all.out);
    assert!(!all.out.contains('\u{1b}'), "{}", all.out);
    assert!(all.err.contains("1 records of kyc.ledger are no entries"), "{}", all.err);

    let total = async |args: &[&str]| -> Value {
        let done = setup.run(&[&["cost", "-o", "json"], args].concat()).await;
        assert_eq!(done.code, 0, "{done:?}");
        serde_json::from_str::<Value>(&done.out).unwrap()["total"].clone()
    };
    assert_eq!(total(&["--case", "a"]).await["prompt_tokens"], 2000);
    assert_eq!(total(&["--agent", "identity"]).await["money"], "0.000210");
    assert_eq!(total(&["--day", "2026-11-25"]).await["calls"], 2);
    assert_eq!(total(&["--day", "2026-11-25", "--case", "a"]).await["calls"], 1);
    let wrong = setup.run(&["cost", "--day", "yesterday"]).await;
    assert_eq!(wrong.code, 64, "{wrong:?}");
    assert!(wrong.err.contains("write for example 2026-11-24"), "{wrong:?}");
}
