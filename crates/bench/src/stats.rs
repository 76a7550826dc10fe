//! Percentiles of many values, and the median of few with its spread.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies, in microseconds, three digits exact.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

/// What is said of latencies, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Half are no larger.
    pub p50: f64,
    /// Nine in ten are no larger.
    pub p90: f64,
    /// 99 in 100 are no larger.
    pub p99: f64,
    /// 999 in 1,000 are no larger.
    pub p999: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(histogram())
    }

    /// One more. It grows as needed; what no 64 bits hold is counted as the largest.
    pub(crate) fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if self.0.record(micros).is_err() {
            self.0.saturating_record(micros);
        }
    }

    pub(crate) fn of(latencies: impl IntoIterator<Item = Duration>) -> Self {
        let mut all = Self::new();
        latencies.into_iter().for_each(|latency| all.add(latency));
        all
    }

    /// Milliseconds at this share, from 0 to 1; 0 where there are none.
    pub(crate) fn at(&self, share: f64) -> f64 {
        millis(self.0.value_at_quantile(share))
    }

    /// `None` where there are none.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p999: self.at(0.999),
            max: millis(self.0.max()),
            mean: self.0.mean() / 1000.0,
        })
    }

    /// Share and milliseconds, from the median to the largest, for a plot: ever finer towards 1.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let shares = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];
        if self.0.is_empty() { Vec::new() } else { shares.iter().map(|share| (*share, self.at(*share))).collect() }
    }
}

#[allow(clippy::expect_used, reason = "three digits are among those that it takes")]
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits")
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// The median of several runs, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the runs gave no more. Of an even number: between the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// How many runs.
    pub runs: usize,
}

impl Spread {
    /// `None` of nothing. Values that are no numbers are left out.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0,
            _ => *values.get(middle)?,
        };
        Some(Self { median, min: *values.first()?, max: *values.last()?, runs: values.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values() {
        let all = Latencies::of((1..=1000).map(Duration::from_millis)).percentiles().unwrap();
        let near = |is: f64, wanted: f64| assert!((is - wanted).abs() <= wanted * 0.002, "{is} is not {wanted}");
        assert_eq!(all.count, 1000);
        near(all.p50, 500.0);
        near(all.p90, 900.0);
        near(all.p99, 990.0);
        near(all.p999, 999.0);
        near(all.max, 1000.0);
        near(all.mean, 500.5);
    }

    #[test]
    fn of_nothing_there_are_no_percentiles() {
        let none = Latencies::new();
        assert_eq!(none.percentiles(), None);
        assert!(none.curve().is_empty());
    }

    #[test]
    fn hours_and_microseconds_fit_beside_each_other() {
        let all = Latencies::of([Duration::from_micros(7), Duration::from_secs(7200)]).percentiles().unwrap();
        assert!((all.p50 - 0.007).abs() < 1e-9, "{all:?}");
        assert!((all.max - 7_200_000.0).abs() < 7_200.0, "{all:?}");
    }

    #[test]
    fn a_curve_rises() {
        let curve = Latencies::of((1..=10_000).map(Duration::from_micros)).curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{curve:?}");
    }

    #[test]
    fn the_median_of_few_is_one_of_them_or_between_two() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
        assert_eq!(Spread::of([3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0, runs: 1 }));
        assert_eq!(Spread::of([9.0, 1.0, 4.0]), Some(Spread { median: 4.0, min: 1.0, max: 9.0, runs: 3 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0, runs: 2 }));
    }
}
