//! Which tools an agent may use, and how much.

use std::time::Duration;

/// What `agents.<name>.tools` in `topics.yaml` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Which tools. Unset: those that the agent's own crate brings, and none of a server.
    pub allow: Option<Allow>,
    /// How much.
    pub limits: Limits,
}

impl Policy {
    /// Whether the tool may be used. `of_server` names the server it comes from; `None`: it is the agent's own.
    pub fn allows(&self, full_name: &str, of_server: Option<&str>) -> bool {
        match &self.allow {
            Some(allow) => allow.allows(full_name, of_server),
            None => of_server.is_none(),
        }
    }
}

/// A list of tools: full names (`lookup`, `clock.now`), or `server.*` for all of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow(Vec<String>);

impl Allow {
    /// These names.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// The names, as written.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    fn allows(&self, full_name: &str, of_server: Option<&str>) -> bool {
        let all_of = |name: &str| name.strip_suffix(".*").is_some_and(|server| of_server == Some(server));
        self.0.iter().any(|name| name == full_name || all_of(name))
    }
}

/// Bounds of one conversation with tools. Past one of them the task ends with words that say which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most turns in which the model calls tools.
    pub max_steps: u32,
    /// Most tokens, read and written, of all turns together.
    pub max_tokens: u64,
    /// Longest time, waiting included.
    pub max_time: Duration,
    /// Most bytes of one tool's result that the model is given; the rest is cut, and it is told so.
    pub max_result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_steps: 8, max_tokens: 50_000, max_time: Duration::from_secs(60), max_result_bytes: 32 * 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_only_the_agents_own_tools_may_be_used() {
        let policy = Policy::default();
        assert!(policy.allows("lookup", None));
        assert!(!policy.allows("clock.now", Some("clock")));
    }

    #[test]
    fn a_list_names_tools_or_all_of_a_server() {
        let policy = Policy { allow: Some(Allow::new(["clock.now", "files.*"])), ..Policy::default() };
        assert!(policy.allows("clock.now", Some("clock")));
        assert!(policy.allows("files.read", Some("files")));
        for (name, server) in [("clock.set", Some("clock")), ("lookup", None), ("files.read", Some("clock"))] {
            assert!(!policy.allows(name, server), "{name} of {server:?}");
        }
        assert!(!policy.allows("files.x", None), "an agent's own tool is not a server's, whatever it calls itself");
    }
}
