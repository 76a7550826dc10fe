//! Durable steps: what was done and journaled is not done again when a task comes a second time.

use std::future::Future;
use std::sync::Arc;

use anabranch_llm::Journal;
use anabranch_llm::journal::{once, once_or_ask};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::AgentError;

/// Longest name of a step, in bytes.
const MAX_NAME: usize = 128;

impl Context<'_> {
    /// Runs `run` once for this task: its result is journaled before it is returned, and a redelivery, after a crash or as
    /// a retry, gets it from the journal instead of running `run` again. An error is not journaled: the next attempt runs
    /// it anew.
    ///
    /// Give dear calls and side effects a step each, and let what follows depend on what steps return: the handler is run
    /// from its beginning and must ask for the same steps in the same order. A name that is used again counts as its next
    /// occurrence. Calls of the model are journaled without a step.
    ///
    /// Between the end of `run` and the journal lies a moment in which a crash makes `run` happen again; where that must
    /// not be, use [`Context::step_with`] or a tool that takes an [idempotency key](Context::idempotency_key).
    ///
    /// ```
    /// # use anabranch_sdk::prelude::*;
    /// # async fn look_up(_: &str, _: String) -> Result<u32, AgentError> { Ok(1) }
    /// # async fn f(ctx: &Context<'_>) -> Result<(), AgentError> {
    /// let score: u32 = ctx.step("score", look_up("AVA", ctx.idempotency_key("score"))).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of `run`. Terminal: what is journaled has another shape than `T` (give a step whose result changed another
    /// name), the result is larger than the journal takes, or the name is empty, longer than 128 bytes or has a `:`.
    pub async fn step<T>(&self, name: &str, run: impl Future<Output = Result<T, AgentError>>) -> Result<T, AgentError>
    where
        T: Serialize + DeserializeOwned,
    {
        once(&**self.journal(), checked(name)?, run).await
    }

    /// As [`Context::step`], for what must not happen twice: that it begins is journaled, and acknowledged, before `run`
    /// runs. If the task comes again and the result is not in the journal, `ask` asks the outside world first: `Some` is
    /// what came of it, `None` says that it did not happen.
    ///
    /// ```
    /// # use anabranch_sdk::prelude::*;
    /// # struct Bank;
    /// # impl Bank {
    /// #     async fn transfer(&self, _: &str) -> Result<u32, AgentError> { Ok(1) }
    /// #     async fn find(&self, _: &str) -> Result<Option<u32>, AgentError> { Ok(None) }
    /// # }
    /// # async fn f(ctx: &Context<'_>, bank: Bank) -> Result<(), AgentError> {
    /// let reference = ctx.idempotency_key("transfer");
    /// let transfer: u32 = ctx.step_with("transfer", bank.find(&reference), bank.transfer(&reference)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Context::step`], and those of `ask`.
    pub async fn step_with<T>(
        &self,
        name: &str,
        ask: impl Future<Output = Result<Option<T>, AgentError>>,
        run: impl Future<Output = Result<T, AgentError>>,
    ) -> Result<T, AgentError>
    where
        T: Serialize + DeserializeOwned,
    {
        once_or_ask(&**self.journal(), checked(name)?, ask, run).await
    }

    /// The journal of this attempt, for what carries calls of its own.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }
}

/// `:` is for the runtime's own names.
fn checked(name: &str) -> Result<&str, AgentError> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains(':') {
        let shown: String = name.chars().take(40).collect();
        return Err(AgentError::terminal(format!(
            "`{shown}` is no name for a step: it takes 1 to {MAX_NAME} bytes without a `:`"
        )));
    }
    Ok(name)
}
