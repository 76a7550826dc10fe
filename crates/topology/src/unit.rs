//! Quantities that carry their unit: `5m`, `64MiB`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// The keyword of our schema that names a string's unit; other readers of the schema have `pattern`.
pub(crate) const KEYWORD: &str = "x-unit";

/// What a text with a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Duration,
    Bytes,
}

impl Unit {
    /// By the value of [`KEYWORD`].
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        match name {
            "duration" => Some(Self::Duration),
            "bytes" => Some(Self::Bytes),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Bytes => "bytes",
        }
    }

    fn pattern(self) -> &'static str {
        match self {
            Self::Duration => "^0*[1-9][0-9]*(ms|s|m|h|d)$",
            Self::Bytes => "^0*[1-9][0-9]*(B|kB|MB|GB|KiB|MiB|GiB)$",
        }
    }

    /// What it is, with its units.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Duration => "a time with its unit (ms, s, m, h, d)",
            Self::Bytes => "a size with its unit (B, KiB, MiB, GiB, or kB, MB, GB)",
        }
    }

    /// One that could stand there.
    pub(crate) fn example(self) -> &'static str {
        match self {
            Self::Duration => "30s",
            Self::Bytes => "64MiB",
        }
    }

    /// Milliseconds or bytes.
    fn factor(self, unit: &str) -> Option<u64> {
        const KI: u64 = 1024;
        Some(match (self, unit) {
            (Self::Duration, "ms") | (Self::Bytes, "B") => 1,
            (Self::Duration, "s") | (Self::Bytes, "kB") => 1000,
            (Self::Duration, "m") => 60 * 1000,
            (Self::Duration, "h") => 3600 * 1000,
            (Self::Duration, "d") => 24 * 3600 * 1000,
            (Self::Bytes, "MB") => 1_000_000,
            (Self::Bytes, "GB") => 1_000_000_000,
            (Self::Bytes, "KiB") => KI,
            (Self::Bytes, "MiB") => KI * KI,
            (Self::Bytes, "GiB") => KI * KI * KI,
            _ => return None,
        })
    }

    /// Most of it: ten years, or 16 TiB.
    fn most(self) -> u64 {
        match self {
            Self::Duration => 3650 * 24 * 3600 * 1000,
            Self::Bytes => 1 << 44,
        }
    }

    /// Milliseconds or bytes of `text`; what is wrong with it otherwise.
    pub(crate) fn parse(self, text: &str) -> Result<u64, &'static str> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err("does not start with a whole number");
        }
        if unit.is_empty() {
            return Err("has no unit");
        }
        let factor = self.factor(unit).ok_or("has an unknown unit")?;
        let value = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|v| *v <= self.most());
        match value {
            None => Err("is too large"),
            Some(0) => Err("is zero"),
            Some(value) => Ok(value),
        }
    }

    fn schema(self) -> Schema {
        json_schema!({ "type": "string", "pattern": self.pattern(), KEYWORD: self.name(), "examples": [self.example()] })
    }

    fn deserialize<'de, D: Deserializer<'de>>(self, from: D) -> Result<u64, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        self.parse(&text).map_err(|e| de::Error::custom(format!("`{text}` {e}: write {}", self.describe())))
    }
}

/// A time span, such as `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A size in bytes, such as `64MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Unit::Duration.deserialize(from).map(|ms| Self(Duration::from_millis(ms)))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Unit::Bytes.deserialize(from).map(Self)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Unit::Duration.schema()
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Unit::Bytes.schema()
    }
}

/// A duration as one would write it: the largest unit that leaves no rest.
pub(crate) fn show(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [("d", 24 * 3600 * 1000), ("h", 3600 * 1000), ("m", 60 * 1000), ("s", 1000)];
    let fits = units.into_iter().find(|(_, factor)| ms > 0 && ms.is_multiple_of(*factor));
    fits.map_or_else(|| format!("{ms}ms"), |(unit, factor)| format!("{}{unit}", ms / factor))
}
