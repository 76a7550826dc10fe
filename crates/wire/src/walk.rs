//! Follows a layout through the bytes, reading nothing but lengths and tags.

use crate::{
    MAX_ITEMS, WireError,
    shape::{Field, Kind, Shape},
};

/// What is left of a message, and what was found so far.
pub(crate) struct Walker<'a> {
    whole: usize,
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    items: usize,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(bytes: &'a [u8], version: i16, shape: &Shape) -> Self {
        let flexible = version >= shape.flexible_from;
        Self { whole: bytes.len(), rest: bytes, version, flexible, items: 0 }
    }

    /// Walks through the whole message. Returns the bytes it takes.
    pub(crate) fn message(mut self, shape: &Shape) -> Result<usize, WireError> {
        self.fields(shape.fields)?;
        Ok(self.whole - self.rest.len())
    }

    fn fields(&mut self, fields: &[Field]) -> Result<(), WireError> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.field(field.kind)?;
            }
        }
        if self.flexible { self.tagged(fields) } else { Ok(()) }
    }

    fn field(&mut self, kind: Kind) -> Result<(), WireError> {
        match kind {
            Kind::Fixed(bytes) => self.skip(bytes),
            Kind::Text(name) => self.text(name),
            Kind::PlainText(name) => self.short_text(name),
            Kind::Blob(name) => match self.long_length(name)? {
                Some(bytes) => self.step_over(name, bytes),
                None => Ok(()),
            },
            Kind::Numbers(name, size) => match self.count(name, size)? {
                Some(count) => self.skip(count * size),
                None => Ok(()),
            },
            Kind::Texts(name) => {
                let least = if self.flexible { 1 } else { 2 };
                self.each(name, least, |this| this.text(name))
            }
            Kind::Array(name, fields) => {
                let least = self.least_size(fields);
                self.each(name, least, |this| this.fields(fields))
            }
            Kind::Within(fields) => self.fields(fields),
        }
    }

    /// The elements of an array, of which each takes `least` bytes or more.
    fn each(
        &mut self,
        name: &'static str,
        least: usize,
        mut element: impl FnMut(&mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let count = self.count(name, least)?.unwrap_or(0);
        self.add_items(count)?;
        for _ in 0..count {
            element(self)?;
        }
        Ok(())
    }

    fn count(&mut self, name: &'static str, least: usize) -> Result<Option<usize>, WireError> {
        let count = self.long_length(name)?;
        match count {
            Some(claimed) if claimed > self.rest.len() / least.max(1) => {
                Err(WireError::DoesNotFit { field: name, claimed, left: self.rest.len() })
            }
            count => Ok(count),
        }
    }

    fn add_items(&mut self, count: usize) -> Result<(), WireError> {
        self.items = self.items.saturating_add(count);
        if self.items > MAX_ITEMS { Err(WireError::TooManyItems) } else { Ok(()) }
    }

    /// The bytes that a struct of empty fields takes.
    fn least_size(&self, fields: &[Field]) -> usize {
        let length = if self.flexible { 1 } else { 4 };
        let of = |field: &Field| match field.kind {
            Kind::Fixed(bytes) => bytes,
            Kind::Text(_) => length.min(2),
            Kind::PlainText(_) => 2,
            Kind::Blob(_) | Kind::Numbers(..) | Kind::Texts(_) | Kind::Array(..) => length,
            Kind::Within(_) => 0,
        };
        let fields = fields.iter().filter(|field| field.tag.is_none() && field.is_in(self.version));
        fields.map(of).sum::<usize>() + usize::from(self.flexible)
    }

    /// The codec reads a tag it knows in place, whatever size is written, and steps over the others.
    fn tagged(&mut self, fields: &[Field]) -> Result<(), WireError> {
        for _ in 0..self.varint()? {
            self.add_items(1)?;
            let (tag, size) = (self.varint()?, self.varint()?);
            let known = fields.iter().find(|field| field.tag == Some(tag) && field.is_in(self.version));
            match known {
                Some(field) => self.field(field.kind)?,
                None => self.step_over("a tagged field", usize::try_from(size).unwrap_or(usize::MAX))?,
            }
        }
        Ok(())
    }

    fn text(&mut self, name: &'static str) -> Result<(), WireError> {
        if !self.flexible {
            return self.short_text(name);
        }
        match self.compact_length()? {
            Some(bytes) => self.step_over(name, bytes),
            None => Ok(()),
        }
    }

    fn short_text(&mut self, name: &'static str) -> Result<(), WireError> {
        match signed(name, i32::from(i16::from_be_bytes(self.take()?)))? {
            Some(bytes) => self.step_over(name, bytes),
            None => Ok(()),
        }
    }

    /// The length of anything but a text; `None`: nothing is there.
    fn long_length(&mut self, name: &'static str) -> Result<Option<usize>, WireError> {
        if self.flexible { self.compact_length() } else { signed(name, i32::from_be_bytes(self.take()?)) }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, WireError> {
        Ok(usize::try_from(self.varint()?).unwrap_or(usize::MAX).checked_sub(1))
    }

    /// As the codec reads it: of a fifth byte all but four bits are dropped, and there is no sixth.
    fn varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let cut_off = WireError::CutOff { wanted: N, left: self.rest.len() };
        let (taken, rest) = self.rest.split_first_chunk().ok_or(cut_off)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), WireError> {
        let cut_off = WireError::CutOff { wanted: bytes, left: self.rest.len() };
        self.rest = self.rest.get(bytes..).ok_or(cut_off)?;
        Ok(())
    }

    fn step_over(&mut self, name: &'static str, bytes: usize) -> Result<(), WireError> {
        let does_not_fit = WireError::DoesNotFit { field: name, claimed: bytes, left: self.rest.len() };
        self.rest = self.rest.get(bytes..).ok_or(does_not_fit)?;
        Ok(())
    }
}

/// A length as it was before flexible versions: -1 stands for nothing.
fn signed(name: &'static str, length: i32) -> Result<Option<usize>, WireError> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(WireError::Negative { field: name, length }),
    }
}
