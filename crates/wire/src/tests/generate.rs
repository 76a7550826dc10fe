//! Random messages, written from a layout alone.

use rand::{Rng, RngExt};

use crate::shape::{Field, Kind, Shape};

/// Writes one message.
pub(crate) struct Generator<'a, R> {
    rng: &'a mut R,
    version: i16,
    flexible: bool,
    out: Vec<u8>,
}

/// A message of a version, with every field filled.
pub(crate) fn message(rng: &mut impl Rng, shape: &Shape, version: i16) -> Vec<u8> {
    let mut generator = Generator { rng, version, flexible: version >= shape.flexible_from, out: Vec::new() };
    generator.fields(shape.fields);
    generator.out
}

impl<R: Rng> Generator<'_, R> {
    fn fields(&mut self, fields: &[Field]) {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.field(field.kind);
            }
        }
        if self.flexible {
            self.tagged(fields);
        }
    }

    /// Known ones and one that nobody knows, in order, as the codec writes them.
    fn tagged(&mut self, fields: &[Field]) {
        let mut known: Vec<_> =
            fields.iter().filter_map(|f| f.tag.filter(|_| f.is_in(self.version)).map(|tag| (tag, f.kind))).collect();
        known.sort_by_key(|(tag, _)| *tag);
        let unknown = self.rng.random_bool(0.3);
        self.varint(known.len() + usize::from(unknown));
        for (tag, kind) in known {
            self.varint(tag as usize);
            let whole = std::mem::take(&mut self.out);
            self.field(kind);
            let value = std::mem::replace(&mut self.out, whole);
            self.varint(value.len());
            self.out.extend(value);
        }
        if unknown {
            self.varint(99);
            let value = self.text();
            self.varint(value.len());
            self.out.extend(value);
        }
    }

    fn field(&mut self, kind: Kind) {
        match kind {
            Kind::Fixed(bytes) => self.fixed(bytes),
            Kind::Text(_) => {
                let text = self.text();
                if self.flexible {
                    self.varint(text.len() + 1);
                } else {
                    self.short(text.len());
                }
                self.out.extend(text);
            }
            Kind::PlainText(_) => {
                let text = self.text();
                self.short(text.len());
                self.out.extend(text);
            }
            Kind::Blob(_) => {
                let blob: Vec<u8> = (0..self.rng.random_range(0..20)).map(|_| self.rng.random()).collect();
                self.length(blob.len());
                self.out.extend(blob);
            }
            Kind::Numbers(_, size) => self.array(|this| this.fixed(size)),
            Kind::Texts(name) => self.array(|this| this.field(Kind::Text(name))),
            Kind::Array(_, fields) => self.array(|this| this.fields(fields)),
            Kind::Within(fields) => self.fields(fields),
        }
    }

    fn array(&mut self, mut element: impl FnMut(&mut Self)) {
        let count = self.rng.random_range(1..4);
        self.length(count);
        (0..count).for_each(|_| element(self));
    }

    /// Ones and zeros, so that booleans read back as they are; never all zero, as the codec leaves defaults out of tags.
    fn fixed(&mut self, bytes: usize) {
        for byte in 0..bytes {
            let last = byte + 1 == bytes;
            self.out.push(u8::from(last || self.rng.random_bool(0.5)));
        }
    }

    fn text(&mut self) -> Vec<u8> {
        (0..self.rng.random_range(1..9)).map(|_| self.rng.random_range(b'a'..=b'z')).collect()
    }

    fn length(&mut self, length: usize) {
        if self.flexible {
            self.varint(length + 1);
        } else {
            self.out.extend(i32::try_from(length).unwrap().to_be_bytes());
        }
    }

    fn short(&mut self, length: usize) {
        self.out.extend(i16::try_from(length).unwrap().to_be_bytes());
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
