//! What a process writes, line by line, with its name in front.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader};

use crate::console::{Console, plain};

/// A longer line is broken: what a process writes without an end must not fill this one's memory.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The name in front of a process's lines.
#[derive(Debug, Clone)]
pub(super) struct Prefix {
    text: String,
}

impl Prefix {
    /// `label`, as wide as the widest one, in the colour of `index`.
    pub(super) fn new(console: &Console, label: &str, width: usize, index: usize) -> Self {
        Self { text: console.coloured(&format!("{label:width$} |"), index) }
    }

    /// A line with the prefix.
    pub(super) fn line(&self, text: &str) -> String {
        format!("{} {}", self.text, plain(text))
    }
}

/// Copies lines to the console until the process closes its end.
pub(super) async fn forward(from: impl AsyncRead + Unpin, prefix: Prefix, console: Console) {
    let mut from = BufReader::new(from);
    loop {
        match next_line(&mut from, MAX_LINE_BYTES).await {
            Ok(Some(line)) => console.line(&prefix.line(&String::from_utf8_lossy(&line))),
            Ok(None) => return,
            Err(error) => return console.line(&prefix.line(&format!("its output cannot be read: {error}"))),
        }
    }
}

/// The next line without its end, at most `max` bytes of it; the rest comes as the next line. `None` at the end.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), max: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let there = from.fill_buf().await?;
        if there.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let room = max - line.len();
        let upto = there.iter().position(|b| *b == b'\n');
        let take = upto.unwrap_or(there.len()).min(room);
        line.extend_from_slice(&there[..take]);
        let ended = upto == Some(take);
        from.consume(take + usize::from(ended));
        if ended || line.len() == max {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8], max: usize) -> Vec<String> {
        // A small buffer, so that lines come in pieces.
        let mut from = BufReader::with_capacity(3, text);
        let mut all = Vec::new();
        while let Some(line) = next_line(&mut from, max).await.unwrap() {
            all.push(String::from_utf8_lossy(&line).into_owned());
        }
        all
    }

    #[tokio::test]
    async fn lines_come_whole_and_long_ones_broken() {
        assert_eq!(lines(b"one\ntwo\r\n\nlast", 100).await, ["one", "two", "", "last"]);
        assert_eq!(lines(b"abcdefgh\nx\n", 4).await, ["abcd", "efgh", "x"].map(str::to_owned));
        assert_eq!(lines(b"", 4).await, Vec::<String>::new());
        assert_eq!(lines(b"\xff\n", 4).await, ["\u{FFFD}"]);
    }

    #[test]
    fn the_prefix_is_as_wide_as_the_widest_name() {
        let console = Console::stderr();
        let uncoloured = |label| Prefix { text: format!("{label:10} |") };
        let made = Prefix::new(&console, "fraud", 10, 0);
        if !console.is_terminal() {
            assert_eq!(made.line("hello"), "fraud      | hello");
        }
        assert_eq!(uncoloured("fraud").line("a\u{1b}[31m"), "fraud      | a\u{FFFD}[31m");
    }
}
