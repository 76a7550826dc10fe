//! The claim check of a process: the store that the topology names, and what is put into it before an answer is emitted.

use std::sync::Arc;

use anabranch_claims::{Bytes, ClaimCheck, ClaimError, Class, Limits, Location, Store, Stored};
use anabranch_protocol::claim::Sha256;
use anabranch_sdk::error::AgentError;
use anabranch_topology::{ClaimStore, Topology};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use futures::stream::BoxStream;
use serde_json::Value;

use crate::boot::Usage;

/// The claim check of the topology, if it has one. No network.
///
/// # Errors
/// If the store cannot be used as it is configured; the process does not start.
pub(crate) fn open(topology: &Topology) -> Result<Option<ClaimCheck>, Usage> {
    Ok(store(topology)?.map(|(store, limits)| ClaimCheck::new(store, limits)))
}

/// As [`open`], to read from: what is put into it goes nowhere.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_to_read(topology: &Topology) -> Result<Option<ClaimCheck>, Usage> {
    Ok(store(topology)?.map(|(store, limits)| ClaimCheck::new(Arc::new(ReadOnly(store)), limits)))
}

/// A store, and what is known of it.
type Bounded = (Arc<dyn Store>, Limits);

fn store(topology: &Topology) -> Result<Option<Bounded>, Usage> {
    let Some(settings) = &topology.claims else { return Ok(None) };
    let location = match &settings.store {
        ClaimStore::Directory(path) => Location::Directory(path.clone()),
        ClaimStore::S3 { bucket, prefix } => Location::S3 { bucket: bucket.clone(), prefix: prefix.clone() },
    };
    let limits = Limits { over: settings.over_bytes, most: settings.most_bytes, timeout: settings.timeout };
    let store = anabranch_claims::open(&location, limits).map_err(|error| Usage(format!("claims.store: {error}")))?;
    Ok(Some((store, limits)))
}

/// A store that keeps what it has.
#[derive(Debug)]
struct ReadOnly(Arc<dyn Store>);

impl Store for ReadOnly {
    fn put<'a>(&'a self, _: &'a Sha256, _: Bytes) -> BoxFuture<'a, Result<(), ClaimError>> {
        ready(Ok(())).boxed()
    }

    fn get<'a>(&'a self, name: &'a Sha256, bytes: u64) -> BoxFuture<'a, Result<Bytes, ClaimError>> {
        self.0.get(name, bytes)
    }

    fn list(&self) -> BoxStream<'_, Result<Stored, ClaimError>> {
        self.0.list()
    }

    fn remove<'a>(&'a self, _: &'a Sha256) -> BoxFuture<'a, Result<(), ClaimError>> {
        ready(Ok(())).boxed()
    }
}

/// An answer with claims for what is too large in it, once that is in the store.
///
/// # Errors
/// Retryable, if the store cannot be reached.
pub(crate) async fn check_in(claims: Option<&ClaimCheck>, answer: Value) -> Result<Value, AgentError> {
    let Some(claims) = claims else { return Ok(answer) };
    let written = serde_json::to_string(&answer).map_err(unwritable)?;
    let checked = claims.check_in(&written).await.map_err(classified)?;
    checked.map_or(Ok(answer), |json| serde_json::from_str(&json).map_err(unwritable))
}

fn unwritable(error: serde_json::Error) -> AgentError {
    AgentError::terminal("the answer cannot be written as JSON").with_source(error)
}

fn classified(error: ClaimError) -> AgentError {
    let words = "the answer cannot be put into the claim store";
    match error.class() {
        Class::Retryable => AgentError::retryable(words).with_source(error),
        Class::Terminal => AgentError::terminal(words).with_source(error),
    }
}
