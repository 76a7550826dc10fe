//! The UN Security Council's consolidated list, XML.

use jiff::civil::Date;
use serde::Deserialize;

use super::{Birth, ListError, Listed, squeeze};
use crate::matching::Name;

pub(super) const LIST: &str = "UN consolidated";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(rename = "@dateGenerated")]
    generated: Option<String>,
    #[serde(rename = "INDIVIDUALS")]
    individuals: Individuals,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Individuals {
    #[serde(rename = "INDIVIDUAL")]
    individual: Vec<Individual>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Individual {
    #[serde(rename = "DATAID")]
    data_id: Option<String>,
    #[serde(rename = "REFERENCE_NUMBER")]
    reference: Option<String>,
    #[serde(rename = "FIRST_NAME")]
    first: Option<String>,
    #[serde(rename = "SECOND_NAME")]
    second: Option<String>,
    #[serde(rename = "THIRD_NAME")]
    third: Option<String>,
    #[serde(rename = "FOURTH_NAME")]
    fourth: Option<String>,
    #[serde(rename = "INDIVIDUAL_ALIAS")]
    aliases: Vec<Alias>,
    #[serde(rename = "INDIVIDUAL_DATE_OF_BIRTH")]
    births: Vec<BirthElement>,
    #[serde(rename = "INDIVIDUAL_DOCUMENT")]
    documents: Vec<DocumentElement>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Alias {
    #[serde(rename = "ALIAS_NAME")]
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BirthElement {
    #[serde(rename = "TYPE_OF_DATE")]
    kind: Option<String>,
    #[serde(rename = "DATE")]
    date: Option<String>,
    #[serde(rename = "YEAR")]
    year: Option<String>,
    #[serde(rename = "FROM_YEAR")]
    from: Option<String>,
    #[serde(rename = "TO_YEAR")]
    to: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DocumentElement {
    #[serde(rename = "NUMBER")]
    number: Option<String>,
}

/// The people on it, and when it was made.
pub(super) fn read(bytes: &[u8]) -> Result<(Vec<Listed>, Option<String>), ListError> {
    let format = |reason: String| ListError::Format { list: LIST, reason };
    let document: Document = quick_xml::de::from_reader(bytes).map_err(|e| format(e.to_string()))?;
    let people = document.individuals.individual.iter().map(listed).filter(|p| !p.names.is_empty());
    Ok((people.collect(), document.generated))
}

fn listed(individual: &Individual) -> Listed {
    let parts = [&individual.first, &individual.second, &individual.third, &individual.fourth];
    let full: Vec<&str> = parts.iter().filter_map(|p| p.as_deref()).collect();
    let aliases = individual.aliases.iter().filter_map(|a| a.name.as_deref());
    let names = std::iter::once(full.join(" ").as_str()).chain(aliases).filter_map(Name::new).collect();
    let numbers = individual.documents.iter().filter_map(|d| d.number.as_deref()).map(squeeze);
    Listed {
        list: LIST,
        entry: individual.reference.clone().or_else(|| individual.data_id.clone()).unwrap_or_default(),
        names,
        births: individual.births.iter().filter_map(birth).collect(),
        numbers: numbers.filter(|n| n.len() >= 4).collect(),
    }
}

fn birth(element: &BirthElement) -> Option<Birth> {
    let about = element.kind.as_deref().is_some_and(|k| k.eq_ignore_ascii_case("approximately"));
    // Some dates carry a time or a zone; the day is what comes first.
    let day = element.date.as_deref().and_then(|d| d.trim().get(..10)).and_then(|d| d.parse::<Date>().ok());
    if let Some(day) = day {
        return Some(if about { Birth::About(day.year()) } else { Birth::Day(day) });
    }
    let number = |text: &Option<String>| text.as_deref().and_then(|t| t.trim().parse::<i16>().ok());
    match (number(&element.year), number(&element.from), number(&element.to)) {
        (Some(year), ..) if about => Some(Birth::About(year)),
        (Some(year), ..) => Some(Birth::Years(year, year)),
        (None, Some(from), Some(to)) => Some(Birth::Years(from, to)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn the_shipped_list_is_read_whole() {
        let (people, generated) = read(include_bytes!("../../data/un.xml")).unwrap();
        assert_eq!(generated.as_deref(), Some("2026-11-01T00:00:00.000Z"));
        let names: Vec<&str> = people[0].names.iter().map(Name::text).collect();
        assert_eq!(names, ["TIBERIUS ALOYSIUS VANTERPLUME", "Tib Vanterplum", "The Plume"]);
        assert_eq!(people[0].births, [Birth::Day(date(1969, 4, 2))]);
        assert_eq!(people[0].numbers, ["UT9990101"]);
        assert_eq!(people[1].births, [Birth::Years(1970, 1973), Birth::About(1980)]);
        assert_eq!(people[1].names.len(), 1, "an empty alias is none");
    }

    #[test]
    fn what_is_no_list_is_an_error_or_names_nobody() {
        for bytes in [&b"<CONSOLIDATED_LIST><INDIVIDUALS>"[..], b"\xff\xff", b"not xml <"] {
            assert!(read(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(read(b"<CONSOLIDATED_LIST/>").unwrap().0.is_empty());
    }

    #[test]
    fn entities_of_the_document_type_are_not_expanded() {
        let bomb = br#"<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
            <CONSOLIDATED_LIST><INDIVIDUALS><INDIVIDUAL><FIRST_NAME>&b;</FIRST_NAME></INDIVIDUAL></INDIVIDUALS></CONSOLIDATED_LIST>"#;
        let read = read(bomb);
        assert!(read.is_err() || read.unwrap().0.is_empty());
    }
}
