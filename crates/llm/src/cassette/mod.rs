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
//! Answers are recorded, and failures that are the answer's own (not valid, refused, filtered, rejected). Failures of
//! the endpoint are not.

mod file;
mod player;
mod recorder;
pub mod secrets;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

pub use self::file::{Line, Recorded};
pub use self::player::Player;
pub use self::recorder::Recorder;
use crate::port::Model;
use crate::secret::Secret;

/// The environment variable that names a cassette.
pub const VARIABLE: &str = "ANABRANCH_CASSETTE";

/// Changes what is recorded before it is written, and what is asked before it is looked up: for data of persons. It must
/// do the same to the same value.
pub type Mask = Arc<dyn Fn(&mut Value) + Send + Sync>;

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
}

/// The model that `setting` makes of `endpoint`: one that records, or one that replays. `keys` are values that must be in
/// no cassette.
///
/// # Errors
/// [`CassetteError`], before anything is asked.
pub fn open(setting: &str, endpoint: Arc<dyn Model>, keys: Vec<Secret>) -> Result<Arc<dyn Model>, CassetteError> {
    match setting.split_once(':') {
        Some(("record", file)) if !file.is_empty() => Ok(Arc::new(Recorder::open(Path::new(file), endpoint, keys)?)),
        Some(("replay", file)) if !file.is_empty() => Ok(Arc::new(Player::open(Path::new(file), &keys)?)),
        _ => Err(CassetteError::Setting(crate::error::preview(setting))),
    }
}
