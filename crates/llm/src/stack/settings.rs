//! What the stack is told.

use std::time::Duration;

use crate::prices::Prices;

/// What the stack is told. The defaults bound nothing.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The model that is asked.
    pub model: ModelLimits,
    /// The model that is asked while the first is down.
    pub fallback: Option<Fallback>,
    /// Most that may be spent.
    pub budgets: Budgets,
    /// What models cost. A budget of money needs the price of every model here.
    pub prices: Prices,
    /// Longest wait of one call for the rate limit; past it the call is no attempt. Default 30 s.
    pub max_wait: Duration,
    /// How many tokens an answer is expected to have where the request does not bound them. Default 1,000.
    pub expected_output_tokens: u64,
    /// How often a call is made again, at once, when there was no connection and so no request. Default 2.
    pub reconnects: u32,
}

impl Settings {
    /// For one model, without any bound.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: ModelLimits::new(model),
            fallback: None,
            budgets: Budgets::default(),
            prices: Prices::new(),
            max_wait: Duration::from_secs(30),
            expected_output_tokens: 1_000,
            reconnects: 2,
        }
    }
}

/// How one model may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLimits {
    /// Its name at the endpoint.
    pub name: String,
    /// How fast.
    pub rate: RateLimit,
    /// When it is left alone.
    pub breaker: BreakerSettings,
}

impl ModelLimits {
    /// Without bounds, and with the breaker's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rate: RateLimit::default(), breaker: BreakerSettings::default() }
    }
}

/// A model that stands in for another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback {
    /// Which, and how it may be asked.
    pub model: ModelLimits,
    /// Instead of the request's temperature.
    pub temperature: Option<f32>,
    /// Instead of the request's limit of output tokens.
    pub max_output_tokens: Option<u32>,
    /// Instead of the request's timeout.
    pub timeout: Option<Duration>,
}

impl Fallback {
    /// Asked as the first one would have been.
    pub fn new(model: ModelLimits) -> Self {
        Self { model, temperature: None, max_output_tokens: None, timeout: None }
    }
}

/// How fast a model may be asked, by all processes of the agent together. In no window of `per` is more used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Most requests in a window; `None`: without bound.
    pub requests: Option<u64>,
    /// Most tokens in a window, read and written together; `None`: without bound.
    pub tokens: Option<u64>,
    /// The window's length. Default one minute.
    pub per: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests: None, tokens: None, per: Duration::from_secs(60) }
    }
}

impl RateLimit {
    /// So many requests a minute.
    pub fn requests_per_minute(requests: u64) -> Self {
        Self { requests: Some(requests), ..Self::default() }
    }

    /// Whether anything is bounded.
    pub fn is_bounded(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some()
    }
}

/// When a model is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failures in a row open the breaker. Default 5.
    pub failures: u32,
    /// So does this share of failures, in percent, among the last [`BreakerSettings::window`] calls. Default 50.
    pub failing_percent: u32,
    /// Over how many of the last calls the share is taken. Default 20.
    pub window: usize,
    /// How long it is open before one call is let through to see. Doubles while those fail. Default 1 s.
    pub open_for: Duration,
    /// Longest it is open at a stretch. Default one minute.
    pub max_open_for: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            failing_percent: 50,
            window: 20,
            open_for: Duration::from_secs(1),
            max_open_for: Duration::from_secs(60),
        }
    }
}

/// Most that may be spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets {
    /// On one case, by all its agents. A call beyond it is [`OverBudget`](crate::ModelError::OverBudget): a dead letter.
    pub per_case: Spending,
    /// By one agent on one day (UTC), by all its processes. A call beyond it waits for the next day.
    pub per_agent_per_day: Spending,
}

/// Most that may be spent on one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spending {
    /// Tokens, read and written together; `None`: without bound.
    pub tokens: Option<u64>,
    /// Money, in millionths of the price list's currency ([`crate::prices::money_micros`]); `None`: without bound.
    pub money_micros: Option<u64>,
}
