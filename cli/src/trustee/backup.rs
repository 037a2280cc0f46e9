//! `cocoon trustee backup` and `restore`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cocoon_config::{Settings, StateKind};
use cocoon_stage::{Code, Failure};
use cocoon_store::{BackupKey, RestoreMode, Summary};
use cocoon_trustee::{Config, Trustee};

use super::backends::Tokens;
use super::settings::Source;
use super::state;
use crate::admin::{say, usage};
use crate::args::{Common, Place};
use crate::client::AdminClient;
use crate::dirs;
use crate::embedded::now;

/// The beginning and the end of names that are given to files in a folder.
const NAMED: (&str, &str) = ("trustee-", ".backup");

/// Where a backup goes.
pub struct Target {
    file: PathBuf,
    /// The folder of which files are removed, and how many stay.
    keep: Option<(PathBuf, usize)>,
}

impl Target {
    /// A file, or a new one in a folder, of whose older ones `keep` stay with it.
    pub fn new(file: Option<PathBuf>, into: Option<PathBuf>, keep: Option<u32>) -> Result<Self, Failure> {
        let Some(folder) = into else {
            return Ok(Target { file: file.ok_or_else(|| usage("which file?"))?, keep: None });
        };
        // Names in the order of time, whatever the clock's zone.
        let name = format!("{}{:010}-{}{}", NAMED.0, now(), dirs::random_hex(4)?, NAMED.1);
        let keep = keep.and_then(|n| usize::try_from(n).ok());
        Ok(Target { file: folder.join(name), keep: keep.map(|n| (folder, n)) })
    }

    /// Has `write` write a file beside the target, which it becomes if all went well; then removes the oldest.
    fn write<T>(&self, write: impl FnOnce(&mut File) -> Result<T, Failure>) -> Result<T, Failure> {
        let file = &self.file;
        let failed =
            |e: std::io::Error| Failure::new(Code::StoreUnavailable, format!("{}: {e}", file.display()));
        let mut new = file.as_os_str().to_owned();
        new.push(format!(".new-{}", dirs::random_hex(6)?));
        let written = (|| -> Result<T, Failure> {
            let mut out = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)
                .map_err(failed)?;
            let made = write(&mut out)?;
            out.sync_all().map_err(failed)?;
            std::fs::rename(&new, file).map_err(failed)?;
            Ok(made)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        let made = written?;
        self.remove_oldest();
        Ok(made)
    }

    /// Removes what is more than is kept, the oldest first. That one cannot be removed is told, and no failure: the new one is there.
    fn remove_oldest(&self) {
        let Some((folder, keep)) = &self.keep else { return };
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(NAMED.0) && name.ends_with(NAMED.1))
            .collect();
        names.sort();
        names.truncate(names.len().saturating_sub(*keep));
        for name in names {
            if let Err(e) = std::fs::remove_file(folder.join(&name)) {
                eprintln!("cocoon: {name} could not be removed: {e}");
            }
        }
    }
}

/// Has a Trustee that serves send all its state, and keeps it if it came whole.
pub async fn fetch(target: &Target, common: &Common) -> Result<(), Failure> {
    let client = AdminClient::open(common)?;
    // Asked for before there is a file.
    let mut answer = client.download("backup", "backup").await?;
    let summary = tokio::task::block_in_place(|| {
        target.write(|out| {
            let failed = |reason: String| Failure::new(Code::StoreUnavailable, reason);
            while let Some(piece) = tokio::runtime::Handle::current().block_on(answer.chunk()) {
                let piece = piece.map_err(|e| failed(format!("Trustee's answer ended early: {e}")))?;
                std::io::Write::write_all(out, &piece).map_err(|e| failed(e.to_string()))?;
            }
            // It is read from its beginning.
            std::io::Seek::rewind(out).map_err(|e| failed(e.to_string()))?;
            Ok(cocoon_store::verify_backup(out, None)?)
        })
    })?;
    tell("backed up", &summary);
    Ok(())
}

/// Writes all state to a file, whole or not at all.
pub fn backup(target: &Target, key: Option<&Path>, place: &Place) -> Result<(), Failure> {
    let (store, settings, folder) = open(place, false)?;
    if state::journal(&settings, &folder).is_some_and(|journal| journal.exists()) {
        // What a killed Trustee left in it belongs into the backup; opening the log moves it to the state.
        let sealer = state::sealer(&settings, &folder, &store, &Tokens::default())?;
        let mut config = Config::new(store.clone(), sealer.into());
        config.journal = state::journal(&settings, &folder);
        drop(Trustee::new(config)?);
    }
    let made = key.is_some_and(|key| !key.exists());
    let key_file = key;
    let key = key.map(BackupKey::open_or_create).transpose()?;
    if let (true, Some(key_file)) = (made, key_file) {
        eprintln!("cocoon: backup key written to {}; keep it elsewhere than the backup", key_file.display());
    }
    let summary = target.write(|out| Ok(cocoon_store::backup(store.as_ref(), out, key.as_ref())?))?;
    tell("backed up", &summary);
    eprintln!("cocoon: secrets in it stay sealed; a restore needs the sealing key too");
    Ok(())
}

/// Puts a backup's content into the state.
pub fn restore(file: &Path, key: Option<&Path>, replace: bool, place: &Place) -> Result<(), Failure> {
    let mut input = File::open(file).map_err(|e| usage(format!("{}: {e}", file.display())))?;
    let key = key.map(BackupKey::open).transpose()?;
    let (store, settings, folder) = open(place, true)?;
    let mode = if replace { RestoreMode::Replace } else { RestoreMode::EmptyOnly };
    let summary = cocoon_store::restore(&mut input, store.as_ref(), mode, key.as_ref())?;
    if let Some(journal) = state::journal(&settings, &folder)
        && let Err(error) = std::fs::remove_file(&journal)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        let reason = format!("{}: {error}; remove it: it belongs to the state before", journal.display());
        return Err(Failure::new(Code::StoreCorrupt, reason));
    }
    tell("restored", &summary);
    Ok(())
}

type State = (std::sync::Arc<dyn cocoon_store::Store>, Settings, PathBuf);

fn open(place: &Place, exclusive: bool) -> Result<State, Failure> {
    let settings = Source::of_place(place).read()?.settings;
    if settings.state.kind == StateKind::Memory {
        return Err(super::invalid(
            "state.kind",
            "memory is lost at exit; there is nothing to back up or restore",
        ));
    }
    let folder = state::folder(&settings)?;
    Ok((state::store(&settings, &folder, exclusive)?, settings, folder))
}

fn tell(done: &str, summary: &Summary) {
    say(&format!(
        "{done}: {} records, {} bytes, sha256 {}",
        summary.records,
        summary.bytes,
        hex::encode(summary.sha256)
    ));
}
