//! What a model may call, how its calls are bounded, and how what comes from outside is kept apart from instructions.
//!
//! | room | what is in it |
//! |---|---|
//! | [`tool`] | a tool as an author writes it, in Rust |
//! | [`policy`] | which tools an agent may use, and how much |
//! | [`toolbox`] | an agent's tools, from its own crate and from servers |
//! | [`run`] | the loop between model and tools |
//! | [`mcp`] | servers of the Model Context Protocol, over stdio and HTTP |
//! | [`outside`] | fences around what others wrote, and the search for instructions in it |
//!
//! Three rules hold everywhere in it. What a model asks for is checked before it is done: the tool by name, the
//! arguments by schema. What a tool returns is data, fenced and bounded, whoever runs the tool. What a server says of its
//! own tools is a claim: it is bounded, and it never widens what the agent may use.

pub mod error;
pub mod mcp;
pub mod outside;
pub mod policy;
pub mod run;
pub mod tool;
pub mod toolbox;

pub use error::{RunError, ToolClass, ToolError};
pub use policy::{Allow, Limits, Policy};
pub use run::{Answer, Called, Chat, Run, Verdict};
pub use tool::{AnyTool, Tool, ToolContext, ToolSet};
pub use toolbox::{ToolSource, Toolbox, ToolboxError};
