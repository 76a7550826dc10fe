//! Where the payloads of a case lie.

use std::fmt;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Log {
    /// The results topic, as it was written by supervisor or agent.
    Results,
    /// The review topic: information that was asked for, as it came.
    Review,
    /// The composer's state topic: a copy made when the case was parked, as a parked case outlives the results.
    State,
}

/// Where a payload lies in the case's partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// In which topic.
    pub log: Log,
    /// At which offset; [`Place::UNKNOWN`] of a copy whose record was not found.
    pub offset: i64,
    /// Its size, so that what is read at once can be bounded beforehand.
    pub bytes: u32,
}

impl Place {
    /// The offset of a copy that is not written yet, or is missing.
    pub const UNKNOWN: i64 = -1;

    /// On the results topic. A size that is out of range counts as the largest.
    pub fn results(offset: i64, bytes: usize) -> Self {
        Self { log: Log::Results, offset, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }
}

/// One payload of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// Its plan, with the request in it.
    Plan,
    /// The latest answer of the step with this index.
    Answer(usize),
    /// What came of what was asked for, the first time, the second, ….
    Information(usize),
}

/// The key of a record on the state topic: `case/<id>` is where a case stands, `kept/plan/<id>`, `kept/<step>/<id>` and
/// `kept/i<number>/<id>` are payloads of a parked one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKey<'a> {
    /// Where a case stands.
    Case(&'a str),
    /// A payload that was kept.
    Kept(Piece, &'a str),
}

impl<'a> StateKey<'a> {
    /// Reads a key. `None`: it is none of this runtime's.
    pub fn parse(key: &'a [u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        if let Some(id) = key.strip_prefix("case/") {
            return Some(Self::Case(id));
        }
        let (piece, id) = key.strip_prefix("kept/")?.split_once('/')?;
        let piece = match piece.strip_prefix('i') {
            _ if piece == "plan" => Piece::Plan,
            Some(number) => Piece::Information(number.parse().ok()?),
            None => Piece::Answer(piece.parse().ok()?),
        };
        Some(Self::Kept(piece, id))
    }

    /// The correlation id in it.
    pub fn id(self) -> &'a str {
        match self {
            Self::Case(id) | Self::Kept(_, id) => id,
        }
    }
}

impl fmt::Display for StateKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Case(id) => write!(f, "case/{id}"),
            Self::Kept(Piece::Plan, id) => write!(f, "kept/plan/{id}"),
            Self::Kept(Piece::Answer(step), id) => write!(f, "kept/{step}/{id}"),
            Self::Kept(Piece::Information(number), id) => write!(f, "kept/i{number}/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_was_written() {
        for id in ["case-1", "a/b", "plan/x", ""] {
            let kept = [Piece::Plan, Piece::Answer(7), Piece::Information(2)].map(|piece| StateKey::Kept(piece, id));
            for key in kept.into_iter().chain([StateKey::Case(id)]) {
                assert_eq!(StateKey::parse(key.to_string().as_bytes()), Some(key));
            }
        }
        for foreign in [&b"case-1"[..], b"kept/x/1", b"kept/i/1", b"kept/1", b"\xff", b""] {
            assert_eq!(StateKey::parse(foreign), None, "{foreign:?}");
        }
    }
}
