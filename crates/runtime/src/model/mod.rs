//! The model an agent asks, or none; and the discipline it is asked with, over Kafka and no other store.
//!
//! | room | what is in it |
//! |---|---|
//! | `endpoint` | the endpoint that the environment names |
//! | `settings` | from the topology to what the model stack is told |
//! | `ledger` | what every call cost: written, and read for budgets |
//! | `sharing` | the line on which processes share rate limits |
//! | `breaker` | a model that is down holds the gate |
//! | `wire` | records about models |

mod breaker;
mod endpoint;
mod ledger;
mod settings;
mod sharing;
mod wire;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_llm::Model;
use anabranch_llm::stack::{Budget, Entry, Settings, Stack};
use anabranch_protocol::Timestamp;
use anabranch_sdk::mask::Mask;
use anabranch_sdk::model::{ModelHandle, ModelSettings};
use anabranch_topology::{AgentSettings, Topology};

use self::ledger::{KafkaLedger, Take};
use self::sharing::{KafkaSharing, Line};
use self::wire::Address;
use crate::boot::Usage;
use crate::clock;
use crate::emit::Emitter;
use crate::gate::Gate;
use crate::prepare;
use crate::service::Service;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// What is known of an agent's model before there is a broker.
pub(crate) struct Plan {
    endpoint: Arc<dyn Model>,
    settings: Settings,
    asked: ModelSettings,
    /// Whether a limit is shared with other processes.
    shared: bool,
}

impl Plan {
    /// From the environment and the topology; `topology_file` is where that was read from.
    ///
    /// # Errors
    /// If either says what cannot be used. That the environment names no endpoint is no error.
    pub(crate) fn read(topology: &Topology, agent: &AgentSettings, topology_file: &Path) -> Result<Self, Usage> {
        let endpoint = endpoint::from_env().map_err(|e| Usage(e.to_string()))?;
        let settings = settings::settings(topology, agent, topology_file)?;
        let asked = asked(topology, agent);
        let second = settings.fallback.as_ref().map(|fallback| &fallback.model);
        let shared = std::iter::once(&settings.model).chain(second).any(|model| model.rate.is_bounded());
        Ok(Self { endpoint, settings, asked, shared })
    }

    /// The model of the agent `name`. It is asked by the rules from the start on; [`open`] connects it to the others.
    ///
    /// # Errors
    /// If a budget counts money and a model has no price.
    pub(crate) fn build(
        self,
        name: &'static str,
        topology: &Topology,
        emitter: Emitter,
        gate: Gate,
    ) -> Result<(ModelHandle, Discipline), Usage> {
        let process = format!("{name}-{:016x}", rand::random::<u64>());
        let source = format!("/{}/{name}", topology.name);
        let address = Address { topic: topology.ledger_topic(), source: source.clone() };
        let (model, budgets) = (self.settings.model.name.clone(), self.settings.budgets);
        let mut stack = Stack::new(self.endpoint, self.settings)
            .with_process(process)
            .with_ledger(Arc::new(KafkaLedger { emitter, address }));
        let mut line = None;
        if self.shared {
            let (sharing, end) = KafkaSharing::new();
            stack = stack.with_sharing(sharing);
            line = Some((end, Address { topic: topology.limits_topic(), source }));
        }
        let stacked = stack.build().map_err(|e| Usage(e.to_string()))?;
        tokio::spawn(breaker::hold_gate(stacked.breaker, gate, model));
        let bounded = [budgets.per_case, budgets.per_agent_per_day];
        let is_bounded = bounded.iter().any(|most| most.tokens.is_some() || most.money_micros.is_some());
        let budget = is_bounded.then_some(stacked.budget);
        Ok((ModelHandle::new(stacked.model, self.asked, name), Discipline { budget, line: Mutex::new(line) }))
    }
}

/// The model of a process that reads and answers values of these schemas: where its calls are recorded, without what they
/// mark.
pub(crate) fn recorded_without(model: ModelHandle, schemas: &[serde_json::Value]) -> ModelHandle {
    match endpoint::cassette_setting() {
        // By name as well: the answers of others have other schemas.
        Some(_) => model.recorded_without(Mask::of(schemas).anywhere()),
        None => model,
    }
}

fn asked(topology: &Topology, agent: &AgentSettings) -> ModelSettings {
    let model = topology.model_of(agent);
    ModelSettings {
        name: model.name,
        temperature: model.temperature,
        max_output_tokens: model.max_output_tokens,
        max_repairs: model.max_repairs,
        timeout: model.timeout,
    }
}

/// The model of an agent whose tasks are done again. Live it is asked as it is, without budget, limits and ledger, as
/// those take a broker; otherwise not at all.
///
/// # Errors
/// If it is to be asked, and the environment says what cannot be used.
pub(crate) fn again(
    topology: &Topology,
    agent: &AgentSettings,
    name: &'static str,
    live: bool,
) -> Result<ModelHandle, Usage> {
    let endpoint = match live {
        true => endpoint::from_env().map_err(|e| Usage(e.to_string()))?,
        false => endpoint::none("a replay asks no model"),
    };
    Ok(ModelHandle::new(endpoint, asked(topology, agent), name))
}

/// What of a model's rules is kept together with other processes.
#[derive(Debug)]
pub(crate) struct Discipline {
    /// To be told what others spent; `None`: nothing is bounded.
    budget: Option<Budget>,
    line: Mutex<Option<(Line, Address)>>,
}

/// Connects this process to the others that ask models: reads what was spent, and opens the line on which limits are
/// shared. The topics must exist. Nothing may be asked before.
///
/// # Errors
/// If the ledger cannot be read, or a drain comes first.
pub(crate) async fn open(service: &Service) -> anyhow::Result<()> {
    let line = service.discipline.line.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((line, address)) = line {
        line.open(&service.cluster, address);
    }
    let Some(budget) = service.discipline.budget.clone() else { return Ok(()) };
    let take: Take = Arc::new(move |entry: &Entry| budget.observe(entry));
    let topic = service.topology.ledger_topic();
    let since = spent_since(clock::now(), service.topology.join.deadline);
    let read = async || ledger::follow(&service.cluster, &topic, since, take.clone()).await;
    service.health.prepared(false);
    prepare::patiently(service, "cannot read what was spent on models", read).await?;
    service.health.prepared(true);
    Ok(())
}

/// From when on the ledger is read: today (UTC), and as long ago as a case may have begun that is still open. What a case
/// spent that was parked for longer is forgotten at a restart.
fn spent_since(now: Timestamp, deadline: Duration) -> Timestamp {
    let midnight = now.as_millis() - now.as_millis().rem_euclid(DAY_MS);
    let open = i64::try_from(deadline.as_millis().saturating_mul(2)).unwrap_or(i64::MAX);
    Timestamp::from_millis(midnight.min(now.as_millis().saturating_sub(open)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_is_read_from_midnight_or_from_when_a_case_began() {
        let at = |hours: i64| Timestamp::from_millis(20_000 * DAY_MS + hours * 3_600_000);
        assert_eq!(spent_since(at(13), Duration::from_secs(300)), at(0));
        assert_eq!(spent_since(at(0), Duration::from_secs(3600)), at(-2));
        assert_eq!(spent_since(at(13), Duration::from_secs(10 * 3600)), at(-7));
        assert!(spent_since(at(13), Duration::MAX) < at(-1000), "as early as there is a time");
    }
}
