//! The claim check of a process: the store that the topology names, and what is put into it before an answer is emitted.

use anabranch_claims::{ClaimCheck, ClaimError, Class, Limits, Location};
use anabranch_sdk::error::AgentError;
use anabranch_topology::{ClaimStore, Topology};
use serde_json::Value;

use crate::boot::Usage;

/// The claim check of the topology, if it has one. No network.
///
/// # Errors
/// If the store cannot be used as it is configured; the process does not start.
pub(crate) fn open(topology: &Topology) -> Result<Option<ClaimCheck>, Usage> {
    let Some(settings) = &topology.claims else { return Ok(None) };
    let location = match &settings.store {
        ClaimStore::Directory(path) => Location::Directory(path.clone()),
        ClaimStore::S3 { bucket, prefix } => Location::S3 { bucket: bucket.clone(), prefix: prefix.clone() },
    };
    let limits = Limits { over: settings.over_bytes, most: settings.most_bytes, timeout: settings.timeout };
    let store = anabranch_claims::open(&location, limits).map_err(|error| Usage(format!("claims.store: {error}")))?;
    Ok(Some(ClaimCheck::new(store, limits)))
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
