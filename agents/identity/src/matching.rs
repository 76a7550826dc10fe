//! How alike two names are, as OFAC describes its own search: Jaro-Winkler over the whole string, Jaro-Winkler and
//! Soundex over the parts, the higher score.
//!
//! The score is Jaro-Winkler's alone. Soundex widens the search instead: a name all of whose parts sound like parts of
//! a listed one is looked at from a lower score on. A score never decides anything: a second identifier does.

use std::sync::LazyLock;

use rphonetic::{Encoder as _, Soundex};

/// Most parts of a name that are compared.
const MAX_PARTS: usize = 12;

static SOUNDEX: LazyLock<Soundex> = LazyLock::new(Soundex::default);

/// A name, prepared for comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    text: String,
    full: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    text: String,
    sound: String,
}

/// How alike, and how it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    pub(crate) value: f64,
    pub(crate) by_parts: bool,
    pub(crate) sounds_alike: bool,
}

impl Name {
    /// Prepares a name; `None` if no letter of it can be written in A–Z.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let plain = deunicode::deunicode(&text.replace(['\'', '’', '`'], "")).to_ascii_uppercase();
        let words = plain.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).take(MAX_PARTS);
        let parts: Vec<Part> = words.map(|w| Part { text: w.to_owned(), sound: SOUNDEX.encode(w) }).collect();
        let full = parts.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(" ");
        (!parts.is_empty()).then(|| Self { text: text.to_owned(), full, parts })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// How alike this name is to a listed one.
    pub(crate) fn score(&self, listed: &Self) -> Score {
        let full = strsim::jaro_winkler(&self.full, &listed.full);
        let parts = self.score_by_parts(listed);
        let sounds = |part: &Part| !part.sound.is_empty() && listed.parts.iter().any(|l| l.sound == part.sound);
        Score {
            value: full.max(parts),
            by_parts: parts > full,
            sounds_alike: self.parts.len() > 1 && self.parts.iter().all(sounds),
        }
    }

    /// The mean over this name's parts of the best that a part of the listed name gives, each taken once.
    fn score_by_parts(&self, listed: &Self) -> f64 {
        let mut pairs: Vec<(f64, usize, usize)> = Vec::with_capacity(self.parts.len() * listed.parts.len());
        for (i, part) in self.parts.iter().enumerate() {
            for (j, other) in listed.parts.iter().enumerate() {
                pairs.push((strsim::jaro_winkler(&part.text, &other.text), i, j));
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut taken, mut used) = ([false; MAX_PARTS], [false; MAX_PARTS]);
        let mut sum = 0.0;
        for (score, i, j) in pairs {
            if !taken[i] && !used[j] {
                (taken[i], used[j]) = (true, true);
                sum += score;
            }
        }
        sum / f64::from(u32::try_from(self.parts.len()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(name: &str, listed: &str) -> Score {
        Name::new(name).unwrap().score(&Name::new(listed).unwrap())
    }

    const LISTED: &str = "Dorian Octavius QUILLFEATHER";

    #[test]
    fn the_name_alone_misleads() {
        let near = score("DORYAN QUILFEATHER", LISTED);
        let unrelated = score("DORIAN QUILLER", LISTED);
        assert!((near.value - 0.953).abs() < 0.0005, "{near:?}");
        assert!((unrelated.value - 0.958).abs() < 0.0005, "{unrelated:?}");
        assert!(near.value < unrelated.value);
        assert!(near.sounds_alike && !unrelated.sounds_alike);
    }

    #[test]
    fn order_case_and_marks_do_not_matter() {
        for name in ["quillfeather dorian octavius", "Dorian-Octavius Quillfeather", "Dórian Octávius Quillfeather"] {
            assert!(score(name, LISTED).value > 0.999, "{name}");
        }
        assert!(score("Дориан Октавиус Квиллфезер", LISTED).value > 0.8, "transliterated");
    }

    #[test]
    fn a_part_is_not_matched_twice() {
        assert!(score("DORIAN DORIAN", LISTED).value < 0.85);
    }

    #[test]
    fn unrelated_names_stay_low() {
        for name in ["AVA MARIE SPECIMEN", "JOHN ALBERT SPECIMEN", "MALLORY SPECIMEN", "LEO SPECIMEN", "A", "1234"] {
            assert!(score(name, LISTED).value < 0.85, "{name}: {:?}", score(name, LISTED));
        }
    }

    #[test]
    fn odd_names_are_no_trouble() {
        assert_eq!(Name::new(""), None);
        assert_eq!(Name::new(" -- ' "), None);
        let long = "ab ".repeat(10_000);
        assert!(score(&long, LISTED).value < 0.8);
    }
}
