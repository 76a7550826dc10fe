//! Dead letters by error: what differs from letter to letter (numbers, ids, quoted words) is taken out of the message.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anabranch_protocol::Timestamp;
use serde::Serialize;

use super::letter::{Letter, LetterId};
use crate::console::plain;

/// Most kinds of error that are told apart.
const MOST: usize = 5_000;
/// What stands for the rest.
const REST: &str = "(more kinds of error than are told apart)";
/// Most characters of a message that are looked at.
const LOOKED_AT: usize = 400;
/// Longest quoted text that is taken out as one.
const QUOTED: usize = 200;

/// Letters that say the same.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Group {
    pub(super) count: u64,
    /// When the first and the last of them were given up.
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) agent: Option<String>,
    pub(super) class: Option<String>,
    /// The topic whose dead letters they are.
    pub(super) topic: String,
    /// The error without what differs.
    pub(super) error: String,
    /// The last of them.
    pub(super) example: LetterId,
}

/// The kinds of error there are.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<(String, Option<String>, Option<String>, String), Group>);

impl Groups {
    pub(super) fn add(&mut self, letter: &Letter) {
        let (topic, words) = (letter.id.origin().to_owned(), |text: &Option<String>| text.as_deref().map(plain));
        let mut key = (topic, words(&letter.agent), words(&letter.class), normalised(&letter.message));
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            key = (key.0, None, None, REST.to_owned());
        }
        match self.0.entry(key) {
            Entry::Occupied(group) => {
                let group = group.into_mut();
                group.count += 1;
                group.first = group.first.min(letter.at);
                if letter.at >= group.last {
                    group.last = letter.at;
                    group.example = letter.id.clone();
                }
            }
            Entry::Vacant(vacant) => {
                let (topic, agent, class, error) = vacant.key().clone();
                let (first, last, example) = (letter.at, letter.at, letter.id.clone());
                vacant.insert(Group { count: 1, first, last, agent, class, topic, error, example });
            }
        }
    }

    /// All of them, the most frequent first.
    pub(super) fn most_frequent_first(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.0.into_values().collect();
        groups.sort_by(|a, b| b.count.cmp(&a.count).then(b.last.cmp(&a.last)));
        groups
    }
}

/// A message without what differs from letter to letter. Status codes of HTTP stay.
pub(super) fn normalised(message: &str) -> String {
    let text: Vec<char> = plain(&message.replace(['\n', '\t'], " ")).chars().take(LOOKED_AT).collect();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(&c) = text.get(at) {
        let begins = at == 0 || !text[at - 1].is_alphanumeric();
        let quoted = matches!(c, '"' | '`') || (c == '\'' && begins);
        let closing = quoted.then(|| text[at + 1..].iter().take(QUOTED).position(|other| *other == c)).flatten();
        if let Some(length) = closing {
            out.extend([c, '…', c]);
            at += length + 2;
        } else if c.is_ascii_alphanumeric() {
            let word: String =
                text[at..].iter().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
            at += word.len();
            out.push_str(&without_numbers(&word));
        } else {
            out.push(c);
            at += 1;
        }
    }
    out
}

fn without_numbers(word: &str) -> String {
    if !word.contains(|c: char| c.is_ascii_digit()) {
        return word.to_owned();
    }
    let is_status = word.len() == 3 && word.starts_with(['4', '5']) && word.bytes().all(|b| b.is_ascii_digit());
    if is_status {
        return word.to_owned();
    }
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    if word.len() >= 8 && word.chars().all(hex) && word.contains(|c: char| !c.is_ascii_digit()) {
        return "ID".to_owned();
    }
    let mut out = String::new();
    for c in word.chars() {
        match c.is_ascii_digit() {
            false => out.push(c),
            true if !out.ends_with('#') => out.push('#'),
            true => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::commands::dlq::letter::example;

    #[test]
    fn what_differs_is_taken_out() {
        for (message, expected) in [
            ("expected value at line 1 column 17", "expected value at line # column #"),
            ("no customer 'AVA 12'", "no customer '…'"),
            ("can't read it", "can't read it"),
            ("task 01998a4c-7f3e-7c1b-9d2e-0a4f6f1c2b3d failed", "task ID failed"),
            ("HTTP 503 after 1200 ms from 10.0.0.1:8080", "HTTP 503 after # ms from #.#.#.#:#"),
            ("case-17 and gpt-4o", "case-# and gpt-#o"),
            ("a \"quote that never ends", "a \"quote that never ends"),
            ("two\nlines\u{1b}[2J", "two lines\u{FFFD}[#J"),
            ("", ""),
        ] {
            assert_eq!(normalised(message), expected);
        }
    }

    #[test]
    fn letters_that_say_the_same_are_one_group() {
        let mut groups = Groups::default();
        for (offset, message) in [(1, "no row 17"), (3, "no row 18"), (2, "no row 19"), (4, "boom")] {
            groups.add(&example("kyc.tasks.identity", offset, &[], b"{}", message));
        }
        let groups = groups.most_frequent_first();
        let shown: Vec<(u64, &str, i64)> = groups.iter().map(|g| (g.count, &*g.error, g.example.offset)).collect();
        assert_eq!(shown, [(3, "no row #", 3), (1, "boom", 4)]);
        assert_eq!((groups[0].first.as_millis(), groups[0].last.as_millis()), (2_001, 2_003));
    }

    #[test]
    fn kinds_of_error_are_bounded() {
        let mut groups = Groups::default();
        let letter = |n: usize| {
            let word: String = n.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            example("kyc.tasks.identity", 1, &[], b"{}", &word)
        };
        (0..MOST + 10).for_each(|n| groups.add(&letter(n)));
        let groups = groups.most_frequent_first();
        assert_eq!((groups.len(), groups[0].count, &*groups[0].error), (MOST + 1, 10, REST));
    }

    proptest! {
        #[test]
        fn other_numbers_make_no_other_error(
            message in "\\PC{0,80}|[\"'`a-f0-9 -]{0,80}",
            numbers in (1_000u64.., 1_000u64..),
        ) {
            prop_assert!(!normalised(&message).chars().any(char::is_control));
            let with = |number: u64| normalised(&format!("row {number} of table-{number}: {message}"));
            prop_assert_eq!(with(numbers.0), with(numbers.1));
        }
    }
}
