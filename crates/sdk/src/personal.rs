//! Where model calls are recorded: the texts of a case that are data of persons, so that no recording holds them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_tools::outside;
use serde_json::{Value, json};

use crate::mask::{KEYWORD, Mask};

/// What is known of persons in one case.
#[derive(Debug, Clone)]
pub(crate) struct Personal {
    mask: Arc<Mask>,
    texts: Arc<Mutex<BTreeSet<String>>>,
}

impl Personal {
    /// Nothing yet; `mask` tells what is personal.
    pub(crate) fn new(mask: Mask) -> Self {
        Self { mask: Arc::new(mask), texts: Arc::default() }
    }

    /// For another case: what is marked in these values.
    pub(crate) fn of<'v>(&self, values: impl IntoIterator<Item = &'v Value>) -> Self {
        let texts = values.into_iter().flat_map(|value| self.mask.data(value)).collect();
        Self { mask: self.mask.clone(), texts: Arc::new(Mutex::new(texts)) }
    }

    /// What lies in a store under this name is personal if the name is.
    pub(crate) fn fetched(&self, name: &str, content: &[u8]) {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if !texts.contains(name) {
            return;
        }
        // JSON is taken apart; whatever else has text in it is a text.
        match serde_json::from_slice::<Value>(content) {
            Ok(value) => texts.extend(Mask::of([&json!({ (KEYWORD): true })]).data(&value)),
            Err(_) => {
                texts.insert(String::from_utf8_lossy(content).trim().to_owned());
            }
        }
    }

    /// The texts and these others, in all their forms.
    pub(crate) fn forms(&self, others: &[String]) -> Arc<[String]> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        texts.extend(others.iter().map(|text| text.trim().to_owned()));
        forms(texts).into()
    }
}

/// Texts in every form in which they may stand in what a model is asked, or answers: as they are, fenced, line by line (of a
/// long one only the first part may be asked about), and within JSON. The longest first.
pub(crate) fn forms(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut forms = BTreeSet::new();
    for text in texts {
        for text in [fenced(&text), text] {
            forms.extend(text.lines().map(|line| line.trim().to_owned()));
            forms.insert(text);
        }
    }
    let escaped: Vec<String> = forms.iter().flat_map(|text| [in_json(text), in_ascii_json(text)]).collect();
    forms.extend(escaped);
    forms.remove("");
    let mut forms: Vec<String> = forms.into_iter().collect();
    forms.sort_by_key(|text| std::cmp::Reverse(text.len()));
    forms
}

/// As it stands between the fences of a prompt.
fn fenced(text: &str) -> String {
    let fenced = outside::fence("", text, "");
    let within = fenced.split_once('\n').and_then(|(_, rest)| rest.rsplit_once('\n'));
    within.map_or_else(String::new, |(text, _)| text.to_owned())
}

fn in_json(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// Some models write nothing but ASCII.
fn in_ascii_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in in_json(text).chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Prompt;

    #[test]
    fn a_text_is_known_in_every_form() {
        let forms = forms(["Zoë \"Z\" Ex\u{200b}ample\nBorn in Amaurot".to_owned()]);
        for form in [
            "Zoë \"Z\" Example\nBorn in Amaurot",
            "Zoë \\\"Z\\\" Example\\nBorn in Amaurot",
            "Zo\\u00eb \\\"Z\\\" Example",
            "Born in Amaurot",
        ] {
            assert!(forms.iter().any(|known| known == form), "{form} in {forms:?}");
        }
        assert!(forms.is_sorted_by(|a, b| a.len() >= b.len()));
    }

    #[test]
    fn a_prompt_holds_the_forms() {
        let said = "Ava <|x|> Specimen";
        let prompt = Prompt::new("Read.").text("name", said).json("all", json!({ "name": said }));
        let user = prompt.user();
        let left = forms([said.to_owned()]).iter().fold(user.clone(), |user, form| user.replace(form, ""));
        assert!(user.contains("Specimen") && !left.contains("Specimen"), "{left}");
    }

    #[test]
    fn what_is_fetched_is_personal_if_its_claim_is() {
        let mask = Mask::of([&json!({ "properties": { "text": { "x-pii": true } } })]);
        let known = Personal::new(mask).of([&json!({ "text": { "$claim": { "sha256": "abcd" } }, "other": "x" })]);
        known.fetched("other", b"Leo Example");
        known.fetched("abcd", b"Ava Specimen\n");
        assert_eq!(*known.forms(&[]), ["Ava Specimen", "abcd"]);
        known.fetched("abcd", br#"{"name": "Leo Example"}"#);
        assert!(known.forms(&[]).contains(&"Leo Example".to_owned()));
        let unmarked = Personal::new(Mask::default()).of([&json!({ "text": "Ava" })]);
        assert!(unmarked.forms(&[]).is_empty());
        assert_eq!(*unmarked.forms(&[" AVA".to_owned()]), ["AVA"]);
    }
}
