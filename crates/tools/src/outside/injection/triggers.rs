//! Which rules are worth trying on a text: those of which it has a word to begin with and a word to end with.
//!
//! All those words are looked for at once. A single automaton of all rules would be faster still on most texts, and many
//! times slower on some: it has a state for every distance that any of them has come.

use aho_corasick::AhoCorasick;
use regex_syntax::hir::literal::{ExtractKind, Extractor, Seq};

/// The words of a list of patterns.
pub(super) struct Triggers {
    words: Option<AhoCorasick>,
    /// For each word the pattern that begins or ends with it, and which.
    of: Vec<(usize, u8)>,
    /// What each pattern needs beside the words of a text; all of it is there if it has none to look for.
    open: Vec<u8>,
}

const BEGINS: u8 = 1;
const ENDS: u8 = 2;

impl Triggers {
    pub(super) fn of<'a>(patterns: impl Iterator<Item = &'a str>) -> Self {
        let mut words: Vec<Vec<u8>> = Vec::new();
        let (mut of, mut open) = (Vec::new(), Vec::new());
        for (at, pattern) in patterns.enumerate() {
            let mut given = 0;
            for (end, kind) in [(BEGINS, ExtractKind::Prefix), (ENDS, ExtractKind::Suffix)] {
                match said(pattern, kind) {
                    Some(said) => {
                        of.extend(said.iter().map(|_| (at, end)));
                        words.extend(said);
                    }
                    None => given |= end,
                }
            }
            open.push(given);
        }
        let words = AhoCorasick::new(&words)
            .inspect_err(|error| tracing::error!(%error, "the words of the rules cannot be looked for together"))
            .ok();
        Self { words, of, open }
    }

    /// For each pattern, whether it can be found in `text`. Where this says no, it is not there.
    pub(super) fn within(&self, text: &str) -> Vec<bool> {
        let Some(words) = &self.words else { return vec![true; self.open.len()] };
        let mut there = self.open.clone();
        for word in words.find_overlapping_iter(text) {
            let (at, end) = self.of[word.pattern().as_usize()];
            there[at] |= end;
        }
        there.into_iter().map(|there| there == BEGINS | ENDS).collect()
    }
}

/// The words one of which stands at this end of whatever the pattern matches; `None` if it may be anything.
fn said(pattern: &str, kind: ExtractKind) -> Option<Vec<Vec<u8>>> {
    let parsed = regex_syntax::parse(pattern).ok()?;
    let mut extractor = Extractor::new();
    let mut said: Seq = extractor.kind(kind).extract(&parsed);
    said.dedup();
    let said: Vec<Vec<u8>> = said.literals()?.iter().map(|word| word.as_bytes().to_vec()).collect();
    said.iter().all(|word| !word.is_empty()).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_tried_where_both_its_ends_are() {
        let triggers =
            Triggers::of([r"\b(approve|pass)\b.{0,14}\b(cases?|client)\b", r"\w+ now", r".{0,9}"].into_iter());
        for (text, there) in [
            ("approve this client", [true, false, true]),
            ("a client to approve", [true, false, true]),
            ("approve this", [false, false, true]),
            ("case now", [false, true, true]),
            ("", [false, false, true]),
        ] {
            assert_eq!(triggers.within(text), there, "{text:?}");
        }
    }
}
