//! What a case shares with others. All of it is rules.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Mutex;

use serde_json::{Value, json};
use strsim::jaro_winkler;

use super::{RULES, finding, part, policy, rounded, squeeze, words};
use crate::model::text;

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
        let others: Vec<&String> =
            related.iter().filter(|(_, t)| !of(own).is_empty() && of(t) == of(own)).map(|(c, _)| c).collect();
        let detail = format!("{} applications from one {what} ({})", others.len() + 1, of(own));
        if others.len() as f64 + 1.0 >= threshold {
            signal(&format!("SHARED_{code}"), 0.8, detail, &others, true);
        } else if !others.is_empty() {
            signal(&format!("{code}_SEEN_BEFORE"), 0.01, detail, &others, false);
        }
    }
    let same = |t: &Traits| {
        !own.birth_date.is_empty() && t.birth_date == own.birth_date && jaro_winkler(&t.name, &own.name) >= 0.92
    };
    let again: Vec<&String> = related.iter().filter(|(_, t)| same(t)).map(|(c, _)| c).collect();
    let used = |t: &Traits| !own.document.is_empty() && t.document == own.document && !same(t);
    let reused: Vec<&String> = related.iter().filter(|(_, t)| used(t)).map(|(c, _)| c).collect();
    if !reused.is_empty() {
        signal(
            "DOCUMENT_REUSED",
            0.02,
            "the document was used before, with another name or date of birth".to_owned(),
            &reused,
            false,
        );
    }
    if !again.is_empty() {
        signal(
            "LIKE_PAST_CASE",
            0.0,
            "someone of this name and date of birth applied before".to_owned(),
            &again,
            false,
        );
    }
    let none: f64 = signals.iter().map(|s| 1.0 - s["weight"].as_f64().unwrap_or(0.0)).product();
    let (total, alert) = (rounded(1.0 - none), signals.iter().any(|s| s["alert"] == true));
    let found = signals.iter().map(|s| {
        let effect = if s["alert"] == true { "gate" } else { "note" };
        finding(effect, text(&s["code"]), text(&s["detail"]), json!({ "weight": s["weight"], "cases": s["cases"] }))
    });
    let found = found.collect();
    let output = json!({ "score": total, "signals": signals, "compared_with": compared_with });
    part(
        "fraud",
        if alert { RULES } else { (1.0 - total).min(RULES) },
        if alert { "alert" } else { "clear" },
        output,
        found,
    )
}
