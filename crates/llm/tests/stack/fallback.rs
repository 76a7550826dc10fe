//! A second model stands in while the first is down, and that is recorded.

use std::sync::Arc;
use std::time::Duration;

use anabranch_llm::stack::{BreakerState, Fallback, ModelLimits, Settings, Stack};
use anabranch_llm::{ErrorClass, ModelError};

use super::{Endpoint, MemoryLedger, ask, unavailable};

fn settings() -> Settings {
    Settings { fallback: Some(Fallback::new(ModelLimits::new("other"))), ..Settings::new("m") }
}

#[tokio::test(start_paused = true)]
async fn the_answer_and_the_ledger_say_whose_place_it_took() {
    let endpoint =
        Endpoint::new(Duration::ZERO, |_, request| if request.model == "m" { Err(unavailable()) } else { Ok(()) });
    let ledger = Arc::new(MemoryLedger::default());
    let stacked = Stack::new(endpoint.clone(), settings()).with_ledger(ledger.clone()).build().unwrap();
    for _ in 0..20 {
        let response = stacked.model.chat(ask("c")).await.unwrap();
        assert_eq!((response.model.as_str(), response.fallback_for.as_deref()), ("other", Some("m")));
    }
    assert_eq!(endpoint.calls(), 20 + 5, "the first is left alone after five failures");
    assert_eq!(*stacked.breaker.borrow(), BreakerState::Closed, "work goes on");
    let of = |model: &str| ledger.entries().into_iter().filter(|e| e.model == model).collect::<Vec<_>>();
    assert_eq!(of("m").iter().map(|e| e.tokens()).sum::<u64>(), 0);
    assert_eq!(of("other").iter().map(|e| e.tokens()).sum::<u64>(), 600);
    assert!(of("other").iter().all(|e| e.fallback_for.as_deref() == Some("m")));
    assert!(of("m").iter().all(|e| e.fallback_for.is_none()));
}

#[tokio::test(start_paused = true)]
async fn with_both_down_it_is_no_attempt_and_the_gate_is_held() {
    let endpoint = Endpoint::new(Duration::ZERO, |_, _| Err(unavailable()));
    let stacked = Stack::new(endpoint, settings()).build().unwrap();
    for _ in 0..4 {
        assert_eq!(stacked.model.chat(ask("c")).await.unwrap_err(), unavailable());
    }
    for _ in 0..2 {
        assert!(stacked.model.chat(ask("c")).await.unwrap_err().is_breaker_open());
    }
    assert!(matches!(*stacked.breaker.borrow(), BreakerState::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_request_or_the_key_is_not_asked_of_the_other() {
    for error in [
        ModelError::Unauthorized { status: 401, message: "no".into() },
        ModelError::Rejected { status: 422, message: "no".into() },
        ModelError::RateLimited { after: None, message: "no".into() },
    ] {
        let failing = error.clone();
        let endpoint = Endpoint::new(Duration::ZERO, move |_, _| Err(failing.clone()));
        let stacked = Stack::new(endpoint.clone(), settings()).build().unwrap();
        assert_eq!(stacked.model.chat(ask("c")).await.unwrap_err(), error);
        assert_eq!(endpoint.calls(), 1);
    }
    let unknown = |model: &str| ModelError::UnknownModel { model: model.into(), message: "no".into() };
    let endpoint = Endpoint::new(Duration::ZERO, move |_, request| {
        Err(if request.model == "m" { unavailable() } else { unknown(&request.model) })
    });
    let stacked = Stack::new(endpoint, settings()).build().unwrap();
    let error = stacked.model.chat(ask("c")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fatal, "a fallback that nobody knows is to be mended");
}
