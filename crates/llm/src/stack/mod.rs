//! What stands between an agent and a model's endpoint, in this order:
//!
//! | layer | what it does |
//! |---|---|
//! | journal | what was answered before is used again, and costs nothing; a new answer is journaled before it is used |
//! | budget | a call that might spend too much is refused before it is made |
//! | rate limit | requests and tokens per minute, shared by all processes ([`Sharing`]), fair between tenants |
//! | retry | only where there was no connection, and so no request: at once, twice. All else is the runtime's to retry |
//! | breaker | a model that fails is left alone for a while ([`BreakerState`]); calls then are no attempts |
//! | transport | any [`Model`](crate::Model) |
//! | [`Ledger`] | what the call cost, written before the caller has the answer |
//!
//! A model that is down may have a fallback, with a rate limit and a breaker of its own.

mod context;
mod gate;
mod ledger;
mod settings;
mod sharing;

pub use self::context::CallContext;
pub use self::gate::{BreakerState, BreakerWatch};
pub use self::ledger::{Entry, Ledger, LedgerError, Outcome};
pub use self::settings::{BreakerSettings, Budgets, Fallback, ModelLimits, RateLimit, Settings, Spending};
pub use self::sharing::{ANNOUNCE_EVERY, Announcement, Demand, Heard, LAPSE, SETTLE, Sharing};
