//! Check digits, dates and comparison by rule; a model for names that are alike and for printed text.

use std::sync::LazyLock;

use chrono::{Datelike, NaiveDate};
use regex::Regex;
use serde_json::{Value, json};
use strsim::jaro_winkler;

use super::{Check, WITHOUT_ZONE, date, finding, items, rounded, squeeze, today, words};
use crate::model::text;

static INSTRUCTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)ignore (all )?(previous|prior) instructions|approve this|set confidence|system prompt")
        .expect("a pattern")
});

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
    let state = |value: &Value| {
        Some(text(value).to_uppercase()).filter(|t| t.len() == 3 && t.bytes().all(|b| b.is_ascii_alphabetic()))
    };
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

pub(super) fn check(request: &Value, task: &Value) -> Check {
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
                apart
                    .push(json!({ "field": "applicant.name", "declared": applicant["name"], "document": on_document }));
            }
            if !apart.is_empty() {
                check.found.push(finding(
                    "gate",
                    "DOC_MISMATCH",
                    "the document says otherwise",
                    json!({ "differences": apart }),
                ));
            }
            if let Some(score) = likeness.filter(|l| (0.8..=0.999).contains(l)) {
                check.likeness = score;
                check.questions.push((
                    "name_comparison",
                    json!({ "declared": applicant["name"], "document": on_document,
                    "score": rounded(score), "round": task["round"], "question": task["question"] }),
                ));
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
