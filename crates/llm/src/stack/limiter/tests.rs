//! The limiter against a simulated clock: never above the limit, nearly all of it used, fair.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A call as the simulation plays it.
#[derive(Debug, Clone)]
struct Arrival {
    at_ms: u64,
    tenant: &'static str,
    tokens: u64,
    /// What the call turns out to take.
    actual: u64,
}

/// A call that was let through.
#[derive(Debug, Clone)]
struct Passed {
    at: Duration,
    arrival: Arrival,
}

/// Plays arrivals, in order of time, on a clock of its own. Calls take their tokens at once.
fn play(limit: RateLimit, arrivals: Vec<Arrival>) -> Vec<Passed> {
    let start = Instant::now();
    let mut core = Core::new(limit, Share::whole(limit), start);
    let mut arrivals = VecDeque::from(arrivals);
    let mut passed = Vec::new();
    let mut now = start;
    loop {
        while arrivals.front().is_some_and(|a| start + Duration::from_millis(a.at_ms) <= now) {
            let arrival = arrivals.pop_front().unwrap();
            core.push(arrival.tenant, arrival.tokens, arrival);
        }
        let arrives = arrivals.front().map(|a| start + Duration::from_millis(a.at_ms));
        let next = match core.next(now) {
            Next::Admit(arrival, charge) => {
                core.correct(charge, arrival.actual, now);
                passed.push(Passed { at: now - start, arrival });
                continue;
            }
            Next::WaitUntil(at) => Some(arrives.map_or(at, |other| other.min(at))),
            Next::Idle => arrives,
        };
        let Some(next) = next else { return passed };
        // Timers have a resolution of a millisecond, and fire late.
        now = next.max(now + Duration::from_millis(1));
    }
}

fn saturated(count: u64, tokens: u64) -> Vec<Arrival> {
    (0..count).map(|_| Arrival { at_ms: 0, tenant: "", tokens, actual: tokens }).collect()
}

/// The most that passed in any window of this length.
fn most(passed: &[Passed], per: Duration, amount: impl Fn(&Passed) -> u64) -> u64 {
    let (mut most, mut sum, mut first) = (0, 0, 0);
    for last in passed {
        sum += amount(last);
        while passed[first].at + per <= last.at {
            sum -= amount(&passed[first]);
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

fn requests(requests: u64, per: Duration) -> RateLimit {
    RateLimit { requests: Some(requests), tokens: None, per }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_above_the_limit_in_any_window(
        quota in 1_u64..200,
        tokens in 1_000_u64..20_000,
        mut calls in prop::collection::vec((0_u64..20_000, 1_u64..1_000, 0_u64..1_000), 1..400),
    ) {
        calls.sort_unstable();
        let arrivals = calls.iter().map(|(at_ms, estimate, less)| Arrival {
            at_ms: *at_ms, tenant: "", tokens: *estimate, actual: estimate.saturating_sub(*less),
        });
        let per = Duration::from_secs(5);
        let limit = RateLimit { requests: Some(quota), tokens: Some(tokens), per };
        let passed = play(limit, arrivals.collect());
        prop_assert_eq!(passed.len(), calls.len(), "all get through in the end");
        prop_assert!(most(&passed, per, |_| 1) <= quota);
        prop_assert!(most(&passed, per, |p| p.arrival.actual) <= tokens);
    }
}

#[test]
fn nearly_all_of_the_limit_is_used() {
    let per = Duration::from_secs(60);
    for quota in [1, 2, 7, 49, 50, 500, 6_000, 60_000] {
        let passed = play(requests(quota, per), saturated(quota * 12, 0));
        let within = passed.iter().filter(|p| p.at < per * 10).count() as u64;
        let percent = within * 100 / (quota * 10);
        assert!(percent >= 95, "{percent} % of {quota}");
        assert!(most(&passed, per, |_| 1) <= quota);
    }
    for (tokens, size) in [(10_000, 100), (10_000, 900), (1_000_000, 1_500)] {
        let limit = RateLimit { requests: None, tokens: Some(tokens), per };
        let passed = play(limit, saturated(tokens * 12 / size, size));
        let within: u64 = passed.iter().filter(|p| p.at < per * 10).map(|p| p.arrival.tokens).sum();
        let percent = within * 100 / (tokens * 10);
        // A window holds whole calls only.
        let whole = tokens / size * size * 100 / tokens;
        assert!(percent >= whole.min(98) - 3, "{percent} % of {tokens} by {size}");
        assert!(most(&passed, per, |p| p.arrival.tokens) <= tokens);
    }
}

#[test]
fn a_second_of_a_minutes_limit_is_not_exceeded_either() {
    let passed = play(requests(6_000, Duration::from_secs(60)), saturated(3_000, 0));
    assert!(most(&passed, Duration::from_secs(1), |_| 1) <= 100, "as endpoints that count by the second want it");
}

/// The 99th percentile of what tenant `quiet` waits and is answered in, in milliseconds, if `loud` calls so often a
/// second. Answers take 200 ms.
fn p99_of_quiet(loud_per_second: u64) -> u128 {
    let every = |tenant: &'static str, per_second: u64| {
        (0..per_second * 20).map(move |i| Arrival { at_ms: i * 1000 / per_second, tenant, tokens: 0, actual: 0 })
    };
    let mut arrivals: Vec<_> = every("quiet", 40).chain(every("loud", loud_per_second)).collect();
    arrivals.sort_by_key(|arrival| arrival.at_ms);
    let passed = play(requests(6_000, Duration::from_secs(60)), arrivals);
    let quiet = passed.iter().filter(|p| p.arrival.tenant == "quiet");
    let mut took: Vec<u128> = quiet.map(|p| p.at.as_millis() - u128::from(p.arrival.at_ms) + 200).collect();
    assert_eq!(took.len(), 800);
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[test]
fn a_tenant_at_ten_times_its_share_moves_anothers_p99_by_less_than_a_fifth() {
    let (alone, beside) = (p99_of_quiet(50), p99_of_quiet(500));
    println!("p99 of the quiet tenant: {alone} ms, beside ten times its share {beside} ms");
    assert!(beside * 10 < alone * 12, "{alone} ms, then {beside} ms");
}

#[test]
fn an_endpoint_that_asks_for_a_wait_gets_it_and_a_changed_share_keeps_what_was_used() {
    let (limit, start) = (requests(10, Duration::from_secs(10)), Instant::now());
    let mut core = Core::new(limit, Share::whole(limit), start);
    for _ in 0..3 {
        core.push("", 0, ());
    }
    core.hold(start + Duration::from_secs(7));
    assert!(matches!(core.next(start), Next::WaitUntil(at) if at == start + Duration::from_secs(7)));
    let later = start + Duration::from_secs(7);
    let Next::Admit((), charge) = core.next(later) else { panic!("held too long") };
    core.set_share(Share { requests: Some(5), tokens: None }, later);
    let spaced = |core: &mut Core<()>| match core.next(later) {
        Next::WaitUntil(at) => at - later,
        other => panic!("{other:?}"),
    };
    assert!(spaced(&mut core) > Duration::from_secs(2), "a fifth of the window");
    core.set_share(Share::none(limit), later);
    assert!(matches!(core.next(later), Next::Idle));
    core.set_share(Share::whole(limit), later);
    assert!(spaced(&mut core) < Duration::from_millis(1100));
    core.undo(charge, later);
    assert!(matches!(core.next(later), Next::Admit(..)), "who gave up was charged nothing");
}

#[test]
fn more_than_was_estimated_is_worked_off() {
    let limit = RateLimit { requests: None, tokens: Some(1_000), per: Duration::from_secs(10) };
    let start = Instant::now();
    let mut core = Core::new(limit, Share::whole(limit), start);
    core.push("", 10, ());
    core.push("", 10, ());
    let Next::Admit((), charge) = core.next(start) else { panic!("not let through") };
    core.correct(charge, 990, start);
    let Next::WaitUntil(at) = core.next(start) else { panic!("let through at once") };
    assert!(at - start > Duration::from_secs(9), "{:?}", at - start);
    assert!(core.demand(start).tokens >= 10);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_leaves_the_queue() {
    let limit = requests(1, Duration::from_secs(60));
    let limiter = Limiter::start(limit, Share::whole(limit));
    let first = limiter.acquire("", 0, Duration::from_secs(1)).await;
    assert!(first.is_some());
    assert!(limiter.acquire("", 0, Duration::from_secs(30)).await.is_none());
    assert_eq!(limiter.demand().requests, 0, "nobody waits, and what was used is long ago");
    let began = Instant::now();
    assert!(limiter.acquire("", 0, Duration::from_secs(60)).await.is_some(), "who gave up took nothing");
    assert!(began.elapsed() < Duration::from_secs(32));
    if let Some(permit) = first {
        permit.unused();
    }
}
