//! The table against the codec, and the codec behind the guard against anything.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod cost;
mod generate;
mod layouts;
mod untrusted;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Encodable, Message};

use crate::{Shape, Shaped, WireError, check, decode};

/// A message without its type.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) versions: (i16, i16),
    pub(crate) check: fn(&[u8], i16) -> Result<usize, WireError>,
    /// Decodes behind the guard; returns the bytes left.
    pub(crate) read: fn(Bytes, i16) -> Result<usize, WireError>,
    /// Decodes by the codec alone; returns the bytes left, and what encoding it again gives.
    pub(crate) by_codec: fn(Bytes, i16) -> Result<(usize, Bytes), String>,
}

impl Entry {
    pub(crate) const fn of<T: Shaped + Encodable + Message>(name: &'static str) -> Self {
        Self {
            name,
            shape: T::SHAPE,
            versions: (T::VERSIONS.min, T::VERSIONS.max),
            check: check::<T>,
            read: read::<T>,
            by_codec: by_codec::<T>,
        }
    }
}

fn read<T: Shaped>(mut bytes: Bytes, version: i16) -> Result<usize, WireError> {
    decode::<T>(&mut bytes, version).map(|_| bytes.len())
}

fn by_codec<T: Shaped + Encodable>(mut bytes: Bytes, version: i16) -> Result<(usize, Bytes), String> {
    let message = T::decode(&mut bytes, version).map_err(|e| e.to_string())?;
    let mut again = BytesMut::new();
    message.encode(&mut again, version).map_err(|e| e.to_string())?;
    Ok((bytes.len(), again.freeze()))
}
