//! Topics on disk: a directory per topic, named by its id, with a card that says what it is. Ids, as topic names may
//! differ in case alone and be as long as a file name may be.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::config::Entries;

const CARD: &str = "topic.json";
const DELETED: &str = "deleted";

/// What is kept of a topic beside its logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Card {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) partitions: i32,
    pub(super) configs: Entries,
}

/// Where a topic is kept.
pub(super) fn place(directory: &Path, id: Uuid) -> PathBuf {
    directory.join(id.to_string())
}

/// Reads all cards. What a crash left of a topic that was being made or deleted is removed.
pub(super) fn load(directory: &Path) -> io::Result<Vec<Card>> {
    fs::create_dir_all(directory)?;
    let mut cards = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match fs::read(path.join(CARD)) {
            Ok(card) => cards.push(serde_json::from_slice(&card)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_dir_all(&path)?,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
    Ok(cards)
}

/// Writes a card; after a crash there is the old or the new one.
pub(super) fn save(topic: Option<&Path>, card: &Card) -> io::Result<()> {
    let Some(topic) = topic else { return Ok(()) };
    let partial = topic.join("topic.partial");
    fs::write(&partial, serde_json::to_vec_pretty(card)?)?;
    fs::rename(partial, topic.join(CARD))
}

/// Removes a topic and its logs.
pub(super) fn remove(topic: Option<&Path>) -> io::Result<()> {
    let Some(topic) = topic else { return Ok(()) };
    // Without its card it is no topic any more, even if a crash keeps the rest from going.
    fs::rename(topic.join(CARD), topic.join(DELETED))?;
    if let Err(error) = fs::remove_dir_all(topic) {
        tracing::warn!(path = %topic.display(), %error, "a deleted topic leaves files until the next start");
    }
    Ok(())
}
