//! Instructions hidden in what is only data. Whoever wrote it may hope that a model reads it.
//!
//! Found by rule, not by a model, in the text as it stands and in the forms it may be disguised in. What is found is put on
//! record and decides nothing; a text that nothing is found in is no less fenced. The families follow what public
//! lists of attacks on language models have in common; the words are our own.

mod disguise;
mod rules;
mod sentences;
mod triggers;

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::visible::{Look, is_plain, look};
pub use sentences::without;

/// Longest excerpt that is kept as evidence, in characters.
pub const EXCERPT: usize = 160;
/// Most signs of one text.
pub const MOST: usize = 12;
/// So many bytes of a text are searched: far more than a model is shown of it.
pub const SEARCHED: usize = 256 * 1024;
/// Disguised forms are looked for in so many bytes of its beginning.
pub const DISGUISED_WITHIN: usize = 64 * 1024;

/// What an instruction tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// It asks for a decision.
    AsksForDecision,
    /// It wants rules or earlier instructions set aside, or brings new ones.
    SetsRulesAside,
    /// It gives the reader a role, a mode, a game.
    AssignsRole,
    /// It poses as the system, the developer or an earlier turn.
    PosesAsSystem,
    /// It dictates an answer, or parts of one.
    DictatesAnswer,
    /// It asks for silence.
    AsksForSilence,
    /// It says that something is decided or checked already.
    AssertsOutcome,
    /// It wants to see instructions or secrets.
    LeaksPrompt,
    /// It poses as what a tool returned.
    ForgesToolResult,
    /// It wants a tool called.
    CallsTool,
    /// It poses as the end of the data.
    ForgesDelimiter,
    /// It presses: urgency, authority, threat, reward.
    Presses,
    /// It wants data sent somewhere.
    SendsDataOut,
    /// It is written so that a person does not see it.
    HiddenText,
    /// It holds characters that a person does not see.
    UnseenCharacters,
}

/// The form in which it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disguise {
    /// As it stands.
    None,
    /// In another language than English.
    OtherLanguage,
    /// Letters that look like others.
    LookAlike,
    /// Blanks or marks between letters.
    Spaced,
    /// Digits for letters.
    Leet,
    /// Back to front.
    Reversed,
    /// Letters moved by thirteen.
    Rot13,
    /// Base64.
    Base64,
    /// Hex digits.
    Hex,
    /// Percent signs, entities or escapes.
    Escaped,
    /// Characters that are not drawn.
    Invisible,
}

/// An instruction that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sign {
    /// What it tries.
    pub family: Family,
    /// The form it was found in.
    pub disguise: Disguise,
    /// Its words: at most [`EXCERPT`] characters, folded to plain letters, out of their disguise.
    pub excerpt: String,
}

/// The instructions in `text`, one of each family, at most [`MOST`]; of a long text, in its first [`SEARCHED`] bytes.
pub fn scan(text: &str) -> Vec<Sign> {
    let mut found = Found::default();
    let text = beginning(text, SEARCHED);
    let folded = fold(text);
    found.english(&folded, Disguise::None);
    found.other_languages(&lower(text), Disguise::OtherLanguage);
    let start = beginning(text, DISGUISED_WITHIN);
    let folded = if start.len() == text.len() { folded } else { fold(start) };
    found.hidden(start, &folded);
    for (disguise, form) in disguise::forms(start, &folded) {
        found.english(&fold(&form), disguise);
        found.other_languages(&lower(&form), disguise);
    }
    found.squeezed(&folded);
    found.signs
}

/// Whether [`scan`] would find an instruction, beside characters that are not seen.
pub fn is_instruction(text: &str) -> bool {
    scan(text).iter().any(|sign| sign.family != Family::UnseenCharacters)
}

fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[derive(Default)]
struct Found {
    signs: Vec<Sign>,
    families: BTreeSet<Family>,
}

impl Found {
    fn add(&mut self, family: Family, disguise: Disguise, words: &str) {
        if self.signs.len() < MOST && self.families.insert(family) {
            let excerpt = super::visible(words).chars().take(EXCERPT).collect();
            self.signs.push(Sign { family, disguise, excerpt });
        }
    }

    fn english(&mut self, folded: &str, disguise: Disguise) {
        for (family, words) in rules::english(folded) {
            self.add(family, disguise, words);
        }
    }

    fn other_languages(&mut self, lower: &str, disguise: Disguise) {
        for (family, words) in rules::other_languages(lower) {
            self.add(family, disguise, words);
        }
    }

    /// Text written so that a person does not see it, and characters that nobody sees.
    fn hidden(&mut self, text: &str, folded: &str) {
        for words in rules::hidden(folded) {
            self.add(Family::HiddenText, Disguise::None, words);
        }
        if let Some(words) = unseen(text) {
            self.add(Family::UnseenCharacters, Disguise::Invisible, &words);
        }
    }

    /// Letters alone, whatever stands between them.
    fn squeezed(&mut self, folded: &str) {
        let letters: String = folded.chars().filter(char::is_ascii_alphanumeric).collect();
        for (family, words) in rules::squeezed(&letters) {
            self.add(family, Disguise::Spaced, words);
        }
    }
}

/// Small ASCII letters and single blanks: letters with marks, other alphabets, invisible characters and line breaks
/// hide nothing.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    if is_folded(text) {
        return Cow::Borrowed(text);
    }
    let seen = unjoined(text);
    let plain = if seen.is_ascii() { seen } else { Cow::Owned(deunicode::deunicode(&seen)) };
    let mut folded = String::with_capacity(plain.len());
    for word in plain.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    folded.make_ascii_lowercase();
    Cow::Owned(folded)
}

/// Whether [`fold`] has nothing to do.
fn is_folded(text: &str) -> bool {
    let mut before = b' ';
    let fits = text.bytes().all(|byte| {
        let fits = matches!(byte, b'!'..=b'~' if !byte.is_ascii_uppercase()) || (byte == b' ' && before != b' ');
        before = byte;
        fits
    });
    fits && (before != b' ' || text.is_empty())
}

/// Small letters of all alphabets, without the characters that are not seen.
fn lower(text: &str) -> Cow<'_, str> {
    match unjoined(text) {
        Cow::Borrowed(text) if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) => {
            Cow::Borrowed(text)
        }
        seen => Cow::Owned(seen.to_lowercase()),
    }
}

/// Without the characters that are not seen.
fn unjoined(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    text.chars().filter(|c| matches!(look(*c), Look::Seen)).collect()
}

/// What of the characters that nobody sees has no honest use in a document.
fn unseen(text: &str) -> Option<String> {
    if is_plain(text) {
        return None;
    }
    let (mut turns, mut tags, mut controls, mut within_words) = (0usize, 0usize, 0usize, 0usize);
    let (mut before, mut joined) = (' ', false);
    for c in text.chars() {
        match look(c) {
            Look::Turns => turns += 1,
            Look::Tag => tags += 1,
            Look::Controls => controls += 1,
            // A soft hyphen says where an honest word may be broken.
            Look::Joins => joined = c != '\u{ad}' && before.is_ascii_alphabetic(),
            Look::Seen => {
                within_words += usize::from(joined && c.is_ascii_alphabetic());
                (before, joined) = (c, false);
            }
        }
    }
    let kinds = [
        (turns, 1, "that turn the direction of writing"),
        (tags, 1, "that copy ASCII unseen"),
        (controls, 1, "that control a terminal"),
        (within_words, 2, "without width within words"),
    ];
    let found: Vec<String> =
        kinds.iter().filter(|(n, least, _)| n >= least).map(|(n, _, what)| format!("{n} characters {what}")).collect();
    (!found.is_empty()).then(|| found.join(", "))
}

#[cfg(test)]
mod tests;
