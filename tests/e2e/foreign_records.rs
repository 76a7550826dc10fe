//! Records from outside, as other producers write them: none of them may stop a partition.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::process::{Command, Stdio};
use std::time::Duration;

use anabranch_e2e::{App, demo_cases, kyc, workspace};
use anabranch_kafka::{Header, OutRecord, Record};
use anabranch_protocol::CorrelationId;
use anabranch_testkit::cluster::{foreign, python};
use bytes::Bytes;

const WITHIN: Duration = Duration::from_secs(60);

/// The clean case, from an address and a device of its own: many from one would be a fraud alert.
fn clean_request(number: i32) -> Vec<u8> {
    let cases = demo_cases();
    let mut clean = cases.iter().find(|c| c.id == "S1").and_then(|c| c.request.clone()).unwrap();
    clean["source"] =
        serde_json::json!({ "ip": format!("198.51.100.{number}"), "device_id": format!("device-{number}") });
    serde_json::to_vec(&clean).unwrap()
}

fn is_of(record: &Record, case: &str) -> bool {
    record.key.as_deref() == Some(case.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_others_write_stops_a_partition() {
    let app = App::start(kyc()).await.unwrap();
    let topic = app.requests().to_owned();
    let mut decisions = app.reader(&[app.outbound("decisions")]).await.unwrap();
    let at = |partition: i32, record: OutRecord| OutRecord { partition: Some(partition), ..record };

    // In every partition: what must not stop it, and behind it one that must be decided.
    let partitions = app.client.partition_count(&topic).await.unwrap();
    let not_json = Bytes::from_static(b"{\"applicant\": \xff\x00 not json");
    let odd_headers = vec![
        Header { name: "x-null".into(), value: None },
        Header { name: "x-twice".into(), value: Some(Bytes::from_static(b"1")) },
        Header { name: "x-twice".into(), value: Some(Bytes::from_static(b"\xfe\xff")) },
    ];
    let mut records = Vec::new();
    for partition in 0..partitions {
        let key = format!("behind-{partition}");
        records.push(at(partition, foreign(&topic, Some(b"gone"), None)));
        records.push(at(partition, foreign(&topic, None, None)));
        records.push(at(
            partition,
            OutRecord { headers: odd_headers.clone(), ..foreign(&topic, Some(b"bad"), Some(&not_json)) },
        ));
        let non_utf8 = [0xff, 0xfe, u8::try_from(partition).unwrap()];
        let odd = foreign(&topic, Some(&non_utf8), Some(&clean_request(partition)));
        records.push(at(partition, OutRecord { headers: odd_headers.clone(), ..odd }));
        records.push(at(partition, foreign(&topic, Some(key.as_bytes()), Some(&clean_request(100 + partition)))));
    }
    app.send(records).await.unwrap();

    let behind = |records: &[Record]| (0..partitions).all(|p| records.iter().any(|r| is_of(r, &format!("behind-{p}"))));
    decisions.until("the requests behind the odd ones", WITHIN, behind).await.unwrap();
    let minted: Vec<String> = (0..partitions)
        .map(|p| CorrelationId::mint(Some(&[0xff, 0xfe, u8::try_from(p).unwrap()]), &topic, p, 0).to_string())
        .collect();
    let odd = |records: &[Record]| minted.iter().all(|case| records.iter().any(|r| is_of(r, case)));
    decisions.until("the requests with a key that is not UTF-8", WITHIN, odd).await.unwrap();

    // The malformed ones are dead letters, byte for byte, and say why.
    let mut dead = app.reader(&[app.topology.dlq_topic(&topic)]).await.unwrap();
    let wanted = usize::try_from(partitions).unwrap() * 3;
    let dead = dead.until("the dead letters", WITHIN, |r| r.len() >= wanted).await.unwrap();
    assert_eq!(dead.len(), wanted, "two tombstones and one that is not JSON in each partition");
    let malformed: Vec<&Record> = dead.iter().filter(|r| r.value.is_some()).collect();
    assert_eq!(malformed.len(), usize::try_from(partitions).unwrap());
    for letter in malformed {
        assert_eq!(letter.value.as_ref(), Some(&not_json));
        assert_eq!(letter.key.as_deref(), Some(&b"bad"[..]));
        assert_eq!(letter.headers[..3], odd_headers[..], "the original headers, in order");
        let reason = letter.headers.iter().find(|h| h.name == "__dlq.errors.message").and_then(|h| h.value.clone());
        assert!(!reason.unwrap_or_default().is_empty(), "{letter:?}");
    }
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_put_by_kcat_without_any_header_is_decided() {
    if !Command::new("kcat").arg("-V").output().is_ok_and(|o| o.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "in CI this must not be skipped");
        println!("skipped: no kcat on the PATH");
        return;
    }
    let app = App::start(kyc()).await.unwrap();
    let mut decisions = app.reader(&[app.outbound("decisions")]).await.unwrap();
    let mut child = Command::new("kcat")
        .args(["-P", "-b", app.cluster.bootstrap(), "-t", app.requests(), "-k", "from-kcat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), &clean_request(1)).unwrap();
    assert!(child.wait().unwrap().success());
    let decided = |records: &[Record]| records.iter().any(|r| is_of(r, "from-kcat"));
    decisions.until("the decision", WITHIN, decided).await.unwrap();
    let record = decisions.records().iter().find(|r| is_of(r, "from-kcat")).unwrap();
    let decision: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
    println!("{decision}");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_an_aborted_foreign_transaction_is_not_a_request() {
    let folder = workspace().join("tests/e2e");
    let Some(python) = python(&workspace(), &folder.join("requirements.txt")) else { return };
    let app = App::start(kyc()).await.unwrap();
    let output = Command::new(python)
        .arg(folder.join("aborted.py"))
        .args([app.cluster.bootstrap(), app.requests(), "aborted", "committed"])
        .arg(String::from_utf8(clean_request(1)).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut decisions = app.reader(&[app.outbound("decisions")]).await.unwrap();
    let committed = |records: &[Record]| records.iter().any(|r| is_of(r, "committed"));
    decisions.until("the decision of the committed one", WITHIN, committed).await.unwrap();
    let mut plans = app.reader(&[app.topology.results_topic()]).await.unwrap();
    plans.settle(Duration::from_secs(2)).await.unwrap();
    assert!(!plans.records().iter().any(|r| is_of(r, "aborted")), "the aborted one was planned");
    app.stop().await.unwrap();
}
