//! For a person.

use std::fmt;

use super::{Counts, Figures, Leg, Report};
use crate::settings::Settings;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.environment(f)?;
        for leg in &self.legs {
            writeln!(f)?;
            leg.fmt(f)?;
        }
        if self.interrupted {
            writeln!(f, "\ninterrupted: not all runs were done")?;
        }
        Ok(())
    }
}

impl Report {
    fn environment(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = &self.environment;
        let broker = &here.broker;
        writeln!(f, "workload  {}", self.workload)?;
        if let Some(peer) = &self.peer {
            writeln!(f, "of        {peer}, in the place of ours")?;
        }
        let gigabytes = here.memory_bytes as f64 / f64::from(1 << 30);
        writeln!(f, "machine   {}, {} cores, {gigabytes:.1} GiB, Linux {}", here.cpu, here.cores, here.kernel)?;
        writeln!(f, "build     {} profile, commit {}", here.profile, here.commit)?;
        writeln!(f, "broker    {}, {} node(s), {}", broker.name, broker.nodes, broker.place)?;
        let levels =
            format!("metadata.version {}, transaction.version {}", broker.metadata_version, broker.transaction_version);
        let spoken: Vec<String> = broker.negotiated.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(f, "          {levels}; negotiated {}", spoken.join(", "))?;
        let pins: Vec<String> =
            self.pins.iter().map(|(group, list)| format!("{group:?} {list:?}").to_lowercase()).collect();
        let pins = if pins.is_empty() { "none: all processes share all cores".to_owned() } else { pins.join(", ") };
        writeln!(f, "pinned    {pins}")
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.settings.leg.is_empty() {
            writeln!(f, "leg       {}", self.settings.leg)?;
        }
        writeln!(f, "settings  {}", settings(&self.settings))?;
        for run in &self.runs {
            writeln!(f, "run {:<6}{}", run.run, run.line())?;
        }
        if self.summary.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n          {:<32} {:>12} {:>12} {:>12}", "", "median", "least", "most")?;
        for (name, spread) in &self.summary {
            let [median, min, max] = [spread.median, spread.min, spread.max].map(number);
            writeln!(f, "          {name:<32} {median:>12} {min:>12} {max:>12}")?;
        }
        Ok(())
    }
}

fn settings(settings: &Settings) -> String {
    let Settings {
        cases,
        rate,
        warm_up,
        runs,
        seed,
        think,
        refused,
        poison,
        payload_bytes,
        partitions,
        replicas,
        concurrency,
        ..
    } = settings;
    let pace = match (settings.one_by_one, rate) {
        (Some(pause), _) => format!("one at a time, {} ms apart", pause.as_millis()),
        (None, Some(rate)) => format!("open loop, {rate} a second"),
        (None, None) => "all due at once".to_owned(),
    };
    let mut said = vec![
        format!("{cases} cases, {pace}, after {warm_up} to warm up; {runs} runs, seed {seed}"),
        format!("{partitions} partitions, {replicas} process(es) of each agent, {concurrency} tasks at once in each"),
    ];
    let mut say = |is_so: bool, text: String| {
        if is_so {
            said.push(text);
        }
    };
    say(settings.nap_ms > 0, format!("each task takes {} ms", settings.nap_ms));
    say(settings.nap_ms == 0 && !settings.asks, "no call of model or registry".to_owned());
    say(think.median_ms > 0, format!("the model thinks {} ms (median), {} ms (p99)", think.median_ms, think.p99_ms));
    say(think.median_ms == 0 && settings.nap_ms == 0 && settings.asks, "the model answers at once".to_owned());
    say(*refused > 0.0, format!("{:.1} % of its calls refused", refused * 100.0));
    say(*poison > 0.0, format!("{:.1} % of the requests unreadable", poison * 100.0));
    say(*payload_bytes > 0, format!("requests of {payload_bytes} bytes"));
    say(settings.kill_every.is_some(), format!("kill -9 every {:?}", settings.kill_every.unwrap_or_default()));
    if let Some(scale) = &settings.scale {
        said.push(format!("{} goes from 1 to {} processes and back", scale.agent, scale.processes));
    }
    said.join("; ")
}

impl Figures {
    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let Counts { due, decided, dead_letters, lost, doubled, foreign } = self.cases;
        let mut said = vec![format!(
            "{decided} of {due} decided in {:.2} s ({:.1}/s), {dead_letters} dead letters, {lost} lost, {doubled} doubled",
            self.decided_seconds, self.cases_per_second
        )];
        if foreign > 0 {
            said.push(format!("{foreign} outcomes of cases that nobody sent"));
        }
        if let Some(latency) = &self.latency_ms {
            let [p50, p99, max] = [latency.p50, latency.p99, latency.max].map(number);
            said.push(format!("latency {p50} / {p99} / {max} ms (p50, p99, max)"));
        }
        if let Some(joins) = &self.joins {
            let (open, took) = (joins.open, joins.takeover_seconds);
            said.push(format!(
                "{open} joined in {:.1} s, taken over in {took:.2} s; latency from the deadline",
                joins.joined_seconds
            ));
        }
        for phase in &self.phases {
            let of = phase
                .latency_ms
                .as_ref()
                .map_or("no case".to_owned(), |l| format!("{} / {} ms", number(l.p50), number(l.p99)));
            said.push(format!("{}: {of}", phase.name));
        }
        if !self.kills.is_empty() {
            said.push(format!("{} kills", self.kills.len()));
        }
        if !self.complete {
            said.push("not seen to its end".to_owned());
        }
        said.join("; ")
    }
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{figures, report};
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        assert_eq!(
            [0.0, 0.12345, 1.236, 12.36, 123.6, 12345.6].map(number),
            ["0", "0.123", "1.24", "12.4", "124", "12346"]
        );
    }

    #[test]
    fn the_text_says_environment_settings_runs_and_spread() {
        let text = report(vec![figures(1, 2.0), figures(2, 4.0)]).to_string();
        for words in [
            "workload  w2",
            "profile, commit",
            "10000 cases, all due at once",
            "run 2",
            "0 lost, 0 doubled",
            "ratio_to_floor",
            "median",
            "none: all processes share all cores",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        assert!(!text.contains("interrupted"));
    }

    #[test]
    fn of_no_run_there_is_no_summary() {
        let text = Report { interrupted: true, ..report(Vec::new()) }.to_string();
        assert!(text.contains("interrupted") && !text.contains("median"), "{text}");
    }
}
