//! OFAC's `SDN.CSV` and `ALT.CSV`: no header row, 12 and 5 columns, `-0-` for null, identifiers in prose in the remarks.

use std::collections::HashMap;
use std::sync::LazyLock;

use csv::{ByteRecord, ReaderBuilder};
use jiff::civil::Date;
use regex::Regex;

use super::{Birth, ListError, Listed, squeeze};
use crate::matching::Name;

pub(super) const LIST: &str = "OFAC SDN";

const ENT_NUM: usize = 0;
const NAME: usize = 1;
const TYPE: usize = 2;
const REMARKS: usize = 11;
const ALT_NAME: usize = 3;

/// `Passport A123 (Utopia) expires …`, `National ID No. 61-7734-X (Utopia)`, `Identification Number 5`.
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = r"(?i)^(?:alt\. )?(?:diplomatic )?(?:passport|national id(?: no\.)?|identification number|identity card|id no\.)\s+(?:#\s*)?([a-z0-9][a-z0-9 ./-]*)";
    Regex::new(words).ok()
});

/// The people of the two files.
pub(super) fn read(sdn: &[u8], alt: &[u8]) -> Result<Vec<Listed>, ListError> {
    let mut aliases: HashMap<String, Vec<Name>> = HashMap::new();
    for record in records(alt) {
        let record = record?;
        if let (Some(entry), Some(name)) = (field(&record, ENT_NUM), field(&record, ALT_NAME)) {
            aliases.entry(entry).or_default().extend(Name::new(&first_name_first(&name)));
        }
    }
    let mut people = Vec::new();
    for record in records(sdn) {
        let record = record?;
        let is_person = field(&record, TYPE).is_some_and(|t| t.eq_ignore_ascii_case("individual"));
        let (Some(entry), Some(name), true) = (field(&record, ENT_NUM), field(&record, NAME), is_person) else {
            continue;
        };
        let remarks = field(&record, REMARKS).unwrap_or_default();
        let mut names: Vec<Name> = Name::new(&first_name_first(&name)).into_iter().collect();
        names.extend(aliases.remove(&entry).unwrap_or_default());
        let (births, numbers) = identifiers(&remarks);
        people.push(Listed { list: LIST, entry, names, births, numbers });
    }
    Ok(people)
}

/// The files end with a control character of DOS, are not always UTF-8, and their rows are not always complete.
fn records(bytes: &[u8]) -> impl Iterator<Item = Result<ByteRecord, ListError>> + '_ {
    let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    reader.into_byte_records().map(|r| r.map_err(|e| ListError::Format { list: LIST, reason: e.to_string() }))
}

fn field(record: &ByteRecord, column: usize) -> Option<String> {
    let text = String::from_utf8_lossy(record.get(column)?).trim().to_owned();
    (!text.is_empty() && text != "-0-" && text != "\u{1a}").then_some(text)
}

/// `QUILLFEATHER, Dorian Octavius` as people say it.
fn first_name_first(name: &str) -> String {
    match name.split_once(',') {
        Some((last, first)) => format!("{} {}", first.trim(), last.trim()),
        None => name.to_owned(),
    }
}

fn identifiers(remarks: &str) -> (Vec<Birth>, Vec<String>) {
    let mut births = Vec::new();
    let mut numbers = Vec::new();
    for clause in remarks.split(';').map(|c| c.trim().trim_end_matches('.')) {
        let clause_without_alt = clause.strip_prefix("alt. ").unwrap_or(clause);
        if let Some(date) = clause_without_alt.strip_prefix("DOB ") {
            births.extend(birth(date.trim()));
        } else if let Some(found) = NUMBER.as_ref().and_then(|n| n.captures(clause)) {
            let number = squeeze(found.get(1).map(|m| m.as_str()).unwrap_or_default());
            // The pattern runs on into words; a number ends where its last digit is.
            let end = number.rfind(|c: char| c.is_ascii_digit()).map_or(0, |at| at + 1);
            let with_letter = number.get(end..end + 1).filter(|_| number.len() == end + 1).unwrap_or_default();
            let number = format!("{}{with_letter}", number.get(..end).unwrap_or_default());
            if number.len() >= 4 {
                numbers.push(number);
            }
        }
    }
    (births, numbers)
}

/// `09 Sep 1978`, `Sep 1978`, `1978`, `circa 1961`, `1955 to 1957`, `09 Sep 1978 to 12 Oct 1978`.
fn birth(text: &str) -> Option<Birth> {
    if let Some(about) = text.strip_prefix("circa ") {
        return year(about).map(Birth::About);
    }
    if let Some((from, to)) = text.split_once(" to ") {
        return Some(Birth::Years(year(from)?, year(to)?));
    }
    match Date::strptime("%d %b %Y", text) {
        Ok(date) => Some(Birth::Day(date)),
        Err(_) => year(text).map(|y| Birth::Years(y, y)),
    }
}

fn year(text: &str) -> Option<i16> {
    let last = text.split_whitespace().last()?;
    last.parse().ok().filter(|year| (1800..2200).contains(year))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn remarks_are_read() {
        let (births, numbers) = identifiers(
            "DOB 09 Sep 1978; alt. DOB Mar 1979; alt. DOB circa 1961; DOB 1955 to 1957; POB Nowhere; \
             Passport UT9990002 (Utopia) expires 04 Mar 2031; National ID No. 61-7734-X (Utopia); Gender Male.",
        );
        assert_eq!(
            births,
            [Birth::Day(date(1978, 9, 9)), Birth::Years(1979, 1979), Birth::About(1961), Birth::Years(1955, 1957)]
        );
        assert_eq!(numbers, ["UT9990002", "617734X"]);
    }

    #[test]
    fn files_as_they_come() {
        let sdn = b"1,\"DOE, J\xe9r\xf4me\",\"individual\",\"T\",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- \r\n\
            2,\"SHORT ROW\",\"individual\"\r\n3,\"A SHIP\",\"vessel\"\r\n\x1a\r\n";
        let alt = b"1,7,\"aka\",\"ROE, John\",-0- \r\n9,8,\"aka\",\"NOBODY\",-0- \r\n\x1a";
        let people = read(sdn, alt).unwrap();
        assert_eq!(people.len(), 2);
        assert_eq!(people[0].names.len(), 2);
        assert_eq!(people[0].names[1].text(), "John ROE");
        assert!(people[1].births.is_empty() && people[1].numbers.is_empty());
    }

    #[test]
    fn garbage_names_nobody_and_does_not_panic() {
        for bytes in [&b""[..], b"\x00\xff\xfe", b"\"unclosed", b"<html>not a list</html>"] {
            assert!(read(bytes, bytes).unwrap().is_empty());
        }
    }

    #[test]
    fn absurd_dates_are_no_dates() {
        for text in ["", "99 Foo 1978x", "circa", "0000", "31 Feb 19"] {
            assert_eq!(birth(text), None, "{text}");
        }
    }
}
