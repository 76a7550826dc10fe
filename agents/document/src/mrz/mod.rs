//! The machine-readable zone of ICAO 9303: TD1, TD2 and TD3, with all check digits.
//!
//! What is read is untrusted: a zone that has not the shape of any format is an error, and everything else is read as
//! far as it goes, so that a person sees what is wrong with it.

mod check;
mod layout;
#[cfg(test)]
mod tests;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use check::FILLER;
pub use check::{CheckDigit, Checked};
use layout::{Layout, Span, TD1, TD2, TD3};

/// The format of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Format {
    /// Three lines of 30.
    Td1,
    /// Two lines of 36.
    Td2,
    /// Two lines of 44.
    Td3,
}

/// Why a zone cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MrzError {
    /// Lines of these lengths belong to no format.
    Shape(Vec<usize>),
    /// A character that no zone has. Line and column from 1.
    Character(usize, usize, char),
}

impl std::fmt::Display for MrzError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shape(lengths) => {
                write!(f, "lines of {lengths:?} characters; a zone has 3 lines of 30, 2 of 36 or 2 of 44")
            }
            Self::Character(line, column, found) => {
                write!(f, "{found:?} in line {line}, column {column}; a zone has A-Z, 0-9 and <")
            }
        }
    }
}

/// A date of six digits: one that exists, one that is left open with fillers, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MrzDate {
    /// A date.
    Known(Date),
    /// Partly or wholly unknown to the issuer.
    Open,
    /// No date of any calendar.
    Invalid,
}

impl MrzDate {
    /// The date, if it is known.
    pub fn known(self) -> Option<Date> {
        match self {
            Self::Known(date) => Some(date),
            _ => None,
        }
    }
}

/// A zone that was read. Check digits may still be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mrz {
    /// Its format.
    pub format: Format,
    /// Document code: `P` passport, `I`, `A`, `C` cards; a second character is the issuer's own.
    pub code: String,
    /// Issuing state.
    pub issuer: String,
    /// Document number.
    pub number: String,
    /// Surname.
    pub surname: String,
    /// Given names.
    pub given_names: String,
    /// Whether the name fills its field, so that some of it may be cut off.
    pub name_may_be_cut: bool,
    /// Nationality.
    pub nationality: String,
    /// Date of birth.
    pub birth_date: MrzDate,
    /// `M`, `F`, `X` or `<` for not said; anything else is as printed.
    pub sex: char,
    /// Date of expiry.
    pub expiry_date: MrzDate,
    /// All check digits.
    pub checks: Vec<CheckDigit>,
}

impl Mrz {
    /// Reads a zone. Blanks between characters are ignored and small letters are read as capitals, as scanners differ in
    /// that; `today` places two-digit years into centuries.
    ///
    /// # Errors
    /// [`MrzError`], if it is no zone at all.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>, today: Date) -> Result<Self, MrzError> {
        let zone = Zone::read(lines)?;
        let layout = zone.layout;
        let (number, number_check) = zone.number();
        let (surname, given_names) = zone.names();
        let mut checks = vec![
            number_check,
            zone.check(Checked::BirthDate, &[layout.birth], layout.birth_check),
            zone.check(Checked::ExpiryDate, &[layout.expiry], layout.expiry_check),
        ];
        if let Some(at) = layout.optional_check {
            checks.push(zone.check(Checked::OptionalData, layout.optional, at));
        }
        checks.push(zone.check(Checked::Composite, layout.composite, layout.composite_check));
        Ok(Self {
            format: layout.format,
            code: zone.text(layout.code),
            issuer: zone.text(layout.issuer),
            number,
            surname,
            given_names,
            name_may_be_cut: zone.name_may_be_cut(),
            nationality: zone.text(layout.nationality),
            birth_date: born(zone.get(layout.birth), today),
            sex: zone.get(layout.sex).first().copied().map_or('<', char::from),
            expiry_date: date(zone.get(layout.expiry), |year| nearest(year, today)),
            checks,
        })
    }

    /// The check digits that are wrong.
    pub fn wrong_checks(&self) -> impl Iterator<Item = &CheckDigit> {
        self.checks.iter().filter(|c| !c.valid)
    }
}

/// The characters of a zone of a known shape.
struct Zone {
    lines: Vec<Vec<u8>>,
    layout: &'static Layout,
}

impl Zone {
    fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, MrzError> {
        let mut read: Vec<Vec<u8>> = Vec::new();
        // One line more than any format has is enough to know that it is none.
        for line in lines.into_iter().filter(|l| !l.trim().is_empty()).take(4) {
            let characters = line.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).take(100);
            let mut bytes = Vec::new();
            for (column, character) in characters.enumerate() {
                match u8::try_from(character) {
                    Ok(byte) if byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == FILLER => {
                        bytes.push(byte);
                    }
                    _ => return Err(MrzError::Character(read.len() + 1, column + 1, character)),
                }
            }
            read.push(bytes);
        }
        let fits = |layout: &&Layout| read.len() == layout.lines && read.iter().all(|l| l.len() == layout.width);
        match [&TD3, &TD2, &TD1].into_iter().find(fits) {
            Some(layout) => Ok(Self { lines: read, layout }),
            None => Err(MrzError::Shape(read.iter().map(Vec::len).collect())),
        }
    }

    fn get(&self, span: Span) -> &[u8] {
        self.lines.get(span.line - 1).and_then(|line| line.get(span.from - 1..span.to)).unwrap_or_default()
    }

    /// A field's text, without the fillers at its end; those between words are blanks.
    fn text(&self, span: Span) -> String {
        words(self.get(span))
    }

    fn check(&self, over: Checked, spans: &[Span], at: Span) -> CheckDigit {
        let characters: Vec<u8> = spans.iter().flat_map(|s| self.get(*s)).copied().collect();
        CheckDigit::new(over, &characters, self.get(at).first().copied().unwrap_or(FILLER))
    }

    /// The number and its check digit. A number of more than nine characters has a filler for its check digit and goes
    /// on in the optional data, where its check digit follows it (9303-5, 4.2.2.1 note j).
    fn number(&self) -> (String, CheckDigit) {
        let layout = self.layout;
        let principal = self.get(layout.number);
        let continued =
            layout.number_overflow.filter(|_| self.get(layout.number_check) == [FILLER]).map(|s| self.get(s));
        let rest = continued.and_then(|c| c.split(|b| *b == FILLER).next()).unwrap_or_default();
        match rest.split_last() {
            Some((found, rest)) => {
                let whole = [principal, rest].concat();
                let check = CheckDigit::new(Checked::Number, &whole, *found);
                (words(&whole), check)
            }
            None => (words(principal), self.check(Checked::Number, &[layout.number], layout.number_check)),
        }
    }

    fn names(&self) -> (String, String) {
        let field = self.get(self.layout.name);
        match field.windows(2).position(|pair| pair == [FILLER, FILLER]) {
            Some(at) => (words(&field[..at]), words(&field[at + 2..])),
            None => (words(field), String::new()),
        }
    }

    fn name_may_be_cut(&self) -> bool {
        self.get(self.layout.name).last().is_some_and(|last| *last != FILLER)
    }
}

/// Text with blanks for fillers.
fn words(field: &[u8]) -> String {
    let words = field.split(|b| *b == FILLER).filter(|w| !w.is_empty());
    let words: Vec<String> = words.map(|w| w.iter().map(|b| char::from(*b)).collect()).collect();
    words.join(" ")
}

fn date(field: &[u8], century: impl Fn(i16) -> i16) -> MrzDate {
    if field.contains(&FILLER) {
        return MrzDate::Open;
    }
    let two = |at: usize| {
        let digits = field.get(at..at + 2)?;
        digits.iter().all(u8::is_ascii_digit).then(|| i16::from(digits[0] - b'0') * 10 + i16::from(digits[1] - b'0'))
    };
    let known = two(0).zip(two(2)).zip(two(4)).and_then(|((year, month), day)| {
        Date::new(century(year), i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
    });
    known.map_or(MrzDate::Invalid, MrzDate::Known)
}

/// The latest date with these digits that is not after today: two digits cannot say more.
fn born(field: &[u8], today: Date) -> MrzDate {
    let century = today.year() - today.year().rem_euclid(100);
    match date(field, |year| century + year) {
        MrzDate::Known(later) if later > today => date(field, |year| century - 100 + year),
        other => other,
    }
}

/// The year with these two digits that is nearest to today.
fn nearest(two_digits: i16, today: Date) -> i16 {
    let century = today.year() - today.year().rem_euclid(100);
    let candidates = [century - 100 + two_digits, century + two_digits, century + 100 + two_digits];
    candidates.into_iter().min_by_key(|year| (year - today.year()).abs()).unwrap_or(century + two_digits)
}
