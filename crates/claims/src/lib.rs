//! Claim check: a value that is too large for a record lies in a store, and a [`Claim`] stands for it in the payload.
//!
//! What is put lies under its own SHA-256. So putting it twice changes nothing, what is fetched is checked to be what was
//! put, and no claim, whoever wrote it, names anything outside of the store.
//!
//! | room | what is in it |
//! |---|---|
//! | [`store`] | the port: where content lies, by its SHA-256 |
//! | `object` | a directory, an S3-compatible store or memory behind it, by the `object_store` crate |
//! | [`split`](mod@split) | which values of a payload are too large; pure |
//! | [`error`] | why content could not be put or had, and whether trying again helps |

pub mod error;
mod object;
pub mod split;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use anabranch_protocol::claim::{Claim, Sha256};
pub use bytes::Bytes;
use sha2::Digest as _;

pub use error::{ClaimError, Class};
pub use object::{Location, open};
pub use split::{Split, split};
pub use store::{Store, Stored};

/// Wait after a store could not be reached, before it is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Content that is hashed beside the threads that serve others.
const LONG: usize = 1024 * 1024;

/// Bounds of a claim check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A string or an array whose JSON has more bytes than this is put into the store.
    pub over: usize,
    /// Most bytes that are fetched, or put, at once.
    pub most: u64,
    /// Longest that one put or fetch may take, tries included.
    pub timeout: Duration,
}

/// Puts what is too large into a store, and fetches it again.
#[derive(Debug, Clone)]
pub struct ClaimCheck {
    store: Arc<dyn Store>,
    limits: Limits,
}

impl ClaimCheck {
    /// On this store.
    pub fn new(store: Arc<dyn Store>, limits: Limits) -> Self {
        Self { store, limits }
    }

    /// The store.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The payload with a claim for each value that is too large, once all of them are in the store. `None`: it has none.
    /// The rest of it is as it was, to the digit.
    ///
    /// # Errors
    /// If one cannot be put. What was put before it stays, and is found there by whoever tries again.
    pub async fn check_in(&self, json: &str) -> Result<Option<String>, ClaimError> {
        let Some(split) = split(json, self.limits.over) else { return Ok(None) };
        for (claim, content) in &split.pieces {
            self.put_as(claim, content.clone()).await?;
        }
        Ok(Some(split.json))
    }

    /// Puts content into the store; its claim.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub async fn put(&self, content: Bytes, content_type: &str) -> Result<Claim, ClaimError> {
        let claim = Claim {
            sha256: hashed(content.clone()).await?,
            bytes: content.len() as u64,
            content_type: content_type.to_owned(),
        };
        self.put_as(&claim, content).await?;
        Ok(claim)
    }

    /// A store that cannot be reached is tried again until the time is up: whoever calls may have paid dearly for the
    /// content.
    async fn put_as(&self, claim: &Claim, content: Bytes) -> Result<(), ClaimError> {
        if claim.bytes > self.limits.most {
            return Err(ClaimError::TooLarge { bytes: claim.bytes, most: self.limits.most });
        }
        let mut last = None;
        let trying = async {
            loop {
                match self.store.put(&claim.sha256, content.clone()).await {
                    Err(error) if error.class() == Class::Retryable => last = Some(error),
                    other => return other,
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        };
        let tried = tokio::time::timeout(self.limits.timeout, trying).await;
        tried.unwrap_or_else(|_| Err(last.unwrap_or(ClaimError::Slow { after: self.limits.timeout })))
    }

    /// The content of a claim, checked to be what was put.
    ///
    /// # Errors
    /// Retryable, if the store cannot be reached or is too slow. Terminal, if the content is not there, is other than the
    /// claim says, or is larger than the limit.
    pub async fn fetch(&self, claim: &Claim) -> Result<Bytes, ClaimError> {
        if claim.bytes > self.limits.most {
            return Err(ClaimError::TooLarge { bytes: claim.bytes, most: self.limits.most });
        }
        let getting = self.store.get(&claim.sha256, claim.bytes);
        let content = tokio::time::timeout(self.limits.timeout, getting)
            .await
            .unwrap_or(Err(ClaimError::Slow { after: self.limits.timeout }))?;
        let found = hashed(content.clone()).await?;
        if content.len() as u64 != claim.bytes || found != claim.sha256 {
            return Err(ClaimError::Mismatch { sha256: claim.sha256.clone() });
        }
        Ok(content)
    }
}

/// The SHA-256 of some content.
pub fn sha256(content: &[u8]) -> Sha256 {
    Sha256::of(&sha2::Sha256::digest(content).into())
}

async fn hashed(content: Bytes) -> Result<Sha256, ClaimError> {
    if content.len() < LONG {
        return Ok(sha256(&content));
    }
    let hashing = tokio::task::spawn_blocking(move || sha256(&content)).await;
    hashing.map_err(|error| ClaimError::Unavailable(Box::new(error)))
}
