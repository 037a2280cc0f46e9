//! Snapshots on disk: one JSON file each, written whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Most bytes of a file: names, and labels within their limits, escaped.
const MAX_BYTES: u64 = 1 << 20;

/// What a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// To be read only.
    View,
    /// To be written to.
    Active,
    /// A layer, for others to be based on.
    Committed,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Its number, which its files are named by. Never used twice.
    pub id: u64,
    /// Its name, or key while it is not committed.
    pub name: String,
    /// The committed one that it is based on; empty for none.
    pub parent: String,
    /// What it is.
    pub kind: Kind,
    /// When it was made, or committed.
    pub created: Time,
    /// When it was changed last.
    pub updated: Time,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time(pub i64, pub i32);

impl Time {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = i32::try_from(since.subsec_nanos()).unwrap_or_default();
        Time(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos)
    }
}

/// The folder of records.
#[derive(Debug)]
pub(crate) struct Records(PathBuf);

impl Records {
    pub fn new(folder: PathBuf) -> Self {
        Records(folder)
    }

    fn path(&self, id: u64) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    /// All snapshots. What a killed process was writing is removed; a file that is damaged is put aside, since one bad
    /// block must not take all pods of the node with it.
    pub fn load(&self) -> Result<Vec<Snapshot>, Error> {
        let mut snapshots = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(Error::io(&self.0))? {
            let path = entry.map_err(Error::io(&self.0))?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("json") => match read(&path) {
                    Ok(snapshot) if self.path(snapshot.id) == path => snapshots.push(snapshot),
                    found => {
                        let reason = found.err().map_or_else(|| "another's number".into(), |e| e.to_string());
                        tracing::warn!(path = %path.display(), reason, "a damaged record is put aside");
                        std::fs::rename(&path, path.with_extension("damaged")).map_err(Error::io(&path))?;
                    }
                },
                Some("new") => std::fs::remove_file(&path).map_err(Error::io(&path))?,
                _ => {}
            }
        }
        Ok(snapshots)
    }

    /// Writes a snapshot's record, in place of an earlier one. When this returns it is on the medium.
    pub fn put(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let path = self.path(snapshot.id);
        let new = path.with_extension("new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(snapshot)?)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|source| {
            let _ = std::fs::remove_file(&new);
            Error::Io { path: path.clone(), source }
        })?;
        self.sync()
    }

    /// Removes a snapshot's record.
    pub fn remove(&self, id: u64) -> Result<(), Error> {
        let path = self.path(id);
        std::fs::remove_file(&path).map_err(Error::io(&path))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), Error> {
        File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(Error::io(&self.0))
    }
}

fn read(path: &Path) -> io::Result<Snapshot> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}
