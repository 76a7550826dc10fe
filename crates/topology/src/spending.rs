//! What models may be asked, and what that may cost: rate limits, fallbacks, breakers, budgets and prices.
//!
//! The lines as they are written, the settings that follow from them, and the file of prices that a topology may name.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostic::{Diagnostics, Report};
use crate::model::Topology;
use crate::unit::Span;
use crate::{raw, shape, yaml};

/// A model's breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many calls in a row that fail for reasons that may pass open it.
    pub failures: u32,
    /// How long it stays open before a call is let through to see; doubles while those fail, up to a minute.
    pub open_for: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(1) }
    }
}

/// Most that may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spending {
    /// Tokens, read and written together; `None`: without bound.
    pub tokens: Option<u64>,
    /// Money, in the currency of the prices; `None`: without bound.
    pub money: Option<f64>,
}

impl Spending {
    /// Whether anything is bounded.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.tokens.is_some() || self.money.is_some()
    }
}

/// Most that may be spent on models.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budgets {
    /// On one case, by all its agents.
    pub per_case: Spending,
    /// By one agent on one day (UTC), by all its processes.
    pub per_agent_per_day: Spending,
}

/// What a model costs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Price {
    /// Money for a million tokens that it reads.
    pub input: f64,
    /// Money for a million tokens that it writes.
    pub output: f64,
}

/// Prices by the model's name at its endpoint.
pub type PriceList = BTreeMap<String, Price>;

/// Where prices are.
#[derive(Debug, Clone, PartialEq)]
pub enum Prices {
    /// In the topology.
    Here(PriceList),
    /// In a file of their own, beside the topology's: see [`prices`].
    File(String),
}

/// As written: a model's breaker.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct BreakerLine {
    /// So many calls in a row that fail for reasons that may pass pause the agent. Default: 5.
    #[schemars(range(min = 1, max = 100_000), example = 5)]
    pub(crate) failures: Option<u32>,
    /// How long it is paused before one call is let through to see; doubles while those fail, up to 1m. Default: 1s.
    #[schemars(example = &"1s")]
    pub(crate) open_for: Option<Span>,
}

/// As written: most that may be spent on models.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct BudgetLines {
    /// On one case, by all its agents. Default: without bound.
    pub(crate) per_case: Option<SpendingLine>,
    /// By one agent on one day (UTC), by all its processes together. Default: without bound.
    pub(crate) per_agent_per_day: Option<SpendingLine>,
}

/// As written: most that may be spent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct SpendingLine {
    /// Tokens, read and written together.
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64), example = 50_000)]
    pub(crate) tokens: Option<u64>,
    /// Money, in the currency of the prices.
    #[schemars(range(min = 0, max = 1_000_000_000), example = 0.5)]
    pub(crate) money: Option<f64>,
}

/// As written: prices, or the file they are in.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PricesLine {
    /// A file with the same lines, relative to this one.
    File(String),
    /// By the model's name at its endpoint.
    Here(BTreeMap<String, PriceLine>),
}

/// As written: what a model costs, for a million tokens.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
pub(crate) struct PriceLine {
    /// For a million tokens that it reads.
    #[schemars(required, range(min = 0, max = 1_000_000), example = 0.15)]
    pub(crate) input: Option<f64>,
    /// For a million tokens that it writes.
    #[schemars(required, range(min = 0, max = 1_000_000), example = 0.6)]
    pub(crate) output: Option<f64>,
}

pub(crate) fn breaker(line: Option<&BreakerLine>) -> BreakerSettings {
    let default = BreakerSettings::default();
    BreakerSettings {
        failures: line.and_then(|l| l.failures).unwrap_or(default.failures),
        open_for: line.and_then(|l| l.open_for).map_or(default.open_for, |span| span.0),
    }
}

pub(crate) fn budgets(lines: Option<&BudgetLines>) -> Budgets {
    let spending = |line: Option<&SpendingLine>| {
        line.map_or_else(Spending::default, |l| Spending { tokens: l.tokens, money: l.money })
    };
    Budgets {
        per_case: spending(lines.and_then(|l| l.per_case.as_ref())),
        per_agent_per_day: spending(lines.and_then(|l| l.per_agent_per_day.as_ref())),
    }
}

pub(crate) fn prices_of(line: Option<&PricesLine>) -> Prices {
    match line {
        Some(PricesLine::File(file)) => Prices::File(file.clone()),
        Some(PricesLine::Here(lines)) => Prices::Here(list(lines)),
        None => Prices::Here(PriceList::new()),
    }
}

fn list(lines: &BTreeMap<String, PriceLine>) -> PriceList {
    let price =
        |line: &PriceLine| Price { input: line.input.unwrap_or_default(), output: line.output.unwrap_or_default() };
    lines.iter().map(|(model, line)| (model.clone(), price(line))).collect()
}

/// Reads a file of prices: what `prices` has in the topology, on its own. `file` is only named in diagnostics.
///
/// # Errors
/// Everything that is wrong with it, and with what `topology` needs of it: a budget of money counts on a price for every
/// model.
///
/// ```
/// let text = "name: a\ninbound: { requests: in }\noutbound: { x: out }\nprices: prices.yaml\n";
/// let topology = anabranch_topology::parse("topics.yaml", text, None)?.topology;
/// let prices = anabranch_topology::prices("prices.yaml", "gpt-4o-mini: { input: 0.15, output: 0.6 }\n", &topology)?;
/// assert_eq!(prices["gpt-4o-mini"].output, 0.6);
/// # Ok::<(), anabranch_topology::Diagnostics>(())
/// ```
pub fn prices(file: &str, text: &str, topology: &Topology) -> Result<PriceList, Diagnostics> {
    let root = yaml::read(text).map_err(|fault| Diagnostics::of_syntax(file, fault))?;
    let mut report = Report::new(file, &root);
    let lines: BTreeMap<String, PriceLine> =
        shape::typed(&raw::schema_of::<BTreeMap<String, PriceLine>>(), &root, &mut report);
    let list = list(&lines);
    for model in without_price(topology, &list) {
        let message = format!("a budget counts money, and the model `{model}` has no price here");
        report.error(&Default::default(), message, price_help(&model));
    }
    report.finish().map(|_| list)
}

/// The models that a budget of money needs a price for, and that have none, in order of name.
pub(crate) fn without_price(topology: &Topology, list: &PriceList) -> Vec<String> {
    let budgets = &topology.budgets;
    if budgets.per_case.money.is_none() && budgets.per_agent_per_day.money.is_none() {
        return Vec::new();
    }
    let mut names: Vec<String> = topology.models.values().map(|m| m.name.clone()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| !list.contains_key(name));
    names
}

pub(crate) fn price_help(model: &str) -> String {
    let key = if model.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        model.to_owned()
    } else {
        format!("{model:?}")
    };
    format!("write what a million tokens cost, such as `{key}: {{ input: 0.15, output: 0.6 }}`")
}
