//! The model's breaker holds the gate: while the model is left alone, no work is started that would need it.

use std::time::Duration;

use anabranch_llm::stack::{BreakerState, BreakerWatch};
use tokio::time::Instant;

use crate::gate::{Gate, Hold};

/// How often one piece of work is let through to ask, from when the breaker is due.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long whoever asks first is alone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Holds and releases `gate` as the breaker of `model` says, until the breaker is gone.
pub(super) async fn hold_gate(mut breaker: BreakerWatch, gate: Gate, model: String) {
    loop {
        let state = *breaker.borrow_and_update();
        let changed = match state {
            BreakerState::Closed => {
                gate.release(Hold::Breaker);
                breaker.changed().await
            }
            BreakerState::Open { until, cause } => {
                gate.hold(Hold::Breaker, format!("the model {model} is not asked for now, because {cause}"));
                tokio::select! {
                    changed = breaker.changed() => changed,
                    () = let_some_through(&gate, until) => Ok(()),
                }
            }
            // Whoever asks tells what comes next. Should that take long, others may as well.
            BreakerState::HalfOpen => tokio::select! {
                changed = breaker.changed() => changed,
                () = let_some_through(&gate, Instant::now() + PATIENCE) => Ok(()),
            },
        };
        if changed.is_err() {
            return gate.release(Hold::Breaker);
        }
    }
}

/// From when the breaker is due, one piece of work after the other: not all of it need ask the model.
async fn let_some_through(gate: &Gate, due: Instant) {
    tokio::time::sleep_until(due).await;
    loop {
        gate.let_one_through();
        tokio::time::sleep(ASK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anabranch_llm::OpenCause;
    use tokio::sync::watch;

    use super::*;
    use crate::metrics::Metrics;

    async fn settled() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_is_held_while_the_breaker_is_open_and_lets_one_through_when_nobody_asks() {
        let gate = Gate::new("test", Arc::new(Metrics::register("test").0));
        let (breaker, watch) = watch::channel(BreakerState::Closed);
        let holding = tokio::spawn(hold_gate(watch, gate.clone(), "m".to_owned()));
        settled().await;
        assert!(gate.is_open());
        let open = || BreakerState::Open { until: Instant::now() + Duration::from_secs(5), cause: OpenCause::Failures };
        breaker.send_replace(open());
        settled().await;
        assert!(gate.held()[0].1.contains("the model m is not asked for now, because it failed too often"));
        for state in [open(), BreakerState::HalfOpen] {
            breaker.send_replace(state);
            tokio::time::sleep(Duration::from_millis(4900)).await;
            assert!(!gate.is_open() && !gate.lets_one_through(), "it is not due");
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_secs(7)).await;
                assert!(!gate.is_open() && gate.lets_one_through(), "somebody must ask");
                gate.one_started();
            }
        }
        breaker.send_replace(BreakerState::HalfOpen);
        breaker.send_replace(BreakerState::Closed);
        settled().await;
        assert!(gate.is_open());
        breaker.send_replace(open());
        settled().await;
        assert!(!gate.is_open());
        drop(breaker);
        holding.await.unwrap();
        assert!(gate.is_open());
    }
}
