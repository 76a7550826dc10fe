//! Budgets refuse before the call.

use std::sync::Arc;
use std::time::Duration;

use anabranch_llm::prices::{Price, Prices};
use anabranch_llm::stack::{BreakerState, Budgets, Entry, Fallback, ModelLimits, Outcome, Settings, Spending, Stack};
use anabranch_llm::{ErrorClass, ModelError, OpenCause};
use futures::future::join_all;

use super::{Endpoint, MemoryLedger, ask};

const NOON: u64 = 20_000 * 86_400_000 + 43_200_000;

fn per_case(tokens: u64) -> Settings {
    let per_case = Spending { tokens: Some(tokens), money_micros: None };
    Settings { budgets: Budgets { per_case, ..Budgets::default() }, ..Settings::new("m") }
}

#[tokio::test(start_paused = true)]
async fn a_case_over_its_budget_makes_no_further_call() {
    let endpoint = Endpoint::well(Duration::from_millis(10));
    let stacked = Stack::new(endpoint.clone(), per_case(200)).build().unwrap();
    // A call may take 100 and takes 30: after four, 120 are spent and another may not fit in.
    let mut answered = 0;
    let error = loop {
        match stacked.model.chat(ask("c")).await {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((answered, endpoint.calls()), (4, 4));
    assert_eq!(error.class(), ErrorClass::Terminal);
    let said = "the call is over the case's budget: the case has spent 120 of 200 tokens, and the call may cost 100";
    assert_eq!(error.to_string(), said);
    assert!(stacked.model.chat(ask("another")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_side_by_side_never_spend_more_and_those_that_wait_are_no_attempts() {
    let endpoint = Endpoint::well(Duration::from_millis(500));
    let ledger = Arc::new(MemoryLedger::default());
    let stacked = Stack::new(endpoint.clone(), per_case(1_000)).with_ledger(ledger.clone()).build().unwrap();
    let results = join_all((0..100).map(|_| async {
        loop {
            match stacked.model.chat(ask("c")).await {
                Err(ModelError::BreakerOpen { cause: OpenCause::Budget, after, .. }) => tokio::time::sleep(after).await,
                result => return result.is_ok(),
            }
        }
    }));
    let answered = results.await.into_iter().filter(|answered| *answered).count() as u64;
    let spent: u64 = ledger.entries().iter().map(Entry::tokens).sum();
    assert_eq!(spent, answered * 30);
    assert_eq!(answered, endpoint.calls());
    assert!(spent <= 1_000, "{spent}");
    assert!(spent > 870, "what is left is less than a call may take: {spent}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_spent_its_day_waits_for_the_next_and_holds_the_gate() {
    let day = Spending { tokens: None, money_micros: Some(1_000) };
    let prices = Prices::new().with("m", Price::per_million(1.0, 2.0).unwrap());
    let budgets = Budgets { per_agent_per_day: day, ..Budgets::default() };
    let settings = Settings { budgets, prices, ..Settings::new("m") };
    let endpoint = Endpoint::well(Duration::ZERO);
    let stacked = Stack::new(endpoint.clone(), settings).with_clock(|| NOON).build().unwrap();
    // Another process spent 850 of it. A call may cost 54 at 1 and 46 at 2: that fits in once.
    let entry = Entry {
        id: "x-1".into(),
        process: "x".into(),
        at_ms: NOON - 1,
        agent: "a".into(),
        correlation_id: None,
        tenant: None,
        model: "m".into(),
        fallback_for: None,
        prompt_tokens: 850,
        completion_tokens: 0,
        estimated: false,
        cost_micros: Some(850),
        outcome: Outcome::Answered,
    };
    stacked.budget.observe(&entry);
    stacked.model.chat(ask("c")).await.unwrap();
    let error = stacked.model.chat(ask("c")).await.unwrap_err();
    let after = Duration::from_millis(43_200_000);
    assert!(error.is_breaker_open());
    assert_eq!(error.class(), ErrorClass::Retryable { after: Some(after) });
    assert!(error.to_string().contains("the agent today has spent 890 of 1000 millionths"), "{error}");
    let state = *stacked.breaker.borrow();
    assert!(
        matches!(state, BreakerState::Open { cause: OpenCause::Budget, until } if until > tokio::time::Instant::now())
    );
    assert_eq!(endpoint.calls(), 1);
}

#[tokio::test]
async fn money_without_a_price_is_an_error_of_configuration() {
    let per_case = Spending { tokens: None, money_micros: Some(1) };
    let prices = Prices::new().with("m", Price::per_million(1.0, 2.0).unwrap());
    let budgets = Budgets { per_case, ..Budgets::default() };
    let settings = Settings { budgets, prices, ..Settings::new("m") };
    let endpoint = Endpoint::well(Duration::ZERO);
    let stacked = Stack::new(endpoint.clone(), settings.clone()).build().unwrap();
    let mut other = ask("c");
    other.model = "unpriced".into();
    let error = stacked.model.chat(other).await.unwrap_err();
    assert!(matches!(&error, ModelError::Misconfigured { message } if message.contains("`unpriced` has no price")));
    let fallback = Some(Fallback::new(ModelLimits::new("other")));
    let error = Stack::new(endpoint.clone(), Settings { fallback, ..settings }).build().err().unwrap();
    assert_eq!(error.class(), ErrorClass::Fatal);
    assert!(error.to_string().contains("the model `other` has no price"), "{error}");
    assert_eq!(endpoint.calls(), 0);
}
