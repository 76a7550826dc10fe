//! Chance that can be repeated: every draw derives from the seed and from what it is for.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};
use sha2::{Digest, Sha256};

use super::config::{FaultRates, Latency};
use super::script::Fault;

/// How many standard deviations the 99th percentile lies above the median.
const Z99: f64 = 2.326_347_874;

/// A generator for one purpose: the same parts, the same draws.
pub(super) fn rng(seed: u64, parts: &[&[u8]]) -> StdRng {
    StdRng::from_seed(digest(seed, parts))
}

/// A number that stands for these parts.
pub(super) fn key(seed: u64, parts: &[&[u8]]) -> u64 {
    let digest = digest(seed, parts);
    u64::from_be_bytes(std::array::from_fn(|i| digest[i]))
}

fn digest(seed: u64, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

pub(super) fn latency(latency: Latency, rng: &mut StdRng) -> Duration {
    match latency {
        Latency::None => Duration::ZERO,
        Latency::Fixed { ms } => Duration::from_millis(ms),
        Latency::Lognormal { median_ms, p99_ms } => {
            let (median, p99) = (to_f64(median_ms.max(1)), to_f64(p99_ms.max(1)));
            let sigma = ((p99 / median).ln() / Z99).max(0.0);
            let ms = LogNormal::new(median.ln(), sigma).map_or(median, |d| d.sample(rng));
            Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(Duration::from_millis(p99_ms))
        }
    }
}

/// The fault this attempt meets, if any.
pub(super) fn fault(rates: &FaultRates, rng: &mut StdRng) -> Option<Fault> {
    let mut drawn: f64 = rng.random();
    let kinds = [
        (rates.rate_limited, Fault::RateLimited { retry_after_s: Some(rates.retry_after_s), as_http_date: false }),
        (rates.server_error, Fault::ServerError { status: 500 }),
        (rates.cut, Fault::Cut),
        (rates.invalid_json, Fault::InvalidJson),
        (rates.hang, Fault::Hang),
    ];
    for (rate, fault) in kinds {
        if drawn < rate {
            return Some(fault);
        }
        drawn -= rate;
    }
    None
}

/// Milliseconds as a float; exact far beyond any latency.
#[allow(clippy::cast_precision_loss, reason = "latencies are far below 2^52 ms")]
fn to_f64(ms: u64) -> f64 {
    ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lognormal_has_the_median_and_p99_asked_for() {
        let wanted = Latency::Lognormal { median_ms: 1000, p99_ms: 8000 };
        let mut drawn: Vec<u128> =
            (0..20_000u32).map(|i| latency(wanted, &mut rng(7, &[&i.to_be_bytes()])).as_millis()).collect();
        drawn.sort_unstable();
        let (median, p99) = (drawn[10_000], drawn[19_800]);
        assert!((950..1050).contains(&median), "{median}");
        assert!((7000..9000).contains(&p99), "{p99}");
    }

    #[test]
    fn the_same_parts_draw_the_same() {
        let draw = |seed, part: &[u8]| rng(seed, &[part]).random::<u64>();
        assert_eq!(draw(1, b"a"), draw(1, b"a"));
        assert_ne!(draw(1, b"a"), draw(2, b"a"));
        assert_ne!(draw(1, b"a"), draw(1, b"b"));
        assert_ne!(key(1, &[b"ab", b"c"]), key(1, &[b"a", b"bc"]));
    }

    #[test]
    fn fault_rates_are_met() {
        let rates = FaultRates { rate_limited: 0.1, server_error: 0.2, ..FaultRates::default() };
        let kinds: Vec<_> = (0..10_000u32)
            .filter_map(|i| fault(&rates, &mut rng(1, &[&i.to_be_bytes()])))
            .map(|fault| fault.kind())
            .collect();
        let limited = kinds.iter().filter(|kind| **kind == "rate_limited").count();
        assert!((900..1100).contains(&limited), "{limited}");
        assert!((2800..3200).contains(&kinds.len()), "{}", kinds.len());
    }
}
