//! Values too large for a record: where they lie instead.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::unit::{Size, Span};

const OVER: u64 = 256 * 1024;
const MOST: u64 = 64 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Values too large for a record lie in a store, and claims stand for them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct ClaimsLine {
    /// Where they lie: `dir:` and the absolute path of a directory that every process sees, or `s3://bucket/prefix`. S3's
    /// endpoint, region and credentials come from the environment (`AWS_…`).
    #[schemars(required, example = &"dir:/var/lib/anabranch/claims")]
    pub(crate) store: Option<String>,
    /// A text or a list whose JSON is larger than this is put there. Default: 256KiB.
    #[schemars(example = &"256KiB")]
    pub(crate) over: Option<Size>,
    /// The largest that is put or fetched. Default: 64MiB.
    #[schemars(example = &"64MiB")]
    pub(crate) most: Option<Size>,
    /// Longest that one put or fetch may take. Default: 30s.
    #[schemars(example = &"30s")]
    pub(crate) timeout: Option<Span>,
}

/// Values too large for a record, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSettings {
    /// Where they lie.
    pub store: ClaimStore,
    /// A text or a list whose JSON has more bytes than this is put there.
    pub over_bytes: usize,
    /// Most bytes that are put or fetched at once.
    pub most_bytes: u64,
    /// Longest that one put or fetch may take.
    pub timeout: Duration,
}

/// Where values lie that are too large for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimStore {
    /// A directory, by its absolute path.
    Directory(PathBuf),
    /// A bucket of an S3-compatible store.
    S3 {
        /// The bucket.
        bucket: String,
        /// What names in it begin with; may be empty.
        prefix: String,
    },
}

/// Reads `claims.store`.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(crate) fn store(text: &str) -> Result<ClaimStore, (String, &'static str)> {
    const HELP: &str = "write `dir:` and an absolute path, or `s3://bucket/prefix`";
    if let Some(path) = text.strip_prefix("dir:") {
        let absolute = path.starts_with('/') && !path.split('/').any(|part| part == "..");
        let wrong = || (format!("`{path}` is no absolute path, and every process must see the same directory"), HELP);
        return if absolute { Ok(ClaimStore::Directory(PathBuf::from(path))) } else { Err(wrong()) };
    }
    let Some(rest) = text.strip_prefix("s3://") else { return Err((format!("`{text}` names no store"), HELP)) };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(letter) {
        let help = "a bucket has 3 to 63 small letters, digits, `.` and `-`";
        return Err((format!("`{bucket}` is no name of a bucket"), help));
    }
    let prefix = prefix.trim_end_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    if !prefix.is_empty() && !prefix.split('/').all(plain) {
        return Err((format!("`{prefix}` is no prefix of names"), "write segments separated by `/`, or leave it out"));
    }
    Ok(ClaimStore::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

/// Fills in the defaults. `None`: there is no store, or none that can be used.
pub(crate) fn filled(line: Option<&ClaimsLine>) -> Option<ClaimSettings> {
    let line = line?;
    Some(ClaimSettings {
        store: store(line.store.as_ref()?).ok()?,
        over_bytes: usize::try_from(line.over.map_or(OVER, |size| size.0)).unwrap_or(usize::MAX),
        most_bytes: line.most.map_or(MOST, |size| size.0),
        timeout: line.timeout.map_or(TIMEOUT, |span| span.0),
    })
}
