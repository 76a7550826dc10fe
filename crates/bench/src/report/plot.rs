//! Plots, as SVG files.

use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Figures, Leg, Report};
use crate::error::BenchError;

const SIZE: (u32, u32) = (900, 480);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
    RGBColor(90, 90, 90),
];

impl Report {
    /// Writes `<workload>-latency.svg`, latency by percentile, and `<workload>-throughput.svg`, cases ended by second; each
    /// with a line for each run. Their paths; none where nothing was measured.
    ///
    /// # Errors
    /// If a file cannot be drawn or written.
    pub fn plot(&self, folder: &Path) -> Result<Vec<PathBuf>, BenchError> {
        std::fs::create_dir_all(folder).map_err(BenchError::io(format!("cannot make {}", folder.display())))?;
        let runs: Vec<(String, &Figures)> = self.legs.iter().flat_map(named_runs).collect();
        if runs.iter().all(|(_, run)| run.timeline.is_empty()) {
            return Ok(Vec::new());
        }
        let curves = runs.iter().map(|(name, run)| (name.clone(), run.latency_curve.clone()));
        let curves: Vec<Line> = curves.map(|(name, points)| Line { name, points: nines(&points) }).collect();
        let ended = |run: &Figures| run.timeline.iter().map(|s| (s.second as f64, s.ended as f64)).collect();
        let seconds: Vec<Line> =
            runs.iter().map(|(name, run)| Line { name: name.clone(), points: ended(run) }).collect();
        let latency = Plot {
            title: format!("{}: latency by percentile", self.workload),
            across: "percentile",
            up: "ms",
            label: &|x| {
                format!("{:.3}", 100.0 - 100.0 * 10f64.powf(-x)).trim_end_matches('0').trim_end_matches('.').to_owned()
            },
        };
        let throughput = Plot {
            title: format!("{}: cases ended in each second", self.workload),
            across: "seconds from the first case due",
            up: "cases",
            label: &|x| format!("{x:.1}").trim_end_matches(".0").to_owned(),
        };
        let file = |what: &str| folder.join(format!("{}-{what}.svg", self.workload));
        Ok(vec![latency.write(file("latency"), &curves)?, throughput.write(file("throughput"), &seconds)?])
    }
}

fn named_runs(leg: &Leg) -> impl Iterator<Item = (String, &Figures)> {
    let of = |run: &Figures| match leg.settings.leg.as_str() {
        "" => format!("run {}", run.run),
        leg => format!("{leg}, run {}", run.run),
    };
    leg.runs.iter().map(move |run| (of(run), run))
}

/// By how many nines a share is written, so that what lies far out is seen.
fn nines(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().map(|(share, ms)| (-(1.0 - share).max(1e-5).log10(), *ms)).collect()
}

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

struct Plot<'a> {
    title: String,
    across: &'a str,
    up: &'a str,
    label: &'a dyn Fn(f64) -> String,
}

impl Plot<'_> {
    fn write(&self, file: PathBuf, lines: &[Line]) -> Result<PathBuf, BenchError> {
        let mut svg = String::new();
        let drawn = self.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), lines);
        drawn.map_err(|reason| BenchError::Plot { file: file.display().to_string(), reason })?;
        std::fs::write(&file, svg).map_err(BenchError::io(format!("cannot write {}", file.display())))?;
        Ok(file)
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>, lines: &[Line]) -> Result<(), String> {
        let text = |error: DrawingAreaErrorKind<_>| format!("{error:?}");
        let points = || lines.iter().flat_map(|line| &line.points);
        let right = points().map(|(x, _)| *x).fold(1.0, f64::max);
        let top = points().map(|(_, y)| *y).fold(1.0, f64::max) * 1.05;
        area.fill(&WHITE).map_err(text)?;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(38)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..right, 0.0..top)
            .map_err(text)?;
        let label = |x: &f64| (self.label)(*x);
        chart
            .configure_mesh()
            .x_labels(6)
            .x_desc(self.across)
            .y_desc(self.up)
            .x_label_formatter(&label)
            .draw()
            .map_err(text)?;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let series = LineSeries::new(line.points.iter().copied(), colour);
            let drawn = chart.draw_series(series).map_err(text)?;
            // Past a dozen a legend hides what it explains.
            if lines.len() <= 12 {
                let colour = *colour;
                drawn.label(&line.name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour));
            }
        }
        let legend =
            chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw();
        legend.map_err(text)?;
        area.present().map_err(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{figures, report};
    use super::*;

    #[test]
    fn plots_have_a_line_for_each_run() {
        let folder = tempfile::tempdir().unwrap();
        let files = report(vec![figures(1, 2.0), figures(2, 3.0)]).plot(&folder.path().join("plots")).unwrap();
        let names: Vec<String> = files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["w2-latency.svg", "w2-throughput.svg"]);
        for file in files {
            let svg = std::fs::read_to_string(file).unwrap();
            assert!(svg.starts_with("<svg") && svg.contains("run 1") && svg.contains("run 2"), "{svg}");
        }
    }

    #[test]
    fn of_nothing_there_is_no_plot() {
        let folder = tempfile::tempdir().unwrap();
        assert!(report(Vec::new()).plot(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn shares_are_drawn_by_their_nines() {
        let drawn = nines(&[(0.0, 1.0), (0.9, 2.0), (0.99, 3.0), (1.0, 4.0)]);
        let places: Vec<f64> = drawn.iter().map(|(x, _)| (x * 100.0).round() / 100.0).collect();
        assert_eq!(places, [0.0, 1.0, 2.0, 5.0]);
    }
}
