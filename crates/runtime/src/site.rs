//! What a process is called, and the topology it is part of: what can be had without a broker.

use std::sync::Arc;

use anabranch_topology::Topology;

use crate::metrics::Metrics;

/// Where a role is at work.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) topology: Arc<Topology>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Site {
    /// `ce_source` of what this process emits.
    pub(crate) fn source(&self) -> String {
        format!("/{}/{}", self.topology.name, self.name)
    }

    /// The consumer group.
    pub(crate) fn group(&self) -> String {
        self.topology.group_of(self.name)
    }
}
