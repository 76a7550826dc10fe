//! Cassettes: model calls that are recorded once and replayed in tests, without an endpoint.
//!
//! A cassette is a file of JSON lines, one call each: what was asked, and what was answered. It is text to be reviewed
//! and committed, so nothing secret may be in it: request headers are never recorded, and a line that holds what looks
//! like a secret ([`secrets`]) is not written, nor is a cassette with one played.
//!
//! | `ANABRANCH_CASSETTE` | what it does |
//! |---|---|
//! | `record:FILE` | asks the endpoint, and appends each call to the file; several processes may share it |
//! | `replay:FILE` | answers from the file; what is not in it is a fatal error with the difference to what is |
//!
//! Data of persons is no secret, and is not in it either: a text that the request says is such ([`ChatRequest::personal`])
//! is written as `[personal 1]`, and put back when the answer is played; what an answer holds in fields that its schema
//! marks is written as `[masked]`.
//!
//! [`ChatRequest::personal`]: crate::ChatRequest::personal
//!
//! Answers are recorded, and failures that are the answer's own (not valid, refused, filtered, rejected). Failures of
//! the endpoint are not.

mod file;
mod persons;
mod player;
mod recorder;
pub mod secrets;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::file::{Line, Recorded};
pub use self::persons::Marks;
pub use self::player::Player;
pub use self::recorder::Recorder;
use crate::port::Model;
use crate::secret::Secret;

/// The environment variable that names a cassette.
pub const VARIABLE: &str = "ANABRANCH_CASSETTE";

/// A cassette cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CassetteError {
    /// The setting is neither `record:FILE` nor `replay:FILE`.
    #[error("{VARIABLE} is `{0}`; write record:FILE or replay:FILE")]
    Setting(String),
    /// The file cannot be opened, read or written.
    #[error("the cassette {path} cannot be used: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no call.
    #[error("the cassette {path}, line {line}: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// Something in it looks like a secret.
    #[error("the cassette {path} would hold a secret: {found}; take it out of what is asked, or out of the file")]
    Secret {
        /// The file.
        path: PathBuf,
        /// What, and where; not the secret itself.
        found: secrets::Found,
    },
    /// There is more data of persons in a request than can be looked for.
    #[error("the data of persons in what is asked cannot be hidden: {0}")]
    Persons(String),
}

/// The model that `setting` makes of `endpoint`: one that records, or one that replays. `keys` are values that must be in
/// no cassette, `marks` tells data of persons in an answer.
///
/// # Errors
/// [`CassetteError`], before anything is asked.
pub fn open(
    setting: &str,
    endpoint: Arc<dyn Model>,
    keys: Vec<Secret>,
    marks: Marks,
) -> Result<Arc<dyn Model>, CassetteError> {
    match setting.split_once(':') {
        Some(("record", file)) if !file.is_empty() => {
            Ok(Arc::new(Recorder::open(Path::new(file), endpoint, keys)?.with_marks(marks)))
        }
        Some(("replay", file)) if !file.is_empty() => {
            Ok(Arc::new(Player::open(Path::new(file), &keys)?.with_marks(marks)))
        }
        _ => Err(CassetteError::Setting(crate::error::preview(setting))),
    }
}
