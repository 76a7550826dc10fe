//! What models are asked, and what that may cost: ledger, budgets, shared rate limits, breaker, a refused key. Real
//! processes against the mock model server, which counts for itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

#[path = "model_discipline/books.rs"]
mod books;
#[path = "model_discipline/breaker.rs"]
mod breaker;
#[path = "model_discipline/failover.rs"]
mod failover;
#[path = "model_discipline/rate.rs"]
mod rate;
#[path = "model_discipline/spending.rs"]
mod spending;
