//! Which rules apply and whether they are met; a model words a summary of what is missing.

use serde_json::{Value, json};

use super::{Check, data, finding, has, items};
use crate::model::text;

const EU_STATES: &str = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK";

fn is_met(item: &str, request: &Value) -> bool {
    let (applicant, document) = (&request["applicant"], &request["document"]);
    let said = |value: &Value| !text(value).trim().is_empty();
    if item == "identification_number" {
        return said(&applicant[item]) || said(&document["number"]);
    }
    let shown_by = &data()["shown_by"][item];
    if shown_by.is_null() {
        return said(&applicant[item]);
    }
    let zone_or_text = item == "proof_of_identity" && (!document["mrz"].is_null() || said(&document["text"]));
    zone_or_text || items(&request["documents_provided"]).any(|p| p == item || has(shown_by, text(p)))
}

pub(super) fn check(request: &Value) -> Check {
    let mut check = Check::new("compliance");
    let said = text(&request["jurisdiction"]).trim().to_uppercase();
    let code = if EU_STATES.split(' ').any(|s| s == said) { "EU".to_owned() } else { said };
    let risk = request["risk"].as_str().unwrap_or("standard").to_lowercase();
    let applies = |r: &&Value| {
        (r["jurisdiction"] == "*" || r["jurisdiction"] == code) && (r["risks"].is_null() || has(&r["risks"], &risk))
    };
    let rules: Vec<&Value> = items(&data()["rules"]).filter(applies).collect();
    let known = rules.iter().any(|r| r["jurisdiction"] == code);
    let mut required: Vec<Value> = Vec::new();
    for rule in &rules {
        for item in items(&rule["requires"]).map(text) {
            match required.iter_mut().find(|r| r["item"] == item) {
                Some(r) => r["rules"].as_array_mut().expect("an array").push(rule["id"].clone()),
                None => required.push(json!({ "item": item, "met": is_met(item, request), "rules": [rule["id"]] })),
            }
        }
    }
    let missing: Vec<&Value> = required.iter().filter(|r| r["met"] == false).collect();
    for (documents, what) in [(true, "document"), (false, "information")] {
        let is_document = |r: &&&Value| data()["shown_by"].get(text(&r["item"])).is_some() == documents;
        let names: Vec<&Value> = missing.iter().filter(is_document).map(|r| &r["item"]).collect();
        if !names.is_empty() {
            let detail = format!("mandatory {what} missing: {}", json!(names));
            check.found.push(finding(
                "gate",
                &format!("MISSING_{}", what.to_uppercase()),
                detail,
                json!({ "needed": names }),
            ));
        }
    }
    if !known {
        check.confidence = 0.70;
        check.found.push(finding("note", "JURISDICTION_UNKNOWN", format!("no rules are known for {code}"), json!({})));
    }
    let with_items = rules.iter().filter(|r| items(&r["requires"]).next().is_some());
    let excerpt = |r: &Value| text(&r["text"]).chars().take(240).collect::<String>();
    let citations: Vec<Value> = with_items
        .map(|r| json!({ "rule": r["id"], "title": r["title"], "source": r["source"], "version": r["version"], "excerpt": excerpt(r) }))
        .collect();
    if !missing.is_empty() {
        check.questions.push(("compliance_summary", json!({ "missing": missing, "rules": citations })));
    }
    check.output = json!({ "jurisdiction": code, "risk": risk, "rules_version": data()["rules_version"],
        "required": required, "citations": citations, "summary": null });
    check
}
