//! What is odd about a case, each with its weight, so that the score can be explained.

use anabranch_sdk::Finding;
use anabranch_sdk::json;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Config;
use crate::history::{Seen, Traits};

/// Names from this score on are alike.
const ALIKE: f64 = 0.92;
/// Most cases that a signal names.
const NAMED: usize = 20;

/// Something odd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Signal {
    /// Its reason code.
    pub code: String,
    /// What it adds to the score, 0 to 1.
    pub weight: f64,
    /// What is odd, for people.
    pub detail: String,
    /// Other cases it rests on, at most twenty.
    pub cases: Vec<String>,
    /// Whether it is reason for an alert, and forbids automatic approval.
    pub alert: bool,
}

impl Signal {
    fn new(code: &str, weight: f64, detail: String) -> Self {
        Self { code: code.to_owned(), weight, detail, cases: Vec::new(), alert: false }
    }

    fn with(mut self, cases: &[&Seen]) -> Self {
        self.cases = cases.iter().take(NAMED).map(|s| s.case.clone()).collect();
        self
    }

    fn alert(mut self) -> Self {
        self.alert = true;
        self
    }

    /// As composers read it.
    pub(crate) fn finding(&self) -> Finding {
        let finding =
            if self.alert { Finding::gate(&self.code, &self.detail) } else { Finding::note(&self.code, &self.detail) };
        finding.with(json!({ "weight": self.weight, "cases": self.cases }))
    }
}

/// Weights add up as chances of being right do: two halves make three quarters.
pub(crate) fn score(signals: &[Signal]) -> f64 {
    let none = signals.iter().map(|s| 1.0 - s.weight).product::<f64>();
    ((1.0 - none) * 1000.0).round() / 1000.0
}

/// What this case shares with others.
pub(crate) fn shared(traits: &Traits, related: &[Seen], config: &Config) -> Vec<Signal> {
    let mut signals = Vec::new();
    let places = [
        (&traits.network, "IP", "address", config.ip_threshold, (|t| &t.network) as fn(&Traits) -> &Option<String>),
        (&traits.device, "DEVICE", "device", config.device_threshold, |t| &t.device),
    ];
    for (own, code, what, threshold, of) in places {
        let Some(own) = own else { continue };
        let others: Vec<&Seen> = related.iter().filter(|s| of(&s.traits).as_ref() == Some(own)).collect();
        let count = others.len() + 1;
        if count >= threshold {
            let detail = format!("{count} applications from one {what} ({own})");
            signals.push(Signal::new(&format!("SHARED_{code}"), 0.8, detail).with(&others).alert());
        } else if count > 1 {
            let detail = format!("{count} applications from one {what} ({own}), below the {threshold} of an alert");
            signals.push(Signal::new(&format!("{code}_SEEN_BEFORE"), 0.01, detail).with(&others));
        }
    }
    signals.extend(like_past_cases(traits, related));
    signals
}

/// A document or a person seen before. A second application is usual, so neither is an alert; the document's own
/// checks say which of two is tampered with.
fn like_past_cases(traits: &Traits, related: &[Seen]) -> Vec<Signal> {
    let same_document: Vec<&Seen> =
        related.iter().filter(|s| traits.document.is_some() && s.traits.document == traits.document).collect();
    let same_person = |s: &&Seen| {
        traits.birth_date.is_some()
            && s.traits.birth_date == traits.birth_date
            && strsim::jaro_winkler(&s.traits.name, &traits.name) >= ALIKE
    };
    let mut signals = Vec::new();
    let by_others: Vec<&Seen> = same_document.iter().copied().filter(|s| !same_person(s)).collect();
    if !by_others.is_empty() {
        let detail = "the document was used before, with another name or date of birth".to_owned();
        signals.push(Signal::new("DOCUMENT_REUSED", 0.02, detail).with(&by_others));
    }
    let again: Vec<&Seen> = related.iter().filter(same_person).collect();
    if !again.is_empty() {
        let detail = "someone of this name and date of birth applied before".to_owned();
        signals.push(Signal::new("LIKE_PAST_CASE", 0.0, detail).with(&again));
    }
    signals
}

/// What does not fit together within the case.
pub(crate) fn inconsistencies(born: Option<Date>, ip_is_readable: bool, today: Date) -> Vec<Signal> {
    let mut signals = Vec::new();
    if let Some(born) = born {
        let age = i32::from(today.year()) - i32::from(born.year());
        if !(18..=110).contains(&age) {
            signals.push(Signal::new("AGE_IMPLAUSIBLE", 0.2, format!("born on {born}")));
        }
    }
    if !ip_is_readable {
        signals.push(Signal::new("SOURCE_UNREADABLE", 0.1, "the source address is no IP address".to_owned()));
    }
    signals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_stay_between_nought_and_one() {
        let signal = |weight| Signal::new("X", weight, String::new());
        assert_eq!(score(&[]), 0.0);
        assert_eq!(score(&[signal(0.5), signal(0.5)]), 0.75);
        assert!(score(&vec![signal(0.9); 50]) <= 1.0);
    }
}
