//! What people see on stderr while something runs: lines, and below them rows that are redrawn on a terminal.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Colours for the names of processes, by ANSI number: neither red, which is for faults, nor black and white.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 96];

/// Stderr, shared by all that write lines and rows there. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    rows: MultiProgress,
    terminal: bool,
    colours: bool,
    /// Where lines go instead of stderr.
    file: Option<Arc<File>>,
}

impl Console {
    /// Stderr as it is. Colours only on a terminal, and not where `NO_COLOR` is set.
    pub(crate) fn stderr() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { rows: MultiProgress::new(), terminal, colours, file: None }
    }

    /// A file that gets the lines, and shows no rows: for what is only read when something went wrong.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(crate) fn file(path: &Path) -> std::io::Result<Self> {
        let file = Some(Arc::new(File::create(path)?));
        let rows = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Ok(Self { rows, terminal: false, colours: false, file })
    }

    /// Whether rows are drawn.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes a line above the rows.
    pub(crate) fn line(&self, text: &str) {
        if let Some(file) = &self.file {
            // In one write, as others write to it too. A full disk takes the log, not the run.
            let _ = (&**file).write_all(format!("{text}\n").as_bytes());
            return;
        }
        // Nobody is there to be told that stderr is closed.
        self.rows.suspend(|| drop(writeln!(std::io::stderr(), "{text}")));
    }

    /// A row at the bottom of the terminal; nothing where there is none.
    pub(crate) fn row(&self) -> ProgressBar {
        let bar = self.rows.add(ProgressBar::new_spinner());
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar
    }

    /// Takes the rows away, for good: from here on there are lines only.
    pub(crate) fn end_rows(&self) {
        // A terminal that cannot be written to shows nothing anyway.
        let _ = self.rows.clear();
        // Rows that are dropped must not be drawn once more.
        self.rows.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// `text` in the colour that belongs to `index`.
    pub(crate) fn coloured(&self, text: &str, index: usize) -> String {
        match COLOURS.get(index % COLOURS.len()) {
            Some(colour) if self.colours => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            _ => text.to_owned(),
        }
    }
}

/// Text from elsewhere, made safe for a terminal: control characters are shown as `\u{FFFD}`.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\tc\r"), "a\u{FFFD}[2Jb\tc\u{FFFD}");
    }

    #[test]
    fn colours_are_for_terminals() {
        let mut console = Console::stderr();
        console.colours = false;
        assert_eq!(console.coloured("fraud", 1), "fraud");
        console.colours = true;
        assert_eq!(console.coloured("fraud", 1), "\u{1b}[33mfraud\u{1b}[0m");
        assert_eq!(console.coloured("fraud", 1), console.coloured("fraud", 1 + COLOURS.len()));
    }
}
