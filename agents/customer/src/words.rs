//! Our own words, and what no message may say.

use anabranch_sdk::prelude::*;

/// Longest text of a model that is sent, in characters.
const MAX_TEXT: usize = 1_500;
/// Longest subject.
const MAX_SUBJECT: usize = 120;

/// What must not be told to anyone who may be suspected (tipping off), nor to anyone else.
const UNSAYABLE: [&str; 18] = [
    "sanction",
    "watchlist",
    "watch list",
    "ofac",
    "launder",
    "terror",
    "fraud",
    "suspic",
    "suspect",
    "forg",
    "tamper",
    "fake",
    "criminal",
    "police",
    "politically exposed",
    "risk score",
    "check digit",
    "confidence",
];

/// Where an application stands, in the applicant's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Situation {
    /// The account can be opened.
    Approved,
    /// A person looks at it.
    InReview,
    /// A person declined it.
    Declined,
}

impl Situation {
    /// From the state of the case; one that is not known is with a person.
    pub(crate) fn of(state: &str) -> Self {
        match state {
            "approved" | "approved_after_review" => Self::Approved,
            "rejected_by_reviewer" => Self::Declined,
            _ => Self::InReview,
        }
    }
}

/// What an item is called in a letter. Items that have no name here are left to the person who reviews.
pub(crate) fn items(needed: &[String]) -> Vec<String> {
    let name = |item: &String| {
        Some(match item.as_str() {
            "valid_identity_document" | "proof_of_identity" => "a valid passport or identity card",
            "readable_document" => "a clear picture of your identity document",
            "proof_of_address" => "a document that shows your address, such as a recent utility bill",
            "source_of_funds" => "a document that shows where your money comes from, such as a payslip",
            "name" => "your full name",
            "birth_date" => "your date of birth",
            "nationality" => "your nationality",
            "address" => "your address",
            "identification_number" => "the number of your identity document",
            _ => return None,
        })
    };
    let mut items: Vec<String> = Vec::new();
    for item in needed.iter().filter_map(name) {
        if !items.iter().any(|known| known == item) {
            items.push(item.to_owned());
        }
    }
    items
}

/// Our standing text.
pub(crate) fn template(situation: Situation, please_send: &[String]) -> (&'static str, String) {
    match situation {
        Situation::Approved => {
            ("Your application is approved", "Your application is approved. We will send you the details of your account shortly.".to_owned())
        }
        Situation::Declined => (
            "Your application",
            "We have looked at your application carefully and cannot open an account for you. You may ask us about it at any time.".to_owned(),
        ),
        Situation::InReview if please_send.is_empty() => {
            ("Your application", "Thank you for your application. A colleague will look at it, and we will write to you again.".to_owned())
        }
        Situation::InReview => (
            "Your application: something is missing",
            format!("Thank you for your application. To go on we need from you: {}. A colleague will look at it then.", please_send.join("; ")),
        ),
    }
}

/// What is wrong with a draft, if anything.
pub(crate) fn fault(situation: Situation, subject: &str, body: &str) -> Option<&'static str> {
    let text = format!("{subject}\n{body}").to_lowercase();
    if body.trim().is_empty() || subject.trim().is_empty() {
        return Some("it is empty");
    }
    if body.chars().count() > MAX_TEXT || subject.chars().count() > MAX_SUBJECT || subject.contains('\n') {
        return Some("it is too long");
    }
    if UNSAYABLE.iter().any(|word| text.contains(word)) {
        return Some("it says what must not be said");
    }
    if text.contains("http") || text.contains("www.") || text.contains('@') || text.contains('<') {
        return Some("it holds a link, an address or markup");
    }
    let approves = ["approved", "congratulations", "account is open", "accepted"].iter().any(|w| text.contains(w));
    let declines = ["declined", "rejected", "cannot open", "unable to open", "denied"].iter().any(|w| text.contains(w));
    match situation {
        Situation::Approved if declines => Some("it declines what is approved"),
        Situation::InReview if approves || declines => Some("it decides what is not decided"),
        Situation::Declined if approves => Some("it approves what is declined"),
        _ => None,
    }
}

/// A text with a greeting and a signature. The name stands alone, so that nothing in it is read as our words.
pub(crate) fn letter(name: &str, text: &str, signature: &str) -> String {
    let name: String = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = !name.is_empty()
        && name.chars().count() <= 80
        && name.chars().all(|c| c.is_alphabetic() || matches!(c, ' ' | '-' | '\'' | '’' | '.' | ','));
    let greeting = if plain { format!("Dear {name},") } else { "Dear applicant,".to_owned() };
    format!("{greeting}\n\n{text}\n\n{signature}")
}
