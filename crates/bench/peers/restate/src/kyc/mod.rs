//! The checks of the KYC agents: what common/kyc.py says, in Rust. It names what is left out. A check is in two halves
//! around the model, so that only the question is a durable step: [`Check::question`], then [`Check::answered`].

mod compliance;
mod document;
mod fraud;
mod identity;
mod outcome;

use std::sync::OnceLock;

use chrono::{NaiveDate, Utc};
use serde_json::{Value, json};

pub use self::fraud::{History, Traits, fraud};
pub use self::outcome::{Verdict, alert, compose, customer_asks, letter};
use crate::model::text;

pub const AGENTS: [&str; 4] = ["identity", "document", "fraud", "compliance"];
const RULES: f64 = 0.99;
const CLEARED: f64 = 0.98;
const CLEARED_UNEXPLAINED: f64 = 0.96;
const WITHOUT_ANSWER: f64 = 0.90;
const WITHOUT_ZONE: f64 = 0.80;

static DATA: OnceLock<Value> = OnceLock::new();

/// Reads kyc.json, once.
pub fn load(path: &str) {
    let text = std::fs::read_to_string(path).expect("kyc.json can be read");
    DATA.set(serde_json::from_str(&text).expect("kyc.json is JSON")).expect("loaded once");
}

pub fn data() -> &'static Value {
    DATA.get().expect("kyc.json is loaded")
}

fn policy(name: &str) -> f64 {
    data()["policy"][name].as_f64().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn has(list: &Value, code: &str) -> bool {
    items(list).any(|c| c == code)
}

fn finding(effect: &str, code: &str, detail: impl Into<String>, evidence: Value) -> Value {
    json!({ "code": code, "effect": effect, "detail": detail.into(), "evidence": evidence })
}

fn part(agent: &str, confidence: f64, disposition: &str, mut output: Value, findings: Vec<Value>) -> Value {
    output["findings"] = Value::Array(findings);
    json!({ "agent": agent, "version": "0.1.0", "confidence": confidence, "disposition": disposition, "output": output })
}

fn today() -> NaiveDate {
    Utc::now().date_naive()
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn squeeze(text: &str) -> String {
    text.to_uppercase().chars().filter(char::is_ascii_alphanumeric).collect()
}

fn words(text: &str) -> Vec<String> {
    let plain = text.replace(['\'', '’', '`'], "").to_uppercase();
    plain.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

fn date(value: &Value) -> Option<NaiveDate> {
    text(value).trim().parse().ok()
}

/// Whether it is an application; what is not is a dead letter.
pub fn readable(request: &Value) -> bool {
    let objects = ["document", "source"].iter().all(|m| request[m].is_null() || request[m].is_object());
    objects && request["applicant"]["name"].is_string()
}

/// Questions to the model, by schema, and what is known so far.
pub struct Check {
    pub questions: Vec<(&'static str, Value)>,
    agent: &'static str,
    confidence: f64,
    output: Value,
    found: Vec<Value>,
    shown: String,
    likeness: f64,
}

impl Check {
    fn new(agent: &'static str) -> Self {
        let (questions, found) = (Vec::new(), Vec::new());
        Self { questions, agent, confidence: RULES, output: json!({}), found, shown: String::new(), likeness: 1.0 }
    }

    /// The first half.
    pub fn question(agent: &str, request: &Value, task: &Value) -> Self {
        match agent {
            "identity" => identity::check(request, task),
            "document" => document::check(request, task),
            _ => compliance::check(request),
        }
    }

    /// The second half: the answers, in the order of the questions.
    pub fn answered(mut self, answers: Vec<Value>) -> Value {
        for ((schema, _), said) in std::mem::take(&mut self.questions).into_iter().zip(answers) {
            match schema {
                "match_assessment" => self.matches_assessed(said),
                "name_comparison" => self.names_compared(said),
                "document_text" => self.text_read(said),
                _ => self.output["summary"] = said["summary"].clone(),
            }
        }
        let gated = self.found.iter().any(|f| f["effect"] == "gate");
        let disposition = match (self.agent, gated) {
            ("identity", true) => "hit",
            ("identity", false) => "clear",
            ("document", true) => "doubtful",
            ("document", false) => "genuine",
            (_, true) => "incomplete",
            (_, false) => "complete",
        };
        part(self.agent, self.confidence, disposition, self.output, self.found)
    }

    fn matches_assessed(&mut self, said: Value) {
        let cleared = self.output["matches"][0]["verdict"] == "cleared";
        let sure = if cleared { said["confidence"].as_f64().unwrap_or(CLEARED_UNEXPLAINED) } else { CLEARED };
        self.confidence = self.confidence.min(sure).min(CLEARED);
        self.output["assessment"] = said;
    }

    fn names_compared(&mut self, said: Value) {
        let sure = said["confidence"].as_f64().unwrap_or(WITHOUT_ANSWER);
        self.confidence = self.confidence.min(if self.likeness >= 0.92 { 0.98 } else { 0.90 }).min(sure);
        let evidence = json!({ "score": rounded(self.likeness), "model_confidence": sure });
        self.found.push(finding(
            "note",
            "NAME_VARIANT",
            "the declared name is written otherwise on the document",
            evidence,
        ));
        self.output["name_comparison"] = said;
    }

    fn text_read(&mut self, said: Value) {
        if said.is_null() {
            self.confidence = self.confidence.min(WITHOUT_ANSWER);
            self.found.push(finding("note", "DOC_TEXT_UNREAD", "the model would not read the printed text", json!({})));
            return;
        }
        let hay = squeeze(&self.shown);
        let made_up = |field: &&str| said[*field].as_str().is_some_and(|v| !hay.contains(&squeeze(v)));
        let dropped: Vec<&str> = ["document_number", "birth_date", "expiry_date"].into_iter().filter(made_up).collect();
        if !dropped.is_empty() {
            let detail = "the model gave fields that do not stand in the text";
            self.found.push(finding("note", "DOC_TEXT_UNGROUNDED", detail, json!({ "dropped": dropped })));
        }
        self.output["text"] = said;
    }
}
