//! What is said at the end. The JSON of it is the whole; the text is for a person, the SVG files for a page.

mod plot;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::floor::FloorFigures;
pub use crate::ledger::{Counts, Second};
pub use crate::processes::Group;
pub use crate::round_trip::RoundTrip;
pub use crate::stats::Percentiles;
pub use crate::usage::Taken;

use crate::environment::Environment;
use crate::settings::{Settings, Workload};
use crate::stats::Spread;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The workload.
    pub workload: Workload,
    /// What it was measured on.
    pub environment: Environment,
    /// The start script of the system that was measured in the place of ours.
    pub peer: Option<String>,
    /// Where processes were pinned, if they were.
    pub pins: BTreeMap<Group, Vec<usize>>,
    /// Its legs, in the order in which they are run.
    pub legs: Vec<Leg>,
    /// Whether it was ended before all runs were done.
    pub interrupted: bool,
}

/// One leg of a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// All that was set.
    pub settings: Settings,
    /// Each run that was done.
    pub runs: Vec<Figures>,
    /// Of each figure the median over all complete runs, with its spread. Ratios are taken within each run.
    pub summary: BTreeMap<String, Spread>,
}

/// What one run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Which run, from 1.
    pub run: u32,
    /// What its chances were drawn from.
    pub seed: u64,
    /// Whether it was seen to its end; else it is in no summary.
    pub complete: bool,
    /// Whether nothing but the system set its pace: [`Settings::is_unpaced`].
    pub unpaced: bool,
    /// How the cases ended.
    pub cases: Counts,
    /// From the first case due to the last outcome, in seconds.
    pub decided_seconds: f64,
    /// From the first case due to the last record that was waited for, what follows the outcomes included, in seconds.
    pub all_seconds: f64,
    /// Cases that ended, a second, until the last outcome.
    pub cases_per_second: f64,
    /// From when a case was due to when a `read_committed` reader had its outcome.
    pub latency_ms: Option<Percentiles>,
    /// The same at some shares from 0 to 1, for a plot.
    pub latency_curve: Vec<(f64, f64)>,
    /// Of W5, the same before, while and after there were more processes.
    pub phases: Vec<Phase>,
    /// What the model took by itself.
    pub model: Option<ModelFigures>,
    /// The raw floor.
    pub floor: Option<FloorFigures>,
    /// The round trip of one record, where it was measured.
    pub round_trip: Option<RoundTrip>,
    /// What W8 measures.
    pub joins: Option<JoinFigures>,
    /// What the processes took, by what they are there for.
    pub taken: BTreeMap<Group, Taken>,
    /// The largest sum of all their resident memory at one time, in bytes.
    pub peak_resident_bytes: u64,
    /// Which process was killed, and when, in seconds.
    pub kills: Vec<(f64, String)>,
    /// Second by second.
    pub timeline: Vec<Second>,
}

/// A part of the time of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What was so.
    pub name: String,
    /// Of the cases that were due in it.
    pub latency_ms: Option<Percentiles>,
}

/// What the model took by itself, from its own records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFigures {
    /// Calls for measured cases.
    pub calls: u64,
    /// Of those, refused with 429.
    pub refused: u64,
    /// The critical path of each case: what it would take if nothing but the model took time.
    pub path_ms: Option<Percentiles>,
}

/// Many cases that wait for their answers. Latencies beside it count from a case's deadline to its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct JoinFigures {
    /// How many stay open.
    pub open: u64,
    /// Until all plans were acknowledged, in seconds.
    pub written_seconds: f64,
    /// Until the composer had them all, in seconds, from the first plan written.
    pub joined_seconds: f64,
    /// From the start of a fresh composer until it was ready with all of them, in seconds.
    pub takeover_seconds: f64,
    /// Resident memory of that composer, in bytes.
    pub composer_bytes: u64,
    /// The same of one without cases.
    pub composer_bytes_when_empty: u64,
}

impl Figures {
    /// The figures that are compared between runs, by name.
    #[must_use]
    pub fn named(&self) -> BTreeMap<&'static str, f64> {
        let mut named = BTreeMap::new();
        let mut put = |name, value: Option<f64>| {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                named.insert(name, value);
            }
        };
        let ended = (self.cases.decided + self.cases.dead_letters + self.cases.doubled) as f64;
        let latency = self.latency_ms.as_ref();
        // One at a time, it is the pause that is measured.
        put("cases_per_second", Some(self.cases_per_second).filter(|_| self.round_trip.is_none()));
        put("decided_seconds", Some(self.decided_seconds));
        put("lost", Some(self.cases.lost as f64));
        put("doubled", Some(self.cases.doubled as f64));
        put("latency_p50_ms", latency.map(|latency| latency.p50));
        put("latency_p99_ms", latency.map(|latency| latency.p99));
        put("latency_max_ms", latency.map(|latency| latency.max));
        put("floor_cases_per_second", self.floor.as_ref().map(|floor| ended / floor.seconds));
        put("records_per_case", self.floor.as_ref().map(|floor| floor.records as f64 / ended));
        put("bytes_per_case", self.floor.as_ref().map(|floor| floor.bytes as f64 / ended));
        put("ratio_to_floor", self.ratio_to_floor());
        let path = self.model.as_ref().and_then(|model| model.path_ms.as_ref());
        put("model_path_p99_ms", path.map(|path| path.p99).filter(|p99| *p99 > 0.0));
        put("p99_to_model_p99", path.zip(latency).map(|(path, latency)| latency.p99 / path.p99));
        let trip = self.round_trip.as_ref();
        put("acknowledged_p50_ms", trip.map(|trip| trip.acknowledged_ms.p50));
        put("delivered_p50_ms", trip.map(|trip| trip.delivered_ms.p50));
        // The aim: no more than four round trips and 5 ms; at most 1.
        let aim = |one: f64| latency.map(|latency| latency.p50 / (4.0 * one + 5.0));
        put("p50_to_4_delivered_and_5_ms", trip.and_then(|trip| aim(trip.delivered_ms.p50)));
        put("p50_to_4_acknowledged_and_5_ms", trip.and_then(|trip| aim(trip.acknowledged_ms.p50)));
        let joins = self.joins.as_ref();
        put("joined_per_second", joins.map(|joins| joins.open as f64 / joins.joined_seconds));
        put("takeover_seconds", joins.map(|joins| joins.takeover_seconds));
        let open_bytes = |joins: &JoinFigures| joins.composer_bytes.saturating_sub(joins.composer_bytes_when_empty);
        put("bytes_per_open_join", joins.map(|joins| open_bytes(joins) as f64 / joins.open as f64));
        put("resident_all_mb", Some(self.peak_resident_bytes as f64 / 1e6));
        let of = |group| self.taken.get(&group);
        put("resident_agents_mb", of(Group::Agents).map(|taken| taken.peak_resident_bytes as f64 / 1e6));
        // In W8 most of it is for cases that do not end.
        let of_case = |group| of(group).filter(|_| joins.is_none());
        let per_case = |group| of_case(group).map(|taken| taken.cpu_seconds * 1000.0 / ended);
        put("cpu_agents_ms_per_case", per_case(Group::Agents));
        put("cpu_broker_ms_per_case", per_case(Group::Broker));
        put("cpu_mock_ms_per_case", per_case(Group::Mock));
        named
    }

    /// How long the raw floor took, over how long the application took for the same records. Only where the pace was not
    /// given: below it, a rate says nothing of what would be possible.
    fn ratio_to_floor(&self) -> Option<f64> {
        let floor = self.floor.as_ref()?;
        (self.unpaced && self.all_seconds > 0.0).then(|| floor.seconds / self.all_seconds)
    }
}

impl Leg {
    /// Of these runs.
    #[must_use]
    pub fn of(settings: Settings, runs: Vec<Figures>) -> Self {
        let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, value) in runs.iter().filter(|run| run.complete).flat_map(Figures::named) {
            values.entry(name.to_owned()).or_default().push(value);
        }
        let summary = values.into_iter().filter_map(|(name, values)| Some((name, Spread::of(values)?))).collect();
        Self { settings, runs, summary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Wishes, legs};

    pub(crate) fn figures(run: u32, all_seconds: f64) -> Figures {
        let latency = Percentiles { count: 10, p50: 20.0, p90: 30.0, p99: 40.0, p999: 41.0, max: 41.0, mean: 22.0 };
        Figures {
            run,
            seed: 1,
            complete: true,
            unpaced: true,
            cases: Counts { due: 10, decided: 10, ..Counts::default() },
            decided_seconds: 2.0,
            all_seconds,
            cases_per_second: 5.0,
            latency_ms: Some(latency),
            latency_curve: vec![(0.5, 20.0), (1.0, 41.0)],
            phases: Vec::new(),
            model: Some(ModelFigures { calls: 20, refused: 1, path_ms: Some(Percentiles { p99: 38.0, ..latency }) }),
            floor: Some(FloorFigures { records: 200, bytes: 100_000, topics: 9, batch: 1000, seconds: 1.0 }),
            round_trip: None,
            joins: None,
            taken: BTreeMap::from([(Group::Agents, Taken { peak_resident_bytes: 5_000_000, cpu_seconds: 0.5 })]),
            peak_resident_bytes: 9_000_000,
            kills: Vec::new(),
            timeline: vec![Second { second: 0, ended: 10, p50_ms: 20.0, p99_ms: 40.0 }],
        }
    }

    pub(crate) fn report(runs: Vec<Figures>) -> Report {
        let settings = legs(Workload::W2, &Wishes::default()).unwrap().remove(0);
        Report {
            workload: Workload::W2,
            environment: Environment::here(),
            peer: None,
            pins: BTreeMap::new(),
            legs: vec![Leg::of(settings, runs)],
            interrupted: false,
        }
    }

    #[test]
    fn ratios_are_taken_within_each_run() {
        let leg = report(vec![figures(1, 2.0), figures(2, 4.0), figures(3, 10.0)]).legs.remove(0);
        let ratio = leg.summary["ratio_to_floor"];
        assert_eq!((ratio.median, ratio.min, ratio.max, ratio.runs), (0.25, 0.1, 0.5, 3));
        assert!((leg.summary["p99_to_model_p99"].median - 40.0 / 38.0).abs() < 1e-9);
        assert!((leg.summary["cpu_agents_ms_per_case"].median - 50.0).abs() < 1e-9);
        assert!((leg.summary["records_per_case"].median - 20.0).abs() < 1e-9);
        assert!((leg.summary["floor_cases_per_second"].median - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_run_that_was_not_seen_to_its_end_is_in_no_summary() {
        let leg = report(vec![figures(1, 2.0), Figures { complete: false, ..figures(2, 400.0) }]).legs.remove(0);
        assert_eq!((leg.summary["ratio_to_floor"].runs, leg.runs.len()), (1, 2));
    }

    #[test]
    fn a_given_pace_has_no_ratio() {
        let leg = report(vec![Figures { unpaced: false, ..figures(1, 2.0) }]).legs.remove(0);
        assert!(!leg.summary.contains_key("ratio_to_floor"));
        assert!(leg.summary.contains_key("floor_cases_per_second"));
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = report(vec![figures(1, 2.0)]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
