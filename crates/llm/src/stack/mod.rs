//! What stands between an agent and a model's endpoint, in this order:
//!
//! | layer | what it does |
//! |---|---|
//! | journal | what was answered before is used again, and costs nothing: [`Journaled`], for each attempt at a task |
//! | budget | a call that might spend too much is refused before it is made: [`Budgets`], [`Budget`] |
//! | rate limit | requests and tokens per minute: [`RateLimit`], shared by all processes ([`Sharing`]), fair between tenants |
//! | retry | only where there was no connection, and so no request: twice, at once. All else is the runtime's to retry |
//! | breaker | a model that fails is left alone for a while ([`BreakerState`]); what fails then is no attempt |
//! | transport | any [`Model`](crate::Model); the client library's own retries are off |
//! | ledger | what the call cost, entered before the caller has the answer: [`Ledger`] |
//! | journal | the answer, journaled before it is used |
//!
//! A model that is down may have a [`Fallback`], with a rate limit and a breaker of its own; the answer and the ledger
//! say whose place it took.
//!
//! ```
//! use std::sync::Arc;
//!
//! use anabranch_llm::script::ScriptedModel;
//! use anabranch_llm::stack::{Budgets, CallContext, Settings, Spending, Stack};
//! use anabranch_llm::{ChatRequest, Message, Model, ModelError};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), ModelError> {
//! let endpoint = Arc::new(ScriptedModel::new().answer("Hello"));
//! let per_case = Spending { tokens: Some(100), money_micros: None };
//! let settings = Settings { budgets: Budgets { per_case, ..Budgets::default() }, ..Settings::new("m") };
//! let stacked = Stack::new(endpoint, settings).build()?;
//!
//! let mut request = ChatRequest::new("m", vec![Message::user("Hi")]);
//! request.max_output_tokens = Some(90);
//! CallContext { case: Some("a case".into()), ..CallContext::default() }.put(&mut request);
//! assert_eq!(stacked.model.chat(request.clone()).await?.content, "Hello");
//! request.max_output_tokens = Some(100);
//! assert!(matches!(stacked.model.chat(request).await, Err(ModelError::OverBudget { .. })));
//! # Ok(())
//! # }
//! ```

mod books;
mod breaker;
mod budget;
mod build;
mod call;
mod context;
mod estimate;
mod gate;
mod journaled;
mod lane;
mod ledger;
mod limiter;
mod run;
mod settings;
mod sharing;

pub use self::budget::Budget;
pub use self::build::{Stack, Stacked};
pub use self::context::CallContext;
pub use self::gate::{BreakerState, BreakerWatch};
pub use self::journaled::Journaled;
pub use self::ledger::{Entry, Ledger, LedgerError, Outcome};
pub use self::settings::{BreakerSettings, Budgets, Fallback, ModelLimits, RateLimit, Settings, Spending};
pub use self::sharing::{ANNOUNCE_EVERY, Announcement, Demand, Heard, LAPSE, SETTLE, Sharing};
