//! An append-only file of JSON lines: what the coordinators must not forget.
//!
//! A record is written before its request is answered, so that a kill of the process loses nothing acknowledged. The
//! system's cache is trusted (no fsync per record): this is a development broker. Lines can be read with `jq`.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// A journal below this many bytes is never rewritten.
const FLOOR: u64 = 1 << 20;

/// An append-only journal, on a file or of memory only.
#[derive(Debug)]
pub(crate) struct Journal {
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    file: File,
    /// Bytes of whole records in the file.
    len: u64,
    /// What the file measured when it was last rewritten.
    compacted: u64,
    /// A failed append left bytes behind that could not be taken back: appending after them would garble the file.
    broken: bool,
}

impl Journal {
    /// A journal that keeps nothing.
    pub(crate) fn memory() -> Self {
        Self { place: None }
    }

    /// Opens the file, or creates it. What it holds is read with [`Journal::replay`], which must come before the first
    /// append.
    pub(crate) fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let len = file.metadata()?.len();
        Ok(Self { place: Some(Place { path, file, len, compacted: 0, broken: false }) })
    }

    /// Hands over every record in the order written. A torn last record, as a kill in the middle of a write leaves it,
    /// is cut off.
    ///
    /// # Errors
    /// `InvalidData` when a record before the last cannot be read: then the file was damaged by something else, and
    /// going on would forget acknowledged work. Otherwise what reading the file returns.
    pub(crate) fn replay<T: DeserializeOwned>(&mut self, mut each: impl FnMut(T)) -> io::Result<()> {
        let Some(place) = &mut self.place else { return Ok(()) };
        let mut reader = BufReader::new(File::open(&place.path)?);
        let (mut good, mut number, mut line) = (0u64, 0u64, Vec::new());
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            number += 1;
            match line.ends_with(b"\n").then(|| serde_json::from_slice(&line)) {
                Some(Ok(record)) => each(record),
                Some(Err(error)) if !reader.fill_buf()?.is_empty() => {
                    return Err(unreadable(&place.path, number, &error));
                }
                Some(Err(_)) | None => break,
            }
            good += read as u64;
        }
        if good < place.len {
            tracing::warn!(path = %place.path.display(), bytes = place.len - good, "cut a torn record off a journal");
            place.file.set_len(good)?;
        }
        place.len = good;
        Ok(())
    }

    /// Appends a record in one write. When this fails, nothing was appended.
    pub(crate) fn append<T: Serialize>(&mut self, record: &T) -> io::Result<()> {
        let Some(place) = &mut self.place else { return Ok(()) };
        if place.broken {
            return Err(io::Error::other("the journal is broken by an earlier failed write"));
        }
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        match place.file.write_all(&line) {
            Ok(()) => {
                place.len += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                place.broken = place.file.set_len(place.len).is_err();
                Err(error)
            }
        }
    }

    /// Replaces the file by `snapshot`, if it has grown to twice what its last snapshot measured. A failure is logged,
    /// leaves the file as it is, and is tried again when the file has doubled once more.
    pub(crate) fn tidy<T: Serialize>(&mut self, snapshot: impl FnOnce() -> Vec<T>) {
        let Some(place) = &mut self.place else { return };
        if place.len < FLOOR.max(place.compacted.saturating_mul(2)) {
            return;
        }
        place.compacted = place.len;
        if let Err(error) = place.rewrite(&snapshot()) {
            tracing::warn!(path = %place.path.display(), %error, "could not rewrite a journal");
        }
    }
}

impl Place {
    fn rewrite<T: Serialize>(&mut self, records: &[T]) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut bytes = Vec::new();
        for record in records {
            serde_json::to_writer(&mut bytes, record)?;
            bytes.push(b'\n');
        }
        let mut file = File::create(&beside)?;
        file.write_all(&bytes)?;
        // The rename may reach the disk before the bytes do, unless they are there already.
        file.sync_data()?;
        let file = OpenOptions::new().read(true).append(true).open(&beside)?;
        std::fs::rename(&beside, &self.path)?;
        self.file = file;
        self.len = bytes.len() as u64;
        self.compacted = self.len;
        self.broken = false;
        Ok(())
    }
}

fn unreadable(path: &Path, line: u64, error: &serde_json::Error) -> io::Error {
    let text = format!("{}: record {line} cannot be read: {error}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Bytes in a journal record: base64.
pub(crate) mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        STANDARD.decode(text.as_bytes()).map(Bytes::from).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        Journal::open(path)?.replay(|record: String| found.push(record))?;
        Ok(found)
    }

    fn filled(path: &Path, records: &[&str]) -> Journal {
        let mut journal = Journal::open(path).unwrap();
        journal.replay(|_: String| ()).unwrap();
        for record in records {
            journal.append(record).unwrap();
        }
        journal
    }

    #[test]
    fn what_was_appended_is_replayed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        drop(filled(&path, &["a", "line\nbreak", "c"]));
        drop(filled(&path, &["d"]));
        assert_eq!(read(&path).unwrap(), ["a", "line\nbreak", "c", "d"]);
    }

    #[test]
    fn a_torn_tail_is_cut_off_and_the_next_record_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        drop(filled(&path, &["a", "b"]));
        for torn in ["\"to", "\"tor\n"] {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap(), ["a", "b"]);
        }
        drop(filled(&path, &["c"]));
        assert_eq!(read(&path).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn damage_in_the_middle_is_an_error_that_names_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        std::fs::write(&path, "\"a\"\nnonsense\n\"b\"\n").unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("record 2"), "{error}");
    }

    #[test]
    fn a_grown_journal_shrinks_to_its_snapshot_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = filled(&path, &["a"]);
        journal.tidy(|| -> Vec<String> { panic!("it is small") });
        let large = "x".repeat(FLOOR as usize);
        journal.append(&large).unwrap();
        journal.tidy(|| vec!["kept"]);
        journal.append(&"after").unwrap();
        assert_eq!(read(&path).unwrap(), ["kept", "after"]);
        journal.tidy(|| -> Vec<String> { panic!("it was just rewritten") });
    }

    #[test]
    fn in_memory_nothing_is_kept() {
        let mut journal = Journal::memory();
        journal.append(&"a").unwrap();
        journal.replay(|_: String| panic!("nothing is kept")).unwrap();
    }
}
