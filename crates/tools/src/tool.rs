//! A tool as an author writes it, in Rust, and as the loop uses it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ToolError;

/// A tool that a model may call.
///
/// It may run more than once for one task: after a crash between what it did and the journal's acknowledgement. What it
/// does to the world outside is its own to make idempotent, with [`ToolContext::idempotency_key`].
///
/// ```
/// use anabranch_tools::{Tool, ToolContext, ToolError, ToolSet};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Of { country: String }
/// struct Capital;
/// impl Tool for Capital {
///     const NAME: &'static str = "capital";
///     const DESCRIPTION: &'static str = "The capital of a country.";
///     type Input = Of;
///     type Output = String;
///     async fn call(&self, _: &ToolContext<'_>, of: Of) -> Result<String, ToolError> {
///         match of.country.as_str() {
///             "Utopia" => Ok("Amaurot".to_owned()),
///             other => Err(ToolError::told(format!("no country is called {other}"))),
///         }
///     }
/// }
/// let tools = ToolSet::new().with(Capital);
/// assert_eq!(tools.names(), ["capital"]);
/// ```
pub trait Tool: Send + Sync + 'static {
    /// Its name: at most 64 of `a-z A-Z 0-9 _ -`.
    const NAME: &'static str;
    /// What it does and when to use it: the model reads this.
    const DESCRIPTION: &'static str;
    /// Its arguments: an object.
    type Input: JsonSchema + DeserializeOwned + Send;
    /// What it returns.
    type Output: Serialize;

    /// Does it. The arguments were checked against the schema of [`Tool::Input`].
    ///
    /// # Errors
    /// A [`ToolError`], whose class decides whether the model is told or the task ends.
    fn call(
        &self,
        ctx: &ToolContext<'_>,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, ToolError>> + Send;
}

/// What a tool is given besides its arguments.
#[derive(Debug, Clone, Copy)]
pub struct ToolContext<'a> {
    /// The case.
    pub correlation_id: &'a str,
    /// The same each time this call is made again; for what takes one.
    pub idempotency_key: &'a str,
    /// How long the call may take.
    pub within: Duration,
}

/// A tool whose types are forgotten: what the loop works with.
pub trait AnyTool: Send + Sync {
    /// Its name, without that of its server.
    fn name(&self) -> &str;
    /// What it does, for the model.
    fn description(&self) -> &str;
    /// JSON Schema of its arguments.
    fn schema(&self) -> &Value;
    /// Does it. The arguments were checked against [`AnyTool::schema`].
    ///
    /// # Errors
    /// As [`Tool::call`].
    fn call<'a>(&'a self, ctx: ToolContext<'a>, arguments: Value) -> BoxFuture<'a, Result<Value, ToolError>>;
}

struct Typed<T> {
    tool: T,
    schema: Value,
}

impl<T: Tool> AnyTool for Typed<T> {
    fn name(&self) -> &str {
        T::NAME
    }

    fn description(&self) -> &str {
        T::DESCRIPTION
    }

    fn schema(&self) -> &Value {
        &self.schema
    }

    fn call<'a>(&'a self, ctx: ToolContext<'a>, arguments: Value) -> BoxFuture<'a, Result<Value, ToolError>> {
        async move {
            let input = serde_json::from_value(arguments)
                .map_err(|e| ToolError::told(format!("the arguments cannot be read: {e}")))?;
            let output = self.tool.call(&ctx, input).await?;
            serde_json::to_value(output)
                .map_err(|e| ToolError::terminal(format!("what it returned has no JSON form: {e}")))
        }
        .boxed()
    }
}

/// The tools that an agent's own crate brings.
#[derive(Clone, Default)]
pub struct ToolSet(Vec<Arc<dyn AnyTool>>);

impl ToolSet {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    #[must_use]
    pub fn with<T: Tool>(mut self, tool: T) -> Self {
        let schema = schemars::schema_for!(T::Input).to_value();
        self.0.push(Arc::new(Typed { tool, schema }));
        self
    }

    /// Their names, in the order they were added.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|tool| tool.name()).collect()
    }

    pub(crate) fn tools(&self) -> &[Arc<dyn AnyTool>] {
        &self.0
    }
}

impl std::fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
