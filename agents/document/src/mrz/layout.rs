//! Where the fields of the three formats are. Lines and columns count from 1, as ICAO 9303 prints them.

use super::Format;

/// A run of characters in one line; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) line: usize,
    pub(super) from: usize,
    pub(super) to: usize,
}

const fn span(line: usize, from: usize, to: usize) -> Span {
    Span { line, from, to }
}

const fn at(line: usize, column: usize) -> Span {
    span(line, column, column)
}

/// One format.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) format: Format,
    pub(super) lines: usize,
    pub(super) width: usize,
    pub(super) code: Span,
    pub(super) issuer: Span,
    pub(super) name: Span,
    pub(super) number: Span,
    pub(super) number_check: Span,
    /// Where a number longer than nine characters goes on; its check digit then follows it there.
    pub(super) number_overflow: Option<Span>,
    pub(super) nationality: Span,
    pub(super) birth: Span,
    pub(super) birth_check: Span,
    pub(super) sex: Span,
    pub(super) expiry: Span,
    pub(super) expiry_check: Span,
    pub(super) optional: &'static [Span],
    /// Only TD3 has a check digit over its optional data.
    pub(super) optional_check: Option<Span>,
    pub(super) composite: &'static [Span],
    pub(super) composite_check: Span,
}

/// Passports.
pub(super) const TD3: Layout = Layout {
    format: Format::Td3,
    lines: 2,
    width: 44,
    code: span(1, 1, 2),
    issuer: span(1, 3, 5),
    name: span(1, 6, 44),
    number: span(2, 1, 9),
    number_check: at(2, 10),
    number_overflow: None,
    nationality: span(2, 11, 13),
    birth: span(2, 14, 19),
    birth_check: at(2, 20),
    sex: at(2, 21),
    expiry: span(2, 22, 27),
    expiry_check: at(2, 28),
    optional: &[span(2, 29, 42)],
    optional_check: Some(at(2, 43)),
    composite: &[span(2, 1, 10), span(2, 14, 20), span(2, 22, 43)],
    composite_check: at(2, 44),
};

/// Cards of two lines.
pub(super) const TD2: Layout = Layout {
    format: Format::Td2,
    lines: 2,
    width: 36,
    code: span(1, 1, 2),
    issuer: span(1, 3, 5),
    name: span(1, 6, 36),
    number: span(2, 1, 9),
    number_check: at(2, 10),
    number_overflow: Some(span(2, 29, 35)),
    nationality: span(2, 11, 13),
    birth: span(2, 14, 19),
    birth_check: at(2, 20),
    sex: at(2, 21),
    expiry: span(2, 22, 27),
    expiry_check: at(2, 28),
    optional: &[span(2, 29, 35)],
    optional_check: None,
    composite: &[span(2, 1, 10), span(2, 14, 20), span(2, 22, 35)],
    composite_check: at(2, 36),
};

/// Cards of three lines.
pub(super) const TD1: Layout = Layout {
    format: Format::Td1,
    lines: 3,
    width: 30,
    code: span(1, 1, 2),
    issuer: span(1, 3, 5),
    name: span(3, 1, 30),
    number: span(1, 6, 14),
    number_check: at(1, 15),
    number_overflow: Some(span(1, 16, 30)),
    nationality: span(2, 16, 18),
    birth: span(2, 1, 6),
    birth_check: at(2, 7),
    sex: at(2, 8),
    expiry: span(2, 9, 14),
    expiry_check: at(2, 15),
    optional: &[span(1, 16, 30), span(2, 19, 29)],
    optional_check: None,
    composite: &[span(1, 6, 30), span(2, 1, 7), span(2, 9, 15), span(2, 19, 29)],
    composite_check: at(2, 30),
};
