//! Jaro-Winkler over the whole and over the parts, Soundex widens, a second identifier decides.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use chrono::{Datelike, NaiveDate};
use rphonetic::{Encoder, Soundex};
use serde_json::{Value, json};
use strsim::jaro_winkler;

use super::{Check, data, date, finding, has, items, policy, rounded, squeeze, words};
use crate::model::text;

static SOUNDEX: LazyLock<Soundex> = LazyLock::new(Soundex::default);

fn score(name: &[String], listed: &[String]) -> (f64, bool, bool) {
    let full = jaro_winkler(&name.join(" "), &listed.join(" "));
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    for (i, a) in name.iter().enumerate() {
        pairs.extend(listed.iter().enumerate().map(|(j, b)| (jaro_winkler(a, b), i, j)));
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut taken, mut used, mut sum) = (BTreeSet::new(), BTreeSet::new(), 0.0);
    for (value, i, j) in pairs {
        if !taken.contains(&i) && !used.contains(&j) {
            taken.insert(i);
            used.insert(j);
            sum += value;
        }
    }
    let parts = sum / name.len() as f64;
    let sounds: BTreeSet<String> = listed.iter().map(|w| SOUNDEX.encode(w)).collect();
    let alike = name.len() > 1 && name.iter().all(|w| sounds.contains(&SOUNDEX.encode(w)));
    (full.max(parts), parts > full, alike)
}

fn judge(entry: &Value, score: f64, born: Option<NaiveDate>, number: &str) -> (&'static str, String) {
    if !number.is_empty() && has(&entry["numbers"], &squeeze(number)) {
        return ("confirmed", "the document number is the listed person's".to_owned());
    }
    let Some(born) = born.filter(|_| items(&entry["births"]).next().is_some()) else {
        return ("possible", "a date of birth is not known".to_owned());
    };
    if items(&entry["births"]).any(|b| b["day"] == born.to_string()) {
        let verdict = if score >= policy("confirm_threshold") { "confirmed" } else { "possible" };
        return (verdict, format!("both were born on {born}"));
    }
    let slack = policy("birth_year_tolerance") as i64;
    for birth in items(&entry["births"]) {
        let day = date(&birth["day"]).map(|d| i64::from(d.year()));
        let (from, to) = (day.or(birth["from"].as_i64()), day.or(birth["to"].as_i64()));
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        if (from - slack..=to + slack).contains(&i64::from(born.year())) {
            return ("possible", format!("born on {born}; the listed person {from} to {to}, which may be the same"));
        }
    }
    ("cleared", format!("born on {born}; the listed person {}", entry["births"][0]))
}

pub(super) fn check(request: &Value, task: &Value) -> Check {
    let mut check = Check::new("identity");
    let applicant = &request["applicant"];
    let (name, born) = (words(text(&applicant["name"])), date(&applicant["birth_date"]));
    if name.is_empty() {
        check.found.push(finding("gate", "NAME_MISSING", "there is no name to screen", json!({})));
        return check;
    }
    let mut matches = Vec::new();
    for entry in items(&data()["listed"]) {
        let scored = items(&entry["names"]).map(|n| (score(&name, &words(text(n))), n));
        let Some(((value, by_parts, sounds), listed)) = scored.max_by(|a, b| a.0.0.total_cmp(&b.0.0)) else { continue };
        if value >= policy("match_threshold") || (sounds && value >= policy("sounds_alike_threshold")) {
            let (verdict, reason) = judge(entry, value, born, text(&request["document"]["number"]));
            matches.push(json!({ "list": entry["list"], "entry": entry["entry"], "listed_name": listed,
                "score": rounded(value), "by": if by_parts { "parts" } else { "full" }, "sounds_alike": sounds,
                "verdict": verdict, "reason": reason }));
        }
    }
    let score = |m: &Value| m["score"].as_f64().unwrap_or_default();
    let serious = |m: &Value| ["confirmed", "possible", "cleared"].iter().position(|v| m["verdict"] == *v);
    matches.sort_by(|a, b| serious(a).cmp(&serious(b)).then(score(b).total_cmp(&score(a))));
    for found in &matches {
        let (effect, is) = match text(&found["verdict"]) {
            "cleared" => ("note", "is not"),
            "possible" => ("gate", "may be"),
            _ => ("gate", "is"),
        };
        let code = format!("SANCTIONS_{}", text(&found["verdict"]).to_uppercase());
        let detail = format!("the applicant {is} {}: {}", text(&found["listed_name"]), text(&found["reason"]));
        check.found.push(finding(effect, &code, detail, found.clone()));
    }
    check.found.push(finding("note", "REGISTRY_SKIPPED", "no document registry is configured", json!({})));
    if !matches.is_empty() {
        let known = json!({ "name": applicant["name"], "birth_date": applicant["birth_date"],
            "nationality": applicant["nationality"], "matches": matches, "round": task["round"], "question": task["question"] });
        check.questions.push(("match_assessment", known));
    }
    check.output = json!({ "lists": ["ofac_sdn", "un"], "matches": matches, "assessment": null });
    check
}
