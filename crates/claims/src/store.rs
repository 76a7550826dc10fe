//! The port: where content lies, by its SHA-256.

use std::fmt::Debug;
use std::time::SystemTime;

use anabranch_protocol::claim::Sha256;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::error::ClaimError;

/// A place for content. A name is a SHA-256 and nothing else, so that no name leads out of the place.
pub trait Store: Debug + Send + Sync {
    /// Puts content, or puts it again. Others see it whole or not at all, and its age begins anew.
    fn put<'a>(&'a self, name: &'a Sha256, content: Bytes) -> BoxFuture<'a, Result<(), ClaimError>>;

    /// The content of this name, if it has exactly `bytes` bytes: another length is a mismatch, and is not read.
    fn get<'a>(&'a self, name: &'a Sha256, bytes: u64) -> BoxFuture<'a, Result<Bytes, ClaimError>>;

    /// What there is, in no order.
    fn list(&self) -> BoxStream<'_, Result<Stored, ClaimError>>;

    /// Removes content. One that is not there is no error.
    fn remove<'a>(&'a self, name: &'a Sha256) -> BoxFuture<'a, Result<(), ClaimError>>;
}

/// Content that a store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: Sha256,
    /// Its length.
    pub bytes: u64,
    /// When it was put last.
    pub at: SystemTime,
}
