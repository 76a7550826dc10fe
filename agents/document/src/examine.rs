//! The checks that need no model: what the zone says of itself, and how it compares with what was declared.

use anabranch_sdk::{Finding, json};
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mrz::{Mrz, MrzDate};
use crate::names::{self, Likeness};
use crate::text::{Grounded, squeeze};
use crate::{Applicant, Document};

/// A field that is one thing on the document and another in the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Which.
    pub field: String,
    /// As declared, or as the printed text has it.
    pub declared: String,
    /// As the zone has it.
    pub document: String,
}

/// The zone's own faults: check digits, dates, forgery signs.
pub(crate) fn zone(mrz: &Mrz, today: Date) -> Vec<Finding> {
    let mut findings = Vec::new();
    let wrong: Vec<_> = mrz.wrong_checks().collect();
    if !wrong.is_empty() {
        let detail = format!("{} of {} check digits are wrong", wrong.len(), mrz.checks.len());
        findings.push(Finding::gate("DOC_CHECK_DIGIT", detail).with(json!({ "check_digits": wrong })));
    }
    if let Some(expired) = mrz.expiry_date.known().filter(|d| *d < today) {
        findings.push(expired_on(expired));
    }
    let signs = forgery_signs(mrz);
    if !signs.is_empty() {
        let detail = "the zone holds what no issuer prints";
        findings.push(Finding::gate("DOC_FIELD_INVALID", detail).with(json!({ "signs": signs })));
    }
    findings
}

pub(crate) fn expired_on(date: Date) -> Finding {
    Finding::gate("DOC_EXPIRED", format!("the document expired on {date}"))
        .with(json!({ "expiry_date": date.to_string(), "needed": ["valid_identity_document"] }))
}

fn forgery_signs(mrz: &Mrz) -> Vec<String> {
    let mut signs = Vec::new();
    let mut sign = |found: bool, words: &str| {
        if found {
            signs.push(words.to_owned());
        }
    };
    sign(mrz.birth_date == MrzDate::Invalid, "the date of birth does not exist");
    sign(mrz.expiry_date == MrzDate::Invalid, "the date of expiry does not exist");
    sign(!matches!(mrz.sex, 'M' | 'F' | 'X' | '<'), "the sex is none of M, F, X, <");
    let names = || mrz.surname.chars().chain(mrz.given_names.chars());
    sign(names().any(|c| c.is_ascii_digit()), "a digit in the name");
    sign(mrz.surname.is_empty(), "no name");
    sign(mrz.number.is_empty(), "no document number");
    sign(!mrz.code.starts_with(['P', 'I', 'A', 'C', 'V']), "no document code of the standard");
    let states = [&mrz.issuer, &mrz.nationality];
    sign(states.iter().any(|s| s.is_empty() || s.chars().any(|c| !c.is_ascii_alphabetic())), "no code of a state");
    if let (Some(born), Some(expires)) = (mrz.birth_date.known(), mrz.expiry_date.known()) {
        sign(expires < born, "it expired before its holder was born");
    }
    signs
}

/// What the zone and the application say differently, and how alike the names are.
pub(crate) fn compare(mrz: &Mrz, applicant: &Applicant, document: &Document) -> (Vec<Difference>, Option<Likeness>) {
    let mut differences = Vec::new();
    let mut differ = |field: &str, declared: &str, on_document: &str| {
        differences.push(Difference {
            field: field.to_owned(),
            declared: short(declared),
            document: on_document.to_owned(),
        });
    };
    if let Some(number) = declared(&document.number).filter(|n| squeeze(n) != squeeze(&mrz.number)) {
        differ("document.number", number, &mrz.number);
    }
    if let (Some(text), Some(on_document)) = (declared(&applicant.birth_date), mrz.birth_date.known())
        && text.parse::<Date>().ok() != Some(on_document)
    {
        differ("applicant.birth_date", text, &on_document.to_string());
    }
    // Only codes of three letters are comparable; a country's name is left to people.
    let state = |text: &&str| text.len() == 3 && text.chars().all(|c| c.is_ascii_alphabetic());
    if let Some(text) =
        declared(&applicant.nationality).filter(state).filter(|t| !t.eq_ignore_ascii_case(&mrz.nationality))
    {
        differ("applicant.nationality", text, &mrz.nationality);
    }
    if let Some(text) = declared(&document.issuer).filter(state).filter(|t| !t.eq_ignore_ascii_case(&mrz.issuer)) {
        differ("document.issuer", text, &mrz.issuer);
    }
    if let Some(kind) =
        declared(&document.kind).filter(|k| k.eq_ignore_ascii_case("passport") != mrz.code.starts_with('P'))
    {
        differ("document.type", kind, &mrz.code);
    }
    let likeness = names::compare(&applicant.name, &mrz.surname, &mrz.given_names, mrz.name_may_be_cut);
    if matches!(likeness, Some(Likeness::Different(_))) {
        differ("applicant.name", &applicant.name, &format!("{} {}", mrz.given_names, mrz.surname));
    }
    (differences, likeness)
}

/// What the printed text and the zone (or, without one, the application) say differently.
pub(crate) fn compare_text(grounded: &Grounded, mrz: Option<&Mrz>, document: &Document) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut differ = |field: &str, text: String, other: String| {
        differences.push(Difference { field: field.to_owned(), declared: text, document: other });
    };
    let number = mrz.map(|m| m.number.as_str()).or(document.number.as_deref()).filter(|n| !n.trim().is_empty());
    if let (Some(printed), Some(number)) = (&grounded.number, number)
        && *printed != squeeze(number)
    {
        differ("text.document_number", printed.clone(), number.to_owned());
    }
    if let (Some(printed), Some(zone)) = (grounded.birth_date, mrz.and_then(|m| m.birth_date.known()))
        && printed != zone
    {
        differ("text.birth_date", printed.to_string(), zone.to_string());
    }
    if let (Some(printed), Some(zone)) = (grounded.expiry_date, mrz.and_then(|m| m.expiry_date.known()))
        && printed != zone
    {
        differ("text.expiry_date", printed.to_string(), zone.to_string());
    }
    differences
}

fn declared(field: &Option<String>) -> Option<&str> {
    field.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// Evidence is bounded, whatever was declared.
fn short(text: &str) -> String {
    text.chars().take(120).collect()
}
