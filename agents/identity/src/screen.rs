//! From a likeness of names to a judgement: the second identifier decides.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Thresholds;
use crate::lists::{Birth, Listed, Lists, squeeze};
use crate::matching::{Name, Score};

/// Most matches that are reported, the most alike first. All are judged.
const REPORTED: usize = 10;

/// What is known of the applicant.
#[derive(Debug)]
pub(crate) struct Person<'a> {
    pub(crate) name: &'a Name,
    pub(crate) birth_date: Option<Date>,
    pub(crate) number: Option<&'a str>,
}

/// Someone on a list with a similar name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Match {
    /// The list.
    pub list: String,
    /// The entry's id on it.
    pub entry: String,
    /// The listed name that is most alike.
    pub listed_name: String,
    /// How alike, 0 to 1.
    pub score: f64,
    /// `parts` or `full`: what gave the score.
    pub by: String,
    /// Whether all parts sound alike (Soundex).
    pub sounds_alike: bool,
    /// What a second identifier says.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// What a second identifier says about a similar name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is someone else.
    Cleared,
    /// It may be the listed person.
    Possible,
    /// It is the listed person, as far as two identifiers can say.
    Confirmed,
}

/// Everyone on a list whose name is alike, the most serious first.
pub(crate) fn screen(person: &Person<'_>, lists: &Lists, thresholds: &Thresholds) -> Vec<Match> {
    let mut matches: Vec<Match> =
        lists.people.iter().filter_map(|listed| match_with(person, listed, thresholds)).collect();
    matches.sort_by(|a, b| b.verdict.cmp(&a.verdict).then(b.score.total_cmp(&a.score)));
    matches.truncate(REPORTED);
    matches
}

fn match_with(person: &Person<'_>, listed: &Listed, thresholds: &Thresholds) -> Option<Match> {
    let scored = listed.names.iter().map(|name| (person.name.score(name), name));
    let alike = |score: &Score| {
        score.value >= thresholds.match_threshold
            || (score.sounds_alike && score.value >= thresholds.sounds_alike_threshold)
    };
    let (score, name) = scored.filter(|(s, _)| alike(s)).max_by(|a, b| a.0.value.total_cmp(&b.0.value))?;
    let (verdict, reason) = judge(person, listed, score.value, thresholds);
    Some(Match {
        list: listed.list.to_owned(),
        entry: listed.entry.clone(),
        listed_name: name.text().to_owned(),
        score: (score.value * 1000.0).round() / 1000.0,
        by: if score.by_parts { "parts" } else { "full" }.to_owned(),
        sounds_alike: score.sounds_alike,
        verdict,
        reason,
    })
}

/// The number, then the date of birth. Only a date that clearly differs clears; nothing known clears nothing.
fn judge(person: &Person<'_>, listed: &Listed, score: f64, thresholds: &Thresholds) -> (Verdict, String) {
    if let Some(number) = person.number.map(squeeze).filter(|n| listed.numbers.contains(n)) {
        return (Verdict::Confirmed, format!("the document number {number} is the listed person's"));
    }
    let Some(born) = person.birth_date else {
        return (Verdict::Possible, "the applicant's date of birth is not known".to_owned());
    };
    if listed.births.is_empty() {
        return (Verdict::Possible, "the listed person's date of birth is not known".to_owned());
    }
    if listed.births.contains(&Birth::Day(born)) {
        let verdict = if score >= thresholds.confirm_threshold { Verdict::Confirmed } else { Verdict::Possible };
        return (verdict, format!("both were born on {born}"));
    }
    let tolerance = thresholds.birth_year_tolerance;
    if let Some(near) = listed.births.iter().find(|b| may_be(**b, born, tolerance)) {
        return (Verdict::Possible, format!("born on {born}; the listed person {near}, which may be the same"));
    }
    let listed: Vec<String> = listed.births.iter().take(4).map(ToString::to_string).collect();
    (Verdict::Cleared, format!("born on {born}; the listed person {}", listed.join(" or ")))
}

/// Whether a listed date and a declared one may be one person's: days and months get confused, years are estimated.
fn may_be(listed: Birth, born: Date, tolerance: u16) -> bool {
    let (from, to) = match listed {
        Birth::Day(date) => (date.year(), date.year()),
        Birth::Years(from, to) => (from, to),
        // "About" is meant wider than a slip of the pen.
        Birth::About(year) => (year.saturating_sub(1), year.saturating_add(1)),
    };
    let (year, tolerance) = (i32::from(born.year()), i32::from(tolerance));
    (i32::from(from) - tolerance..=i32::from(to) + tolerance).contains(&year)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::lists::ListFiles;

    fn first(name: &str, born: Option<Date>, number: Option<&str>) -> Option<(Verdict, f64)> {
        let lists = Lists::load(&ListFiles::default()).unwrap();
        let name = Name::new(name).unwrap();
        let person = Person { name: &name, birth_date: born, number };
        screen(&person, &lists, &Thresholds::default()).first().map(|m| (m.verdict, m.score))
    }

    #[test]
    fn the_date_of_birth_decides() {
        assert_eq!(first("DORYAN QUILFEATHER", Some(date(1978, 9, 9)), None), Some((Verdict::Possible, 0.953)));
        assert_eq!(first("DORIAN QUILLER", Some(date(1991, 3, 30)), None), Some((Verdict::Cleared, 0.958)));
        assert_eq!(
            first("Dorian Octavius Quillfeather", Some(date(1978, 9, 9)), None),
            Some((Verdict::Confirmed, 1.0))
        );
    }

    #[test]
    fn what_is_not_known_clears_nothing() {
        assert_eq!(first("DORIAN QUILLER", None, None), Some((Verdict::Possible, 0.958)));
        let undated = first("Peregrine Zephyrwhistle Oakenshaw", Some(date(1990, 1, 1)), None);
        assert_eq!(undated, Some((Verdict::Possible, 1.0)));
    }

    #[test]
    fn a_slip_in_the_date_does_not_clear() {
        for born in [date(1978, 9, 8), date(1978, 12, 31), date(1977, 9, 9), date(1979, 1, 1)] {
            assert_eq!(first("Dorian Quillfeather", Some(born), None).unwrap().0, Verdict::Possible, "{born}");
        }
        assert_eq!(first("Dorian Quillfeather", Some(date(1976, 9, 9)), None).unwrap().0, Verdict::Cleared);
    }

    #[test]
    fn estimated_years_are_wide() {
        for (year, verdict) in
            [(1958, Verdict::Cleared), (1959, Verdict::Possible), (1963, Verdict::Possible), (1964, Verdict::Cleared)]
        {
            assert_eq!(first("Ottoline Brackenwhistle", Some(date(year, 1, 1)), None).unwrap().0, verdict, "{year}");
        }
    }

    #[test]
    fn the_number_confirms_whatever_the_date() {
        let found = first("Otoline Brackenwhistle", Some(date(1999, 1, 1)), Some("ut-999 0002"));
        assert_eq!(found.unwrap().0, Verdict::Confirmed);
    }

    #[test]
    fn aliases_count() {
        assert_eq!(first("Osric Greymantle", Some(date(1978, 9, 9)), None), Some((Verdict::Confirmed, 1.0)));
        assert_eq!(first("Tib Vanterplum", Some(date(1969, 4, 2)), None), Some((Verdict::Confirmed, 1.0)));
    }

    #[test]
    fn applicants_of_the_demo_are_like_nobody() {
        for name in ["Ava Marie Specimen", "Jon Albert Specimen", "Mallory Specimen", "Trent Specimen", "Leo Specimen"]
        {
            assert_eq!(first(name, None, None), None, "{name}");
        }
    }
}
