//! How many are sent back a second, and how far it is.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::console::Console;

/// Most letters that are sent back at once. They are marked together, so that so many are sent back again by the next
/// run if this one is killed in between.
const AT_ONCE: usize = 200;
/// With a rate, so much of a second's letters goes at once.
const PORTIONS: f64 = 10.0;
/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Letters a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate(f64);

/// Reads a rate: `50/s`, `50`, `100/m`, `5/h`.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("{text:?} is no rate; write for example 50/s, 100/m or 5/h");
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let a_second = number / seconds;
    // Less than one in a day is more likely a slip, and what is next would be due after the end of all clocks.
    if !(1.0 / 86_400.0..=1_000_000.0).contains(&a_second) {
        return Err(wrong());
    }
    Ok(Rate(a_second))
}

/// Lets so many go a second.
pub(super) struct Pace {
    rate: Option<Rate>,
    next: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { rate, next: Instant::now() }
    }

    /// How many go at once.
    pub(super) fn at_once(&self) -> usize {
        self.rate.map_or(AT_ONCE, |Rate(rate)| ((rate / PORTIONS) as usize).clamp(1, AT_ONCE))
    }

    /// Waits until so many may go. `false`: it is to stop.
    pub(super) async fn wait(&mut self, count: usize, stop: &CancellationToken) -> bool {
        let Some(Rate(rate)) = self.rate else { return !stop.is_cancelled() };
        tokio::select! {
            () = tokio::time::sleep_until(self.next) => {}
            () = stop.cancelled() => return false,
        }
        self.next = self.next.max(Instant::now()) + Duration::from_secs_f64(count as f64 / rate);
        !stop.is_cancelled()
    }
}

/// What is seen on stderr while it runs.
pub(super) struct Progress {
    console: Console,
    row: ProgressBar,
    told: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        let console = Console::stderr();
        let row = console.row();
        if std::io::stdout().is_terminal() {
            // The lines on stdout tell how far it is; rows between them would be noise.
            row.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { console, row, told: Instant::now() }
    }

    pub(super) fn tell(&mut self, text: &str) {
        if self.console.is_terminal() {
            self.row.set_message(text.to_owned());
        } else if self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            self.console.line(text);
        }
    }

    /// A line above the row.
    pub(super) fn line(&self, text: &str) {
        self.console.line(text);
    }

    /// From here on there are lines only.
    pub(super) fn end(&self) {
        self.row.finish_and_clear();
        self.console.end_rows();
    }
}

/// Is cancelled by Ctrl-C or SIGTERM: what is under way is finished, then it ends.
///
/// # Errors
/// If the operating system refuses the handlers.
pub(super) fn stop_on_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_unit_or_are_by_the_second() {
        assert_eq!(rate("50/s"), Ok(Rate(50.0)));
        assert_eq!(rate("50"), rate("50/s"));
        assert_eq!(rate("120/m"), Ok(Rate(2.0)));
        assert_eq!(rate("0.5 / s"), Ok(Rate(0.5)));
        for wrong in ["", "0", "-1/s", "fast", "5/d", "inf", "NaN", "1e99", "1/s/s"] {
            assert!(rate(wrong).unwrap_err().contains("50/s"), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept() {
        let (mut pace, stop, began) = (Pace::new(Some(Rate(20.0))), CancellationToken::new(), Instant::now());
        assert_eq!(pace.at_once(), 2);
        for _ in 0..50 {
            assert!(pace.wait(2, &stop).await);
        }
        let took = began.elapsed().as_secs_f64();
        assert!((4.8..5.1).contains(&took), "100 at 20/s, the first at once: {took}");
        stop.cancel();
        assert!(!pace.wait(2, &stop).await);
        assert!(!Pace::new(None).wait(2, &stop).await);
    }
}
