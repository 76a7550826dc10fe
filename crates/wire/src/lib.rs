//! Reads Kafka's messages from bytes that may come from anywhere.
//!
//! kafka-protocol 0.18 reserves memory for as many items as an array says it has, before it has seen one of them. Twelve
//! forged bytes ask it for hundreds of gigabytes, and an allocation that fails ends the process. So nothing is
//! given to that codec here before every length in it was walked: [`decode`] first follows the message's [`Shape`] and
//! refuses a length that does not fit into the bytes that are left, and only then decodes.
//!
//! | room | what is in it |
//! |---|---|
//! | `shape` | the words in which a message's layout is written down |
//! | `table` | the layouts, one for each message that client and broker read |
//! | `walk` | follows a layout through the bytes |
//!
//! **What is promised.** Decoding takes at most [`BYTES_PER_BYTE`] bytes of memory for each byte of the message, and at
//! most [`MAX_ITEMS`] items; both are measured by this crate's tests. The walk reads each length once and steps over what
//! lies between, so that its cost does not depend on the size of the records in a message.
//!
//! **Why it is sound.** The walk reads lengths as the codec does, in the same order, known tagged fields in place
//! included. That a layout is the codec's own is checked for every message and every version: what is generated from the
//! layout is decoded by the codec to the last byte, and encoded by it to the same bytes again.

mod error;
mod shape;
mod table;
mod walk;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use kafka_protocol::protocol::Decodable;

pub use error::WireError;
pub use shape::Shape;
use walk::Walker;

/// Items that one message may have: elements of arrays other than numbers, and tagged fields.
pub const MAX_ITEMS: usize = 1 << 20;

/// Bytes of memory that decoding takes for one byte of a message, at most.
pub const BYTES_PER_BYTE: u64 = 128;

/// A message whose layout is known here.
pub trait Shaped: Decodable {
    /// Its layout in all versions.
    const SHAPE: Shape;
}

/// Decodes a message of a version off the front of `bytes`.
///
/// # Errors
/// If a length in it does not fit, if it has too many items, or if the codec cannot read it.
pub fn decode<T: Shaped>(bytes: &mut Bytes, version: i16) -> Result<T, WireError> {
    check::<T>(bytes, version)?;
    T::decode(bytes, version).map_err(|error| WireError::Codec(error.to_string()))
}

/// Walks through a message without decoding it. Returns the bytes it takes.
///
/// # Errors
/// As [`decode`], without the codec's.
pub fn check<T: Shaped>(bytes: &[u8], version: i16) -> Result<usize, WireError> {
    Walker::new(bytes, version, &T::SHAPE).message(&T::SHAPE)
}
