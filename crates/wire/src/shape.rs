//! The words in which a message's layout is written down.

/// For messages that have no flexible version (KIP-482).
pub(crate) const NEVER: i16 = i16::MAX;

/// The layout of a message in all its versions.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// From this version on lengths are varints and each struct ends with tagged fields.
    pub(crate) flexible_from: i16,
    pub(crate) fields: &'static [Field],
}

/// A field, and the versions that have it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) kind: Kind,
    pub(crate) tag: Option<u32>,
    min: i16,
    max: i16,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Numbers, booleans and ids, several in a row taken together.
    Fixed(usize),
    Text(&'static str),
    /// With a length of two bytes in every version.
    PlainText(&'static str),
    Blob(&'static str),
    /// An array of numbers of that size.
    Numbers(&'static str, usize),
    Texts(&'static str),
    Array(&'static str, &'static [Field]),
    /// A struct by itself; it occurs as a tagged field only.
    Within(&'static [Field]),
}

impl Field {
    const fn new(kind: Kind) -> Self {
        Self { kind, tag: None, min: i16::MIN, max: i16::MAX }
    }

    pub(crate) const fn since(mut self, version: i16) -> Self {
        self.min = version;
        self
    }

    pub(crate) const fn until(mut self, version: i16) -> Self {
        self.max = version;
        self
    }

    pub(crate) const fn only(self, min: i16, max: i16) -> Self {
        self.since(min).until(max)
    }

    pub(crate) const fn tag(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    pub(crate) fn is_in(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

pub(crate) const fn fixed(bytes: usize) -> Field {
    Field::new(Kind::Fixed(bytes))
}

pub(crate) const fn text(name: &'static str) -> Field {
    Field::new(Kind::Text(name))
}

pub(crate) const fn plain_text(name: &'static str) -> Field {
    Field::new(Kind::PlainText(name))
}

pub(crate) const fn blob(name: &'static str) -> Field {
    Field::new(Kind::Blob(name))
}

pub(crate) const fn numbers(name: &'static str, bytes: usize) -> Field {
    Field::new(Kind::Numbers(name, bytes))
}

pub(crate) const fn texts(name: &'static str) -> Field {
    Field::new(Kind::Texts(name))
}

pub(crate) const fn array(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(Kind::Array(name, fields))
}

pub(crate) const fn within(fields: &'static [Field]) -> Field {
    Field::new(Kind::Within(fields))
}
