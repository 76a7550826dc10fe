use anabranch_testkit::harness::AgentHarness;

use super::*;

fn now() -> Timestamp {
    Timestamp::parse("2026-11-24T12:00:00Z").unwrap()
}

fn harness() -> AgentHarness<FraudAgent> {
    AgentHarness::new(json!({ "settle": "0s", "window": "1h" })).unwrap().clock(now)
}

fn from(ip: &str, device: &str, number: &str) -> Value {
    json!({
        "applicant": { "name": format!("Applicant {number}") },
        "document": { "number": number },
        "source": { "ip": ip, "device_id": device }
    })
}

async fn judge(harness: &AgentHarness<FraudAgent>, case: &str, request: Value) -> (FraudReport, f64, String) {
    let (report, confidence, disposition) = harness.task(request).case(case).run().await.unwrap().into_parts();
    (report, confidence.unwrap(), disposition.unwrap())
}

fn codes(report: &FraudReport) -> Vec<(&str, Effect)> {
    report.findings.iter().map(|f| (f.code.as_str(), f.effect)).collect()
}

#[tokio::test]
async fn a_case_of_its_own_is_clear() {
    let harness = harness();
    harness.observe("S1", now(), from("203.0.113.10", "d-1", "UT0000001"));
    let (report, confidence, disposition) = judge(&harness, "S1", from("203.0.113.10", "d-1", "UT0000001")).await;
    assert_eq!(codes(&report), []);
    assert_eq!((report.score, disposition.as_str()), (0.0, "clear"));
    assert!(confidence > 0.95);
}

#[tokio::test]
async fn s6_three_from_one_address_are_an_alert_for_all_three() {
    let harness = harness();
    let cases = ["S6-1", "S6-2", "S6-3"];
    let request = |i: usize| from("198.51.100.66", &format!("d-{i}"), &format!("UT000001{i}"));
    for (i, case) in cases.iter().enumerate() {
        harness.observe(case, now(), request(i));
    }
    for (i, case) in cases.iter().enumerate() {
        let (report, confidence, disposition) = judge(&harness, case, request(i)).await;
        assert_eq!(codes(&report), [("SHARED_IP", Effect::Gate)], "{case}");
        assert_eq!(disposition, "alert");
        assert!(confidence > 0.95, "sure of the alert");
        let named = report.findings[0].evidence["cases"].as_array().unwrap();
        assert_eq!(named.len(), 2);
        assert!(!named.contains(&json!(case)));
    }
}

#[tokio::test]
async fn two_from_one_address_are_on_record_only() {
    let harness = harness();
    for (case, number) in [("a", "1"), ("b", "2")] {
        harness.observe(case, now(), from("198.51.100.1", case, number));
    }
    let (report, confidence, _) = judge(&harness, "b", from("198.51.100.1", "b", "2")).await;
    assert_eq!(codes(&report), [("IP_SEEN_BEFORE", Effect::Note)]);
    assert!(confidence > 0.95, "{confidence}");
}

#[tokio::test]
async fn a_case_delivered_twice_shares_nothing_with_itself() {
    let harness = harness();
    for _ in 0..5 {
        harness.observe("a", now(), from("198.51.100.1", "d", "1"));
    }
    let (report, ..) = judge(&harness, "a", from("198.51.100.1", "d", "1")).await;
    assert_eq!(codes(&report), []);
}

#[tokio::test]
async fn a_shared_device_is_an_alert_whatever_the_address() {
    let harness = harness();
    for i in 0..3 {
        harness.observe(&format!("c{i}"), now(), from(&format!("198.51.100.{i}"), "one-device", &i.to_string()));
    }
    let (report, ..) = judge(&harness, "c0", from("198.51.100.0", "one-device", "0")).await;
    assert_eq!(codes(&report), [("SHARED_DEVICE", Effect::Gate)]);
}

#[tokio::test]
async fn a_tampered_copy_does_not_hold_up_the_original() {
    let harness = harness();
    let born = |date: &str| {
        json!({
            "applicant": { "name": "Ava Marie Specimen", "birth_date": date }, "document": { "number": "UT0000001" }
        })
    };
    harness.observe("S1", now(), born("1985-02-14"));
    harness.observe("S4", now(), born("1985-02-15"));
    let (report, confidence, _) = judge(&harness, "S1", born("1985-02-14")).await;
    assert_eq!(codes(&report), [("DOCUMENT_REUSED", Effect::Note)]);
    assert!(confidence > 0.95, "{confidence}");
}

#[tokio::test]
async fn a_past_case_of_the_same_person_is_found() {
    let harness = harness();
    let named = |name: &str, number: &str| {
        json!({
            "applicant": { "name": name, "birth_date": "1985-02-14" }, "document": { "number": number }
        })
    };
    harness.observe("a", now(), named("Specimen, Ava Marie", "UT1"));
    harness.observe("c", now(), named("Leo Other", "UT1"));
    let (report, ..) = judge(&harness, "b", named("Ava Marie Specimen", "UT2")).await;
    assert_eq!(codes(&report), [("LIKE_PAST_CASE", Effect::Note)]);
    assert_eq!(report.signals[0].cases, ["a"]);
}

#[tokio::test]
async fn what_does_not_fit_is_said() {
    let harness = harness();
    let request =
        json!({ "applicant": { "name": "A", "birth_date": "2020-01-01" }, "source": { "ip": "not an address" } });
    let (report, confidence, _) = judge(&harness, "a", request).await;
    assert_eq!(codes(&report), [("AGE_IMPLAUSIBLE", Effect::Note), ("SOURCE_UNREADABLE", Effect::Note)]);
    assert!(confidence < 0.75);
}

#[tokio::test]
async fn hostile_and_empty_input_is_harmless() {
    let harness = harness();
    let long = "é".repeat(100_000);
    for request in [
        json!({}),
        json!({ "source": { "ip": long, "device_id": long }, "applicant": { "name": long } }),
        json!({ "source": { "ip": "::ffff:198.51.100.1" } }),
    ] {
        harness.observe("x", now(), request.clone());
        judge(&harness, "x", request).await;
    }
}

#[test]
fn networks_are_what_one_subscriber_has() {
    assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2:ffff::1"));
    assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    assert_eq!(network("::ffff:198.51.100.1"), "198.51.100.1");
}

#[tokio::test(start_paused = true)]
async fn a_case_settles_before_it_is_judged() {
    let harness = AgentHarness::<FraudAgent>::new(json!({ "settle": "2s" })).unwrap().clock(now);
    let request = |i: u8| from("198.51.100.66", &i.to_string(), &i.to_string());
    harness.observe("first", now(), request(1));
    let started = tokio::time::Instant::now();
    let others = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        harness.observe("second", now(), request(2));
        harness.observe("third", now(), request(3));
    };
    let (outcome, ()) = tokio::join!(judge(&harness, "first", request(1)), others);
    assert_eq!(codes(&outcome.0), [("SHARED_IP", Effect::Gate)]);
    assert_eq!(started.elapsed().as_secs(), 2);
    // One that was seen long ago does not wait again.
    let earlier = Timestamp::from_millis(now().as_millis() - 10_000);
    harness.observe("old", earlier, request(4));
    let started = tokio::time::Instant::now();
    judge(&harness, "old", request(4)).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[test]
fn configs_that_make_no_sense_are_refused() {
    for config in
        [json!({ "ip_threshold": 1 }), json!({ "max_cases": 0 }), json!({ "settle": "-1s" }), json!({ "windw": "1h" })]
    {
        assert!(AgentHarness::<FraudAgent>::new(config.clone()).is_err(), "{config}");
    }
}
