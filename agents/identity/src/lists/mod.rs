//! Watchlists: who is on them. Loaders for OFAC's and the UN's formats, into one shape.

mod ofac;
mod un;

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::matching::Name;

/// Largest list that is read: OFAC's has 6 MB, the UN's 3.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// The version of the rows that the crate ships.
const SHIPPED: &str = "synthetic 2026-11";

/// `agents.identity.config.lists`: files to use instead of the synthetic rows that the crate ships. Paths are relative to
/// where the process runs. A file that is not named is not used, once one is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListFiles {
    /// OFAC's `SDN.CSV`.
    pub ofac_sdn: Option<PathBuf>,
    /// OFAC's `ALT.CSV`, the aliases to it.
    pub ofac_alt: Option<PathBuf>,
    /// The UN's consolidated list, XML.
    pub un: Option<PathBuf>,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than any list is.
    #[error("{path} has {bytes} bytes, more than the {MAX_BYTES} that a list may have")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is not in the format that it should have.
    #[error("{list} is not in its format: {reason}")]
    Format {
        /// Which list.
        list: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// Nobody is on it: a list that was cut off clears everyone.
    #[error("{0} names nobody")]
    Empty(&'static str),
}

/// A person on a list.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// The list.
    pub(crate) list: &'static str,
    /// The entry's id on it.
    pub(crate) entry: String,
    /// Name and aliases.
    pub(crate) names: Vec<Name>,
    /// Dates of birth, each possible.
    pub(crate) births: Vec<Birth>,
    /// Numbers of identity documents, capitals and digits only.
    pub(crate) numbers: Vec<String>,
}

/// A date of birth as lists have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Birth {
    /// A day.
    Day(Date),
    /// One of these years, both included.
    Years(i16, i16),
    /// About this year.
    About(i16),
}

impl std::fmt::Display for Birth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Day(date) => write!(f, "{date}"),
            Self::Years(from, to) if from == to => write!(f, "{from}"),
            Self::Years(from, to) => write!(f, "{from} to {to}"),
            Self::About(year) => write!(f, "about {year}"),
        }
    }
}

/// A list that was screened against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListVersion {
    /// Its name.
    pub list: String,
    /// Its version: when it was made or, for want of that, when the file was written.
    pub version: String,
    /// How many people are on it.
    pub people: usize,
}

/// All lists.
#[derive(Debug)]
pub(crate) struct Lists {
    pub(crate) people: Vec<Listed>,
    pub(crate) versions: Vec<ListVersion>,
}

/// A file's bytes and its version.
struct Source {
    bytes: Vec<u8>,
    version: String,
}

impl Source {
    fn shipped(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), version: SHIPPED.to_owned() }
    }

    fn file(path: &Path) -> Result<Self, ListError> {
        let failed = |source| ListError::Read { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.len() > MAX_BYTES {
            return Err(ListError::TooLarge { path: path.to_owned(), bytes: metadata.len() });
        }
        let written = metadata.modified().ok().and_then(|t| jiff::Timestamp::try_from(t).ok());
        let version = written.map_or_else(|| "unknown".to_owned(), |t| format!("file of {t:.0}"));
        Ok(Self { bytes: std::fs::read(path).map_err(failed)?, version })
    }
}

impl Lists {
    /// Reads the files, or what the crate ships if none is named.
    pub(crate) fn load(files: &ListFiles) -> Result<Self, ListError> {
        let named = [&files.ofac_sdn, &files.ofac_alt, &files.un].iter().any(|f| f.is_some());
        let source = |file: &Option<PathBuf>, shipped| match file {
            Some(path) => Source::file(path).map(Some),
            None => Ok((!named).then(|| Source::shipped(shipped))),
        };
        let sdn = source(&files.ofac_sdn, include_str!("../../data/sdn.csv"))?;
        let alt = source(&files.ofac_alt, include_str!("../../data/alt.csv"))?;
        let un = source(&files.un, include_str!("../../data/un.xml"))?;
        let mut lists = Self { people: Vec::new(), versions: Vec::new() };
        if let Some(sdn) = sdn {
            let people = ofac::read(&sdn.bytes, alt.as_ref().map(|a| a.bytes.as_slice()).unwrap_or_default())?;
            lists.add(ofac::LIST, sdn.version, people)?;
        }
        if let Some(un) = un {
            let (people, generated) = un::read(&un.bytes)?;
            lists.add(un::LIST, generated.unwrap_or(un.version), people)?;
        }
        Ok(lists)
    }

    fn add(&mut self, list: &'static str, version: String, people: Vec<Listed>) -> Result<(), ListError> {
        if people.is_empty() {
            return Err(ListError::Empty(list));
        }
        self.versions.push(ListVersion { list: list.to_owned(), version, people: people.len() });
        self.people.extend(people);
        Ok(())
    }
}

/// Capitals and digits only.
pub(crate) fn squeeze(number: &str) -> String {
    number.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rows_are_read() {
        let lists = Lists::load(&ListFiles::default()).unwrap();
        let entries: Vec<(&str, &str)> = lists.people.iter().map(|p| (p.list, p.entry.as_str())).collect();
        assert_eq!(
            entries,
            [
                ("OFAC SDN", "900001"),
                ("OFAC SDN", "900002"),
                ("OFAC SDN", "900004"),
                ("OFAC SDN", "900006"),
                ("UN consolidated", "TSi.001"),
                ("UN consolidated", "TSi.002"),
            ]
        );
        assert_eq!(lists.versions[1].version, "2026-11-01T00:00:00.000Z");
    }

    #[test]
    fn a_file_that_is_not_there_or_names_nobody_stops_the_start() {
        let files = ListFiles { un: Some("no/such/file.xml".into()), ..ListFiles::default() };
        assert!(Lists::load(&files).unwrap_err().to_string().starts_with("cannot read no/such/file.xml"));
        let mut lists = Lists { people: vec![], versions: vec![] };
        assert!(matches!(lists.add("OFAC SDN", String::new(), vec![]), Err(ListError::Empty("OFAC SDN"))));
    }
}
