//! An agent's tools: from its own crate and from servers, each under the name the model knows it by.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_llm::ToolSpec;
use futures::future::BoxFuture;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::error::ToolError;
use crate::policy::Policy;
use crate::tool::{AnyTool, ToolSet};

/// Most violations of a schema that the model is told of.
const MAX_VIOLATIONS: usize = 5;
/// Longest violation that the model is told, in characters.
const MAX_VIOLATION: usize = 200;
/// Longest name that endpoints take.
const MAX_NAME: usize = 64;

/// Something that brings tools at run time: a server.
pub trait ToolSource: Send + Sync {
    /// Its name; its tools are called `<name>.<tool>`.
    fn name(&self) -> &str;
    /// Its tools, as it describes them now.
    ///
    /// # Errors
    /// Retryable, if it is away.
    fn tools(&self) -> BoxFuture<'_, Result<Vec<Arc<dyn AnyTool>>, ToolError>>;
}

/// A toolbox that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolboxError {
    /// An agent's own tool has a name that endpoints do not take.
    #[error("the tool name `{0}` must be 1 to 64 of a-z A-Z 0-9 _ -")]
    Name(String),
    /// Two of an agent's own tools have one name.
    #[error("two tools are called `{0}`")]
    Twice(String),
    /// The arguments of an agent's own tool have no usable schema.
    #[error("the arguments of the tool `{tool}` have no usable JSON Schema: {reason}")]
    Schema {
        /// Which.
        tool: String,
        /// Why.
        reason: String,
    },
    /// The list allows a tool that the agent does not have, and that no server can bring.
    #[error("`{0}` is allowed, but the agent has no such tool and no MCP server of that name is configured")]
    Unknown(String),
}

/// An agent's tools and what it may do with them.
#[derive(Clone, Default)]
pub struct Toolbox {
    own: ToolSet,
    sources: Vec<Arc<dyn ToolSource>>,
    policy: Policy,
}

impl Toolbox {
    /// Puts them together.
    ///
    /// # Errors
    /// [`ToolboxError`], for what an author or an operator must change.
    pub fn new(own: ToolSet, sources: Vec<Arc<dyn ToolSource>>, policy: Policy) -> Result<Self, ToolboxError> {
        let mut names = BTreeSet::new();
        for tool in own.tools() {
            let name = tool.name();
            if !is_name(name) {
                return Err(ToolboxError::Name(name.to_owned()));
            }
            if !names.insert(name.to_owned()) {
                return Err(ToolboxError::Twice(name.to_owned()));
            }
            compile(tool.schema()).map_err(|reason| ToolboxError::Schema { tool: name.to_owned(), reason })?;
        }
        let of_source = |allowed: &str| sources.iter().any(|s| has_prefix(allowed, s.name()));
        let listed = policy.allow.iter().flat_map(|allow| allow.names());
        if let Some(unknown) = listed.into_iter().find(|name| !names.contains(*name) && !of_source(name)) {
            return Err(ToolboxError::Unknown(unknown.clone()));
        }
        Ok(Self { own, sources, policy })
    }

    /// What the agent may do.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is offered to the model now.
    ///
    /// # Errors
    /// As the servers' own; those that nothing is allowed of are not asked.
    pub(crate) async fn offer(&self) -> Result<Offer, (String, ToolError)> {
        let mut offer = Offer::default();
        for tool in self.own.tools() {
            let full_name = tool.name().to_owned();
            let allowed = self.policy.allows(&full_name, None);
            offer.add(full_name, tool, allowed);
        }
        for source in self.sources.iter().filter(|s| self.uses(s.name())) {
            let tools = source.tools().await.map_err(|error| (format!("{}.*", source.name()), error))?;
            for tool in &tools {
                let full_name = format!("{}.{}", source.name(), tool.name());
                let allowed = self.policy.allows(&full_name, Some(source.name()));
                offer.add(full_name, tool, allowed);
            }
        }
        Ok(offer)
    }

    /// Whether anything of this server may be allowed.
    fn uses(&self, server: &str) -> bool {
        self.policy.allow.iter().flat_map(|allow| allow.names()).any(|name| has_prefix(name, server))
    }
}

impl std::fmt::Debug for Toolbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sources: Vec<&str> = self.sources.iter().map(|s| s.name()).collect();
        f.debug_struct("Toolbox")
            .field("own", &self.own)
            .field("sources", &sources)
            .field("policy", &self.policy)
            .finish()
    }
}

fn has_prefix(full_name: &str, server: &str) -> bool {
    full_name.strip_prefix(server).is_some_and(|rest| rest.starts_with('.'))
}

/// The tools of one conversation.
#[derive(Default)]
pub(crate) struct Offer {
    offered: Vec<Offered>,
    /// Full names that exist but may not be used, so that the model is told which of the two it is.
    refused: Vec<Named>,
}

struct Named {
    sent: String,
    full_name: String,
}

/// A tool that the model may call.
pub(crate) struct Offered {
    named: Named,
    pub(crate) tool: Arc<dyn AnyTool>,
    validator: Validator,
}

impl Offered {
    pub(crate) fn full_name(&self) -> &str {
        &self.named.full_name
    }

    /// What in the arguments is against the schema; `None` if nothing is.
    pub(crate) fn violations(&self, arguments: &Value) -> Option<String> {
        let found: Vec<String> =
            self.validator.iter_errors(arguments).take(MAX_VIOLATIONS).map(|error| violation(&error)).collect();
        (!found.is_empty()).then(|| found.join("; "))
    }
}

fn violation(error: &jsonschema::ValidationError<'_>) -> String {
    let at = error.instance_path().to_string();
    let at = if at.is_empty() { "the root".to_owned() } else { at };
    format!("{at}: {error}").chars().take(MAX_VIOLATION).collect()
}

impl Offer {
    fn add(&mut self, full_name: String, tool: &Arc<dyn AnyTool>, allowed: bool) {
        let sent = self.sent_name(&full_name);
        let named = Named { sent, full_name };
        if !allowed {
            self.refused.push(named);
            return;
        }
        match compile(tool.schema()) {
            Ok(validator) => self.offered.push(Offered { named, tool: tool.clone(), validator }),
            // The agent's own were checked when the toolbox was made: this is a server's.
            Err(reason) => tracing::warn!(tool = named.full_name, reason, "the tool's schema cannot be used: left out"),
        }
    }

    /// The name that is sent: endpoints take neither dots nor more than 64 characters, and no name twice.
    fn sent_name(&self, full_name: &str) -> String {
        let plain: String = full_name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .take(MAX_NAME - 3)
            .collect();
        let taken = |name: &str| {
            let named = self.offered.iter().map(|o| &o.named).chain(&self.refused);
            named.into_iter().any(|n| n.sent == name)
        };
        let mut name = plain.clone();
        for number in 2..100 {
            if !taken(&name) {
                break;
            }
            name = format!("{plain}{number}");
        }
        name
    }

    /// What the request says of them.
    pub(crate) fn specs(&self) -> Vec<ToolSpec> {
        let spec = |offered: &Offered| ToolSpec {
            name: offered.named.sent.clone(),
            description: offered.tool.description().to_owned(),
            parameters: offered.tool.schema().clone().into(),
        };
        self.offered.iter().map(spec).collect()
    }

    /// The tool that the model calls `name`; the full name is understood too.
    pub(crate) fn find(&self, name: &str) -> Result<&Offered, Unusable> {
        let is = |named: &Named| named.sent == name || named.full_name == name;
        match self.offered.iter().find(|offered| is(&offered.named)) {
            Some(offered) => Ok(offered),
            None if self.refused.iter().any(is) => Err(Unusable::NotAllowed),
            None => Err(Unusable::Unknown),
        }
    }
}

/// Why a tool cannot be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    NotAllowed,
    Unknown,
}

/// Patterns run in time linear to their input: a schema may be a stranger's.
pub(crate) fn compile(schema: &Value) -> Result<Validator, String> {
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err("the arguments must be an object".to_owned());
    }
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    options.build(schema).map_err(|error| error.to_string())
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
