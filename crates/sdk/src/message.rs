//! Typed payloads.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A typed payload: JSON on the wire, with a schema that the directory publishes and models are held to.
/// Derive `Serialize`, `Deserialize` and `JsonSchema`; there is nothing else to implement.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    note = "derive `Serialize`, `Deserialize` and `JsonSchema` for it"
)]
pub trait Message: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static> Message for T {}

/// The config of an agent that has none: `agents.<name>.config` must be absent or empty.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}
