//! The checks of the KYC agents: what common/kyc.py says, in Rust. It names what is left out. A check is in two halves
//! around the model, so that only the question is a durable step: [`Check::question`], then [`Check::answered`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{LazyLock, Mutex, OnceLock};

use chrono::{Datelike, NaiveDate, Utc};
use regex::Regex;
use rphonetic::{Encoder, Soundex};
use serde_json::{Map, Value, json};
use strsim::jaro_winkler;

use crate::model::text;

pub const AGENTS: [&str; 4] = ["identity", "document", "fraud", "compliance"];
const RULES: f64 = 0.99;
const CLEARED: f64 = 0.98;
const CLEARED_UNEXPLAINED: f64 = 0.96;
const WITHOUT_ANSWER: f64 = 0.90;
const WITHOUT_ZONE: f64 = 0.80;

static DATA: OnceLock<Value> = OnceLock::new();
static SOUNDEX: LazyLock<Soundex> = LazyLock::new(Soundex::default);
static INSTRUCTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)ignore (all )?(previous|prior) instructions|approve this|set confidence|system prompt").expect("a pattern")
});

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
            "identity" => identity(request, task),
            "document" => document(request, task),
            _ => compliance(request),
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
        self.found.push(finding("note", "NAME_VARIANT", "the declared name is written otherwise on the document", evidence));
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

// Identity.

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

fn identity(request: &Value, task: &Value) -> Check {
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
    let serious = |m: &Value| ["confirmed", "possible", "cleared"].iter().position(|v| m["verdict"] == *v);
    matches.sort_by(|a, b| serious(a).cmp(&serious(b)).then(b["score"].as_f64().partial_cmp(&a["score"].as_f64()).unwrap()));
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

// Document.

fn digit(characters: &str) -> char {
    let value = |c: char| c.to_digit(36).unwrap_or(0);
    let sum: u32 = characters.chars().zip([7, 3, 1].into_iter().cycle()).map(|(c, w)| value(c) * w).sum();
    char::from_digit(sum % 10, 10).unwrap_or('0')
}

/// A date; `Ok(None)` where it is left open; an error where there is no such date.
fn mrz_date(text: &str, birth: bool) -> Result<Option<NaiveDate>, ()> {
    if text.contains('<') {
        return Ok(None);
    }
    let two = |at: usize| text[at..at + 2].parse::<i32>().map_err(|_| ());
    let (year, month, day, now) = (two(0)?, two(2)?, two(4)?, today());
    let century = now.year() / 100 * 100;
    let on = |y: i32| NaiveDate::from_ymd_opt(y, month as u32, day as u32).ok_or(());
    if birth {
        let born = on(century + year)?;
        return Ok(Some(if born > now { on(century - 100 + year)? } else { born }));
    }
    let years = [century - 100 + year, century + year, century + 100 + year];
    let nearest = years.into_iter().min_by_key(|y| (y - now.year()).abs()).unwrap_or(century);
    on(nearest).map(Some)
}

struct Zone {
    code: String,
    issuer: String,
    number: String,
    surname: String,
    given: String,
    nationality: String,
    sex: char,
    birth: Result<Option<NaiveDate>, ()>,
    expiry: Result<Option<NaiveDate>, ()>,
    checks: Vec<Value>,
}

fn zone(lines: &Value) -> Option<Zone> {
    let joined = match lines {
        Value::String(text) => text.clone(),
        lines => items(lines).map(text).collect::<Vec<_>>().join("\n"),
    };
    let squeezed = joined.lines().map(|l| l.split_whitespace().collect::<String>().to_uppercase());
    let lines: Vec<String> = squeezed.filter(|l| !l.is_empty()).collect();
    let of_zone = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'<';
    let [one, two] = &lines[..] else { return None };
    if !lines.iter().all(|l| l.len() == 44 && l.bytes().all(of_zone)) {
        return None;
    }
    let plain = |text: &str| text.replace('<', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let check = |over: &str, text: &str, at: usize| {
        let (expected, found) = (digit(text), two[at..=at].chars().next().unwrap_or('<'));
        let empty = over == "optional_data" && found == '<' && text.trim_matches('<').is_empty();
        json!({ "over": over, "expected": expected, "found": found, "valid": found == expected || empty })
    };
    let composite = format!("{}{}{}", &two[..10], &two[13..20], &two[21..43]);
    let checks = vec![
        check("number", &two[..9], 9),
        check("birth_date", &two[13..19], 19),
        check("expiry_date", &two[21..27], 27),
        check("optional_data", &two[28..42], 42),
        check("composite", &composite, 43),
    ];
    let (surname, given) = one[5..].split_once("<<").unwrap_or((&one[5..], ""));
    Some(Zone {
        code: plain(&one[..2]),
        issuer: plain(&one[2..5]),
        number: plain(&two[..9]),
        surname: plain(surname),
        given: plain(given),
        nationality: plain(&two[10..13]),
        sex: two[20..21].chars().next().unwrap_or('<'),
        birth: mrz_date(&two[13..19], true),
        expiry: mrz_date(&two[21..27], false),
        checks,
    })
}

fn zone_findings(seen: &Zone) -> Vec<Value> {
    let mut found = Vec::new();
    let wrong: Vec<&Value> = seen.checks.iter().filter(|c| c["valid"] == false).collect();
    if !wrong.is_empty() {
        let detail = format!("{} of {} check digits are wrong", wrong.len(), seen.checks.len());
        found.push(finding("gate", "DOC_CHECK_DIGIT", detail, json!({ "check_digits": wrong })));
    }
    if let Ok(Some(expired)) = seen.expiry
        && expired < today()
    {
        let evidence = json!({ "expiry_date": expired.to_string(), "needed": ["valid_identity_document"] });
        found.push(finding("gate", "DOC_EXPIRED", format!("the document expired on {expired}"), evidence));
    }
    if seen.birth.is_err() || seen.expiry.is_err() || !"MFX<".contains(seen.sex) || seen.surname.is_empty() {
        found.push(finding("gate", "DOC_FIELD_INVALID", "the zone holds what no issuer prints", json!({})));
    }
    found
}

/// The score of the worst part; `None` if there is nothing to compare.
fn names_alike(declared: &[String], surname: &[String], given: &[String]) -> Option<f64> {
    if declared.is_empty() || (surname.is_empty() && given.is_empty()) {
        return None;
    }
    let document: Vec<String> = surname.iter().chain(given).cloned().collect();
    let in_order: Vec<String> = given.iter().chain(surname).cloned().collect();
    if declared.concat() == document.concat() || declared.concat() == in_order.concat() {
        return Some(1.0);
    }
    let pair = |a: &String, b: &String| match a == b {
        true => 1.0,
        false if a.len().min(b.len()) == 1 && a[..1] == b[..1] => 0.95,
        false => jaro_winkler(a, b),
    };
    let best = |word: &String, others: &[String]| others.iter().map(|o| pair(word, o)).fold(0.0, f64::max);
    let declared_ones = declared.iter().map(|d| best(d, &document));
    Some(declared_ones.chain(surname.iter().map(|s| best(s, declared))).fold(1.0, f64::min))
}

fn differences(seen: &Zone, applicant: &Value, document: &Value) -> Vec<Value> {
    let state = |value: &Value| Some(text(value).to_uppercase()).filter(|t| t.len() == 3 && t.bytes().all(|b| b.is_ascii_alphabetic()));
    let day = |date: Option<NaiveDate>| date.map(|d| d.to_string()).unwrap_or_default();
    let pairs = [
        ("document.number", squeeze(text(&document["number"])), squeeze(&seen.number)),
        ("applicant.birth_date", day(date(&applicant["birth_date"])), day(seen.birth.ok().flatten())),
        ("applicant.nationality", state(&applicant["nationality"]).unwrap_or_default(), seen.nationality.clone()),
        ("document.issuer", state(&document["issuer"]).unwrap_or_default(), seen.issuer.clone()),
    ];
    let apart = pairs.into_iter().filter(|(_, d, s)| !d.is_empty() && !s.is_empty() && d != s);
    apart.map(|(f, d, s)| json!({ "field": f, "declared": d, "document": s })).collect()
}

fn without_instructions(text: &str) -> String {
    let sentences = text.split_inclusive(['.', '!', '?']);
    sentences.filter(|s| !INSTRUCTION.is_match(s)).collect::<String>().trim().to_owned()
}

fn document(request: &Value, task: &Value) -> Check {
    let mut check = Check::new("document");
    let (applicant, declared) = (&request["applicant"], &request["document"]);
    let printed = text(&declared["text"]);
    if INSTRUCTION.is_match(printed) {
        let detail = "the application holds instructions; they were not followed";
        check.found.push(finding("note", "INSTRUCTION_IN_DOCUMENT", detail, json!({})));
    }
    check.output = json!({ "fields": null, "check_digits": [], "text": null, "name_comparison": null });
    match zone(&declared["mrz"]) {
        None => {
            let code = if declared["mrz"].is_null() { "DOC_MISSING" } else { "DOC_UNREADABLE" };
            let evidence = json!({ "needed": ["readable_document"] });
            check.found.push(finding("gate", code, "there is no zone that can be read", evidence));
            check.confidence = WITHOUT_ZONE;
        }
        Some(seen) => {
            check.found.extend(zone_findings(&seen));
            let mut apart = differences(&seen, applicant, declared);
            let on_document = format!("{} {}", seen.given, seen.surname);
            let likeness = names_alike(&words(text(&applicant["name"])), &words(&seen.surname), &words(&seen.given));
            if likeness.is_some_and(|l| l < 0.8) {
                apart.push(json!({ "field": "applicant.name", "declared": applicant["name"], "document": on_document }));
            }
            if !apart.is_empty() {
                check.found.push(finding("gate", "DOC_MISMATCH", "the document says otherwise", json!({ "differences": apart })));
            }
            if let Some(score) = likeness.filter(|l| (0.8..=0.999).contains(l)) {
                check.likeness = score;
                check.questions.push(("name_comparison", json!({ "declared": applicant["name"], "document": on_document,
                    "score": rounded(score), "round": task["round"], "question": task["question"] })));
            }
            let day = |date: &Result<Option<NaiveDate>, ()>| date.ok().flatten().map(|d| d.to_string());
            check.output["fields"] = json!({ "format": "TD3", "code": seen.code, "issuer": seen.issuer, "number": seen.number,
                "surname": seen.surname, "given_names": seen.given, "nationality": seen.nationality,
                "birth_date": day(&seen.birth), "expiry_date": day(&seen.expiry) });
            check.output["check_digits"] = Value::Array(seen.checks);
        }
    }
    check.shown = without_instructions(&printed.chars().take(8000).collect::<String>());
    if !check.shown.is_empty() {
        let asked = json!({ "text": check.shown, "round": task["round"], "question": task["question"] });
        check.questions.push(("document_text", asked));
    }
    check
}

// Fraud.

#[derive(Clone)]
pub struct Traits {
    network: String,
    device: String,
    document: String,
    birth_date: String,
    name: String,
}

impl Traits {
    pub fn of(request: &Value) -> Self {
        let (applicant, source) = (&request["applicant"], &request["source"]);
        let mut name = words(text(&applicant["name"]));
        name.sort();
        Self {
            network: text(&source["ip"]).to_owned(),
            device: text(&source["device_id"]).to_owned(),
            document: squeeze(text(&request["document"]["number"])),
            birth_date: text(&applicant["birth_date"]).to_owned(),
            name: name.join(" "),
        }
    }

    fn keys(&self) -> Vec<(u8, String)> {
        let all = [&self.network, &self.device, &self.document, &self.birth_date].into_iter().cloned();
        (0..).zip(all).filter(|(_, key)| !key.is_empty()).collect()
    }
}

/// What this process saw of other cases: the first sight of each, at most so many.
#[derive(Default)]
pub struct History(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    cases: HashMap<String, Traits>,
    arrival: VecDeque<String>,
    by_key: HashMap<(u8, String), BTreeSet<String>>,
}

impl History {
    const MOST: usize = 100_000;

    pub fn add(&self, case: &str, request: &Value) {
        let mut guard = self.0.lock().expect("no panic while held");
        let seen = &mut *guard;
        if seen.cases.contains_key(case) {
            return;
        }
        let own = Traits::of(request);
        for key in own.keys() {
            seen.by_key.entry(key).or_default().insert(case.to_owned());
        }
        seen.cases.insert(case.to_owned(), own);
        seen.arrival.push_back(case.to_owned());
        if seen.cases.len() > Self::MOST
            && let Some(oldest) = seen.arrival.pop_front()
            && let Some(traits) = seen.cases.remove(&oldest)
        {
            for key in traits.keys() {
                if let Some(cases) = seen.by_key.get_mut(&key) {
                    cases.remove(&oldest);
                }
            }
        }
    }

    pub fn related(&self, case: &str, own: &Traits) -> (BTreeMap<String, Traits>, usize) {
        let seen = self.0.lock().expect("no panic while held");
        let mut found = BTreeMap::new();
        for key in own.keys() {
            let sharing = seen.by_key.get(&key).into_iter().flatten().filter(|c| *c != case).take(200);
            found.extend(sharing.filter_map(|c| Some((c.clone(), seen.cases.get(c)?.clone()))));
        }
        (found, seen.cases.len())
    }
}

pub fn fraud(own: &Traits, related: &BTreeMap<String, Traits>, compared_with: usize) -> Value {
    let mut signals: Vec<Value> = Vec::new();
    let mut signal = |code: &str, weight: f64, detail: String, cases: &[&String], alert: bool| {
        let cases: Vec<_> = cases.iter().take(20).collect();
        signals.push(json!({ "code": code, "weight": weight, "detail": detail, "cases": cases, "alert": alert }));
    };
    let places: [(&str, &str, f64, fn(&Traits) -> &String); 2] = [
        ("IP", "address", policy("ip_threshold"), |t| &t.network),
        ("DEVICE", "device", policy("device_threshold"), |t| &t.device),
    ];
    for (code, what, threshold, of) in places {
        let others: Vec<&String> = related.iter().filter(|(_, t)| !of(own).is_empty() && of(t) == of(own)).map(|(c, _)| c).collect();
        let detail = format!("{} applications from one {what} ({})", others.len() + 1, of(own));
        if others.len() as f64 + 1.0 >= threshold {
            signal(&format!("SHARED_{code}"), 0.8, detail, &others, true);
        } else if !others.is_empty() {
            signal(&format!("{code}_SEEN_BEFORE"), 0.01, detail, &others, false);
        }
    }
    let same = |t: &Traits| !own.birth_date.is_empty() && t.birth_date == own.birth_date && jaro_winkler(&t.name, &own.name) >= 0.92;
    let again: Vec<&String> = related.iter().filter(|(_, t)| same(t)).map(|(c, _)| c).collect();
    let used = |t: &Traits| !own.document.is_empty() && t.document == own.document && !same(t);
    let reused: Vec<&String> = related.iter().filter(|(_, t)| used(t)).map(|(c, _)| c).collect();
    if !reused.is_empty() {
        signal("DOCUMENT_REUSED", 0.02, "the document was used before, with another name or date of birth".to_owned(), &reused, false);
    }
    if !again.is_empty() {
        signal("LIKE_PAST_CASE", 0.0, "someone of this name and date of birth applied before".to_owned(), &again, false);
    }
    let none: f64 = signals.iter().map(|s| 1.0 - s["weight"].as_f64().unwrap_or(0.0)).product();
    let (total, alert) = (rounded(1.0 - none), signals.iter().any(|s| s["alert"] == true));
    let found = signals.iter().map(|s| {
        let effect = if s["alert"] == true { "gate" } else { "note" };
        finding(effect, text(&s["code"]), text(&s["detail"]), json!({ "weight": s["weight"], "cases": s["cases"] }))
    });
    let found = found.collect();
    let output = json!({ "score": total, "signals": signals, "compared_with": compared_with });
    part("fraud", if alert { RULES } else { (1.0 - total).min(RULES) }, if alert { "alert" } else { "clear" }, output, found)
}

// Compliance.

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

fn compliance(request: &Value) -> Check {
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
            check.found.push(finding("gate", &format!("MISSING_{}", what.to_uppercase()), detail, json!({ "needed": names })));
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

// Composer.

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
    Verdict::Outcome(json!({ "correlation_id": case, "state": if approved { "approved" } else { "human" }, "reason": reason,
        "confidence": confidence, "codes": codes, "gates": gates, "needed_from_applicant": needed, "missing": [],
        "findings": found, "parts": parts, "rounds": round, "versions": { "composer": "0.1.0", "agents": versions },
        "opened_at": opened_at, "decided_at": Utc::now().timestamp_millis() }))
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

// Customer.

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
    let please_send: Vec<&str> = items(&outcome["needed_from_applicant"]).filter(|_| !approved).filter_map(to_send).collect();
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
