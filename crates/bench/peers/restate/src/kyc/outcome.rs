//! The composer: gates first, then bands; a follow-up round asks those that are not sure. And what the customer is told.

use std::collections::BTreeSet;

use chrono::Utc;
use serde_json::{Map, Value, json};

use super::{data, has, items, policy};
use crate::model::text;

/// What came of the answers.
pub enum Verdict {
    /// An outcome.
    Outcome(Value),
    /// Agents to ask again, with the question.
    FollowUp(Vec<(String, String)>),
}

pub fn compose(case: &str, parts: &Map<String, Value>, round: u64, opened_at: i64) -> Verdict {
    let mut found = Vec::new();
    for (agent, part) in parts {
        for f in items(&part["output"]["findings"]) {
            let mut f = f.clone();
            f["agent"] = json!(agent);
            if has(&data()["policy"]["hard_gates"], text(&f["code"])) {
                f["effect"] = json!("gate");
            }
            found.push(f);
        }
    }
    let codes: BTreeSet<&str> = found.iter().map(|f| text(&f["code"])).collect();
    let mut gates: BTreeSet<&str> = found.iter().filter(|f| f["effect"] == "gate").map(|f| text(&f["code"])).collect();
    let confidence = parts.values().filter_map(|p| p["confidence"].as_f64()).fold(1.0, f64::min);
    let approved = gates.is_empty() && confidence > policy("publish_above");
    let may_ask = gates.is_empty() && confidence >= policy("follow_up_above");
    if !approved && may_ask && (round as f64) < policy("max_follow_up_rounds") {
        return Verdict::FollowUp(questions(parts));
    }
    let reason = match (approved, gates.is_empty()) {
        (true, _) => "all checks passed".to_owned(),
        (false, true) => format!("confidence {confidence:.2} is not enough"),
        (false, false) => gates.iter().copied().collect::<Vec<_>>().join(", "),
    };
    if !approved && gates.is_empty() {
        gates.insert("CONFIDENCE_TOO_LOW");
    }
    let needed: BTreeSet<&str> = found.iter().flat_map(|f| items(&f["evidence"]["needed"])).map(text).collect();
    let versions: Map<String, Value> = parts.iter().map(|(a, p)| (a.clone(), p["version"].clone())).collect();
    Verdict::Outcome(
        json!({ "correlation_id": case, "state": if approved { "approved" } else { "human" }, "reason": reason,
        "confidence": confidence, "codes": codes, "gates": gates, "needed_from_applicant": needed, "missing": [],
        "findings": found, "parts": parts, "rounds": round, "versions": { "composer": "0.1.0", "agents": versions },
        "opened_at": opened_at, "decided_at": Utc::now().timestamp_millis() }),
    )
}

fn questions(parts: &Map<String, Value>) -> Vec<(String, String)> {
    let unsure = parts.iter().filter(|(_, p)| p["confidence"].as_f64().unwrap_or(0.0) <= policy("publish_above"));
    let ask = unsure.map(|(agent, p)| {
        let doubts = items(&p["output"]["findings"]).map(|f| format!("{}: {}", text(&f["code"]), text(&f["detail"])));
        let doubts = doubts.collect::<Vec<_>>().join("; ");
        let sure = p["confidence"].as_f64().unwrap_or(0.0);
        (agent.clone(), format!("You were {sure:.2} sure, which is not enough to decide. Look again at {doubts}"))
    });
    ask.collect()
}

/// A fraud alert, if the answer holds one.
pub fn alert(case: &str, part: &Value) -> Option<Value> {
    let alerts = &data()["policy"]["fraud_alerts"];
    let is_alert = |f: &&Value| f["effect"] == "gate" && has(alerts, text(&f["code"]));
    let codes: Vec<&Value> = items(&part["output"]["findings"]).filter(is_alert).map(|f| &f["code"]).collect();
    (!codes.is_empty()).then(|| {
        json!({ "correlation_id": case, "agent": part["agent"], "codes": codes,
            "findings": part["output"]["findings"], "raised_at": Utc::now().timestamp_millis() })
    })
}

/// What the model is told: where the case stands, and nothing else.
pub fn customer_asks(outcome: &Value) -> Value {
    let approved = outcome["state"] == "approved";
    let to_send = |item: &Value| match text(item) {
        "valid_identity_document" | "proof_of_identity" => Some("a valid passport or identity card"),
        "readable_document" => Some("a clear picture of your identity document"),
        "proof_of_address" => Some("a document that shows your address, such as a recent utility bill"),
        "source_of_funds" => Some("a document that shows where your money comes from, such as a payslip"),
        _ => None,
    };
    let please_send: Vec<&str> =
        items(&outcome["needed_from_applicant"]).filter(|_| !approved).filter_map(to_send).collect();
    json!({ "please_send": please_send, "situation": if approved { "approved" } else { "in_review" } })
}

pub fn letter(case: &str, request: &Value, asked: &Value, draft: &Value) -> Value {
    let name = request["applicant"]["name"].as_str().unwrap_or("applicant");
    let body = draft["body"].as_str().unwrap_or("Thank you for your application. We will write to you again.");
    json!({ "correlation_id": case, "to": name, "email": request["applicant"]["email"],
        "situation": asked["situation"], "please_send": asked["please_send"],
        "subject": draft["subject"].as_str().unwrap_or("Your application"),
        "worded_by": if draft.is_null() { "template" } else { "model" },
        "body": format!("Dear {name},\n\n{body}\n\nYour onboarding team") })
}
