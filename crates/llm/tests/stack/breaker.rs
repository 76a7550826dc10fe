//! A model that is down is left alone, and no message pays for it.

use std::time::Duration;

use anabranch_llm::stack::{BreakerState, RateLimit, Settings, Stack};
use anabranch_llm::{ErrorClass, Model, ModelError, OpenCause};
use futures::future::join_all;
use tokio::time::Instant;

use super::{Endpoint, ask, unavailable};

#[tokio::test(start_paused = true)]
async fn ten_minutes_down_use_up_no_messages_attempts() {
    let start = Instant::now();
    let down = (Duration::from_secs(5), Duration::from_secs(605));
    let endpoint = Endpoint::new(Duration::from_millis(20), move |_, _| {
        let since = start.elapsed();
        if since >= down.0 && since < down.1 { Err(unavailable()) } else { Ok(()) }
    });
    let stacked = Stack::new(endpoint.clone(), Settings::new("m")).build().unwrap();
    // 500 messages, two a second; each is tried as the runtime does it, and what is no attempt is not counted.
    let work = (0..500_u64).map(|i| {
        let model = &stacked.model;
        async move {
            tokio::time::sleep(Duration::from_millis(i * 500)).await;
            let mut attempts = 0;
            loop {
                match model.chat(ask(&i.to_string())).await {
                    Ok(_) => return (attempts + 1, start.elapsed()),
                    Err(error) => {
                        attempts += u32::from(!error.is_breaker_open());
                        let ErrorClass::Retryable { after } = error.class() else { panic!("{error}") };
                        tokio::time::sleep(after.unwrap_or(Duration::from_millis(200))).await;
                    }
                }
            }
        }
    });
    let done = join_all(work).await;
    let most = done.iter().map(|(attempts, _)| *attempts).max().unwrap();
    let last = done.iter().map(|(_, at)| *at).max().unwrap();
    let asked_in_vain = endpoint.calls() - 500;
    println!("most attempts {most}, calls in vain {asked_in_vain}, all done {:?} after it was back", last - down.1);
    // Of the failures before it opens, at most four are one message's.
    assert!(most <= 5, "{most}");
    assert!(asked_in_vain < 40, "{asked_in_vain}");
    assert!(last < down.1 + Duration::from_secs(70), "{last:?}");
    assert_eq!(*stacked.breaker.borrow(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_failure_that_opens_it_and_the_probe_that_fails_are_no_attempts() {
    let endpoint =
        Endpoint::new(Duration::from_millis(5), |number, _| if number < 7 { Err(unavailable()) } else { Ok(()) });
    let stacked = Stack::new(endpoint.clone(), Settings::new("m")).build().unwrap();
    let mut watch = stacked.breaker.clone();
    for _ in 1..=4 {
        assert_eq!(stacked.model.chat(ask("c")).await.unwrap_err(), unavailable());
    }
    assert_eq!(*watch.borrow_and_update(), BreakerState::Closed);
    let fifth = stacked.model.chat(ask("c")).await.unwrap_err();
    let ModelError::BreakerOpen { cause: OpenCause::Failures, after, message } = fifth else { panic!("{fifth:?}") };
    assert!(after >= Duration::from_secs(1) && after <= Duration::from_millis(1100), "{after:?}");
    assert_eq!(message, unavailable().to_string());
    assert!(matches!(*watch.borrow_and_update(), BreakerState::Open { cause: OpenCause::Failures, .. }));
    assert!(stacked.model.chat(ask("c")).await.unwrap_err().is_breaker_open());
    assert_eq!(endpoint.calls(), 5, "left alone");

    tokio::time::sleep(after).await;
    let (probe, other) = tokio::join!(stacked.model.chat(ask("c")), stacked.model.chat(ask("d")));
    assert!(probe.unwrap_err().is_breaker_open() && other.unwrap_err().is_breaker_open());
    assert_eq!(endpoint.calls(), 6, "one at a time");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(stacked.model.chat(ask("c")).await.is_ok());
    assert_eq!(*watch.borrow_and_update(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_abandoned_frees_its_place() {
    let hang = Endpoint::new(Duration::from_secs(1), |number, _| if number < 6 { Err(unavailable()) } else { Ok(()) });
    let stacked = Stack::new(hang, Settings::new("m")).build().unwrap();
    for _ in 0..5 {
        assert!(stacked.model.chat(ask("c")).await.is_err());
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let abandoned = tokio::time::timeout(Duration::from_millis(10), stacked.model.chat(ask("c"))).await;
    assert!(abandoned.is_err());
    assert!(matches!(*stacked.breaker.borrow(), BreakerState::Open { .. }), "nobody asks now");
    assert!(stacked.model.chat(ask("c")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_key_an_unknown_model_and_bad_answers_do_not_open_it() {
    let errors = [
        ModelError::Unauthorized { status: 401, message: "no".into() },
        ModelError::UnknownModel { model: "m".into(), message: "no".into() },
        ModelError::Rejected { status: 422, message: "no".into() },
        ModelError::RateLimited { after: None, message: "slow down".into() },
    ];
    for error in errors {
        let failing = error.clone();
        let endpoint = Endpoint::new(Duration::ZERO, move |_, _| Err(failing.clone()));
        let stacked = Stack::new(endpoint, Settings::new("m")).build().unwrap();
        for _ in 0..30 {
            assert_eq!(stacked.model.chat(ask("c")).await.unwrap_err(), error, "as it came");
        }
        assert_eq!(*stacked.breaker.borrow(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_it_is_tried_again_at_once_and_twice() {
    let unsent = || ModelError::Connection { message: "refused".into(), sent: false };
    let flaky = Endpoint::new(Duration::ZERO, move |number, _| if number < 3 { Err(unsent()) } else { Ok(()) });
    let stacked = Stack::new(flaky.clone(), Settings::new("m")).build().unwrap();
    let start = Instant::now();
    assert!(stacked.model.chat(ask("c")).await.is_ok());
    assert_eq!(flaky.calls(), 3);
    assert!(start.elapsed() < Duration::from_secs(1));

    let sent = ModelError::Connection { message: "reset".into(), sent: true };
    let reset = Endpoint::new(Duration::ZERO, move |_, _| Err(sent.clone()));
    let stacked = Stack::new(reset.clone(), Settings::new("m")).build().unwrap();
    assert!(stacked.model.chat(ask("c")).await.is_err());
    assert_eq!(reset.calls(), 1, "it may have arrived: the runtime decides");
}

#[tokio::test(start_paused = true)]
async fn a_429_holds_all_calls_for_as_long_as_it_says() {
    let limited = || ModelError::RateLimited { after: Some(Duration::from_secs(7)), message: "slow down".into() };
    let endpoint = Endpoint::new(Duration::ZERO, move |number, _| if number == 1 { Err(limited()) } else { Ok(()) });
    let mut settings = Settings::new("m");
    settings.model.rate = RateLimit::requests_per_minute(6_000);
    let stacked = Stack::new(endpoint.clone() as std::sync::Arc<dyn Model>, settings).build().unwrap();
    let start = Instant::now();
    assert!(stacked.model.chat(ask("c")).await.is_err());
    assert!(stacked.model.chat(ask("d")).await.is_ok());
    assert!(start.elapsed() >= Duration::from_secs(7), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_the_limit_made_no_attempt() {
    let endpoint = Endpoint::well(Duration::ZERO);
    let mut settings = Settings { max_wait: Duration::from_secs(10), ..Settings::new("m") };
    settings.model.rate = RateLimit::requests_per_minute(2);
    let stacked = Stack::new(endpoint.clone(), settings).build().unwrap();
    assert!(stacked.model.chat(ask("c")).await.is_ok());
    let error = stacked.model.chat(ask("c")).await.unwrap_err();
    assert!(matches!(error, ModelError::BreakerOpen { cause: OpenCause::Limit, .. }), "{error:?}");
    assert_eq!((endpoint.calls(), *stacked.breaker.borrow()), (1, BreakerState::Closed));
}
