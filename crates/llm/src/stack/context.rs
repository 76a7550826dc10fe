//! For whom a call is made.

use crate::chat::{AGENT, CORRELATION_ID, ChatRequest, TENANT};

/// For whom a call is made, as the request's metadata says: who pays, and with whom it shares fairly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallContext {
    /// The agent that calls; empty where the request names none.
    pub agent: String,
    /// The case.
    pub case: Option<String>,
    /// On whose behalf.
    pub tenant: Option<String>,
}

impl CallContext {
    /// From the request's metadata.
    pub fn of(request: &ChatRequest) -> Self {
        let said = |key: &str| request.metadata.get(key).filter(|value| !value.is_empty()).cloned();
        Self { agent: said(AGENT).unwrap_or_default(), case: said(CORRELATION_ID), tenant: said(TENANT) }
    }

    /// Writes it into the request's metadata.
    pub fn put(&self, request: &mut ChatRequest) {
        let mut say = |key: &str, value: Option<&String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                request.metadata.insert(key.to_owned(), value.clone());
            }
        };
        say(AGENT, Some(&self.agent));
        say(CORRELATION_ID, self.case.as_ref());
        say(TENANT, self.tenant.as_ref());
    }
}
