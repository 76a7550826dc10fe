//! What is wrong with a file, where, and what to write instead.

use std::fmt;

use serde::Serialize;

use crate::yaml::{At, Fault, Node};

/// Most diagnostics that are kept of one file: past that, a reader learns nothing new.
const MOST: usize = 200;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The topology cannot be used.
    Error,
    /// The topology can be used, but probably is not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One fault of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was named to [`parse`](crate::parse).
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Where in the file's structure, such as `agents.identity.concurrency`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, line, column, path, message, help } = self;
        write!(f, "{file}:{line}:{column}: {severity}: ")?;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        write!(f, "{message}\n  help: {help}")
    }
}

/// All that is wrong with a file, in order of line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// In order of line.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    pub(crate) fn of_syntax(file: &str, fault: Fault) -> Self {
        Self(vec![Diagnostic {
            severity: Severity::Error,
            file: file.to_owned(),
            line: fault.line,
            column: fault.column,
            path: String::new(),
            message: fault.message,
            help: fault.help,
        }])
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// A place in the file's structure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Path(Vec<Segment>);

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

impl Segment {
    fn as_key(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::Index(_) => None,
        }
    }
}

impl Path {
    /// A path of keys.
    pub(crate) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|k| Segment::Key((*k).to_owned())).collect())
    }

    /// One step further, by key.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.then(Segment::Key(key.to_owned()))
    }

    /// One step further, by index.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.then(Segment::Index(index))
    }

    fn then(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }

    /// The first key.
    pub(crate) fn first(&self) -> Option<&str> {
        self.0.first().and_then(Segment::as_key)
    }

    /// The last step, if it is a key.
    pub(crate) fn field(&self) -> Option<&str> {
        self.0.last().and_then(Segment::as_key)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            match segment {
                Segment::Key(key) if key.contains('.') => write!(f, "{dot}{key:?}")?,
                Segment::Key(key) => write!(f, "{dot}{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Collects diagnostics; finds the line that a path stands for.
pub(crate) struct Report<'a> {
    file: &'a str,
    root: &'a Node,
    found: Vec<Diagnostic>,
    /// How many were found past [`MOST`].
    more: usize,
    failed: bool,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, root: &'a Node) -> Self {
        Self { file, root, found: Vec::new(), more: 0, failed: false }
    }

    /// The topology cannot be used.
    pub(crate) fn error(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        let at = self.root.locate(path);
        self.push(Severity::Error, at, path, message.into(), help.into());
    }

    /// An error at a place that the path alone does not give, such as the second of two equal keys.
    pub(crate) fn error_at(&mut self, at: At, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Error, at, path, message.into(), help.into());
    }

    /// An error about a key, not about its value.
    pub(crate) fn error_at_key(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        let at = self.root.locate_key(path);
        self.push(Severity::Error, at, path, message.into(), help.into());
    }

    /// Probably not what was meant.
    pub(crate) fn warn(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        let at = self.root.locate(path);
        self.push(Severity::Warning, at, path, message.into(), help.into());
    }

    /// A warning about a key, not about its value.
    pub(crate) fn warn_at_key(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        let at = self.root.locate_key(path);
        self.push(Severity::Warning, at, path, message.into(), help.into());
    }

    fn push(&mut self, severity: Severity, at: At, path: &Path, message: String, help: String) {
        self.failed |= severity == Severity::Error;
        if self.found.len() >= MOST {
            self.more += 1;
            return;
        }
        let (file, path) = (self.file.to_owned(), path.to_string());
        self.found.push(Diagnostic { severity, file, line: at.0, column: at.1, path, message, help });
    }

    /// The warnings, or everything if there is an error.
    pub(crate) fn finish(mut self) -> Result<Vec<Diagnostic>, Diagnostics> {
        self.found.sort_by_key(|d| (d.line, d.column, d.severity));
        if let (Some(last), 1..) = (self.found.last(), self.more) {
            let severity = if self.failed { Severity::Error } else { Severity::Warning };
            let message = format!("{} more are not shown", self.more);
            let more =
                Diagnostic { severity, path: String::new(), message, help: "mend these first".into(), ..last.clone() };
            self.found.push(more);
        }
        if self.failed { Err(Diagnostics(self.found)) } else { Ok(self.found) }
    }
}

/// Which of `known` was probably meant; all of them if none is near.
pub(crate) fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(&word.to_lowercase(), k), *k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 4)
        .min();
    match near {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "remove it".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}
