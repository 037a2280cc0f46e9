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
use crate::args::Place;
use crate::dirs;

/// Writes all state to `file`, whole or not at all.
pub fn backup(file: &Path, key: Option<&Path>, place: &Place) -> Result<(), Failure> {
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
    let failed = |e: std::io::Error| Failure::new(Code::StoreUnavailable, format!("{}: {e}", file.display()));
    let mut new = file.as_os_str().to_owned();
    new.push(format!(".new-{}", dirs::random_hex(6)?));
    let written = (|| -> Result<Summary, Failure> {
        let mut out =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        let summary = cocoon_store::backup(store.as_ref(), &mut out, key.as_ref())?;
        out.sync_all().map_err(failed)?;
        std::fs::rename(&new, file).map_err(failed)?;
        Ok(summary)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    tell("backed up", &written?);
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
