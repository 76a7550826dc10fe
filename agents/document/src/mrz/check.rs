//! Check digits (ICAO 9303-3, 4.9): weights 7, 3, 1 repeating, the sum modulo 10.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the field is filled up with.
pub(super) const FILLER: u8 = b'<';

/// One check digit, as it should be and as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckDigit {
    /// What it is over.
    pub over: Checked,
    /// What the characters give.
    pub expected: char,
    /// What is printed.
    pub found: char,
    /// Whether it is right.
    pub valid: bool,
}

/// What a check digit is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// The document number.
    Number,
    /// The date of birth.
    BirthDate,
    /// The date of expiry.
    ExpiryDate,
    /// The optional data.
    OptionalData,
    /// Several fields and their check digits together.
    Composite,
}

impl CheckDigit {
    pub(super) fn new(over: Checked, characters: &[u8], found: u8) -> Self {
        let expected = digit(characters);
        // An empty optional field may have a filler instead of its zero.
        let empty = over == Checked::OptionalData && characters.iter().all(|c| *c == FILLER);
        let valid = found == expected || (empty && found == FILLER);
        Self { over, expected: char::from(expected), found: char::from(found), valid }
    }
}

/// The check digit of these characters, as a character.
pub(super) fn digit(characters: &[u8]) -> u8 {
    let weighted = characters.iter().zip([7u32, 3, 1].into_iter().cycle()).map(|(c, weight)| value(*c) * weight);
    // At most 90 characters of value 35: far from overflow, and the remainder is one digit.
    b'0' + u8::try_from(weighted.sum::<u32>() % 10).unwrap_or(0)
}

/// Digits as they are, A = 10 … Z = 35, filler 0.
fn value(character: u8) -> u32 {
    match character {
        b'0'..=b'9' => u32::from(character - b'0'),
        b'A'..=b'Z' => u32::from(character - b'A') + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard() {
        // ICAO 9303-3, 4.9: 520727 has the check digit 3; AB2134<<< has 5.
        assert_eq!(digit(b"520727"), b'3');
        assert_eq!(digit(b"AB2134<<<"), b'5');
    }

    #[test]
    fn only_empty_optional_data_may_go_without() {
        assert!(CheckDigit::new(Checked::OptionalData, b"<<<", b'<').valid);
        assert!(CheckDigit::new(Checked::OptionalData, b"<<<", b'0').valid);
        assert!(!CheckDigit::new(Checked::OptionalData, b"A<<", b'<').valid);
        assert!(!CheckDigit::new(Checked::Number, b"<<<", b'<').valid);
    }
}
