//! The port itself.

use futures::future::BoxFuture;

use crate::chat::{ChatRequest, ChatResponse, ChatStream};
use crate::error::ModelError;

/// A model that can be asked. Object-safe: the runtime hands an `Arc<dyn Model>` to agents.
///
/// An implementation makes exactly one attempt per call and returns within [`ChatRequest::timeout`]. What it returns
/// is checked: where the request has a schema the content is JSON valid for it, and tool calls name a tool of the
/// request with arguments valid for its parameters. Dropping the future or the stream abandons the call.
pub trait Model: Send + Sync {
    /// Asks and waits for the whole answer.
    ///
    /// # Errors
    /// A [`ModelError`]; its [class](ModelError::class) says what to do.
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>>;

    /// Asks and yields the answer as it is made.
    ///
    /// # Errors
    /// Before the first byte as [`Model::chat`]; later ones are items of the stream, the last it yields.
    fn stream<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>>;
}
