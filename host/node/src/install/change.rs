//! From files as they shall be to a change, and carrying it out.

use std::path::PathBuf;

use cocoon_stage::{Code, Failure};

use super::desired::{Desired, Files};
use super::disk::{Content, Print};
use super::draft::MainFile;
use super::places::Places;
use super::store::{Entry, Manifest, Store, failed};
use super::transaction::{Change, Transaction};
use super::{Done, disk};

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// The changes; none where everything is as it should be.
    pub changes: Vec<Change>,
    /// What is installed then; `None`: nothing.
    pub manifest: Option<Manifest>,
}

impl Plan {
    /// Compares what shall be with what is.
    ///
    /// # Errors
    /// `NODE-INSTALL-FAILED` where files cannot be read.
    pub fn make(
        store: &Store,
        old: Option<Manifest>,
        files: Files,
        places: &Places,
        main: &MainFile,
        done: &mut Done,
    ) -> Result<Self, Failure> {
        let mut changes = Vec::new();
        let mut entries = Vec::new();
        for file in &files.desired {
            let now = print(&file.path)?;
            if file.edited && now != main.print {
                // What someone has written since it was read would be lost.
                let reason = format!("{} was changed meanwhile; try again", file.path.display());
                return Err(Failure::new(Code::NodeBusy, reason));
            }
            let entry = old.as_ref().and_then(|m| m.entry(&file.path));
            let original = match entry {
                Some(entry) if !file.edited || now.as_ref() == Some(&entry.installed) => {
                    entry.original.clone()
                }
                _ if file.edited => original_of(store, main)?,
                _ => now.clone(),
            };
            entries.push(Entry {
                path: file.path.clone(),
                installed: file.print.clone(),
                original,
                edited: file.edited,
            });
            if now.as_ref() != Some(&file.print) {
                done.changed.push(say(file, now.as_ref(), entry));
                changes.push(Change {
                    path: file.path.clone(),
                    after: Some((file.content.clone(), file.print.clone())),
                });
            }
        }
        let kept =
            |path: &PathBuf| files.kept.contains(path) || files.desired.iter().any(|f| f.path == *path);
        for entry in old.iter().flat_map(|m| &m.entries) {
            if files.kept.contains(&entry.path) {
                entries.push(entry.clone());
            } else if !kept(&entry.path) {
                changes.extend(take_back(store, entry, main, done)?);
            }
        }
        let manifest = Manifest {
            entries,
            folders: old.as_ref().map(|m| m.folders.clone()).unwrap_or_default(),
            config: places.config.clone(),
            import: places.import(),
            by: env!("CARGO_PKG_VERSION").into(),
        };
        if changes.is_empty() && old.as_ref() != Some(&manifest) {
            done.changed.push("what is remembered of the installation".into());
        } else if changes.is_empty() {
            return Ok(Plan { changes, manifest: Some(manifest) });
        }
        // Of the folders that the change makes, those that it makes now are remembered too.
        let mut manifest = manifest;
        for change in changes.iter().filter(|c| c.after.is_some()) {
            let lacking = disk::lacking(&change.path);
            manifest
                .folders
                .extend(lacking.into_iter().filter(|f| !manifest.folders.contains(f)).collect::<Vec<_>>());
        }
        changes.push(manifest_change(store, Some(&manifest))?);
        Ok(Plan { changes, manifest: Some(manifest) })
    }
}

fn print(path: &std::path::Path) -> Result<Option<Print>, Failure> {
    Print::of(path).map_err(|e| failed(&e))
}

/// The main file as it would be without Cocoon, kept under its digest.
fn original_of(store: &Store, main: &MainFile) -> Result<Option<Print>, Failure> {
    let Some(print) = &main.print else { return Ok(None) };
    let content = Content::Bytes(main.base.clone().into());
    let sha256 = content.sha256().map_err(|e| failed(&e))?;
    store.keep_content(&content, &sha256).map_err(|e| failed(&e))?;
    Ok(Some(Print { sha256, ..print.clone() }))
}

fn say(file: &Desired, now: Option<&Print>, entry: Option<&Entry>) -> String {
    let what = match (now, entry) {
        _ if file.edited => "extended",
        (None, None) => "written",
        (None, Some(_)) => "was gone; written again",
        (Some(_), None) => "replaced; what was there is kept",
        (Some(now), Some(entry)) if *now == entry.installed => "updated",
        (Some(_), Some(_)) => "had been changed; repaired",
    };
    format!("{}: {what}", file.path.display())
}

/// The change that takes a file of ours back; none where someone else has changed it since.
pub(crate) fn take_back(
    store: &Store,
    entry: &Entry,
    main: &MainFile,
    done: &mut Done,
) -> Result<Option<Change>, Failure> {
    let now = print(&entry.path)?;
    let shown = entry.path.display();
    let Some(now) = now else {
        done.notes.push(format!("{shown} was gone already"));
        return Ok(None);
    };
    let after = if now == entry.installed {
        entry.original.clone().map(|print| (Content::CopyOf(store.original(&print.sha256)), print))
    } else if entry.edited && main.path == entry.path {
        let content = Content::Bytes(main.base.clone().into());
        let print = Print { sha256: content.sha256().map_err(|e| failed(&e))?, ..now.clone() };
        done.notes.push(format!("{shown} was changed by someone since: only Cocoon's part was taken out"));
        if print == now {
            return Ok(None);
        }
        Some((content, print))
    } else {
        done.notes.push(format!("{shown} was changed by someone since and was left"));
        return Ok(None);
    };
    done.changed.push(format!("{shown}: {}", if after.is_some() { "as it was before" } else { "removed" }));
    Ok(Some(Change { path: entry.path.clone(), after }))
}

/// The change of the manifest itself.
pub(crate) fn manifest_change(store: &Store, manifest: Option<&Manifest>) -> Result<Change, Failure> {
    let path = store.manifest_path();
    let Some(manifest) = manifest else { return Ok(Change { path, after: None }) };
    let content = Content::Bytes(serde_json::to_vec_pretty(manifest).map_err(|e| failed(&e))?);
    let sha256 = content.sha256().map_err(|e| failed(&e))?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Ok(Change { path, after: Some((content, Print { sha256, mode: 0o600, uid, gid })) })
}

/// Carries a plan out: step by step, then `accept` looks at the result. On any failure everything is put back, and
/// containerd is restarted once more where `accept` had restarted it.
pub(crate) fn carry_out(
    store: &Store,
    plan: &Plan,
    done: &mut Done,
    stop: &dyn Fn() -> bool,
    accept: &dyn Fn(&mut Done) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut transaction = Transaction::prepare(store, plan.changes.clone())?;
    let mut all = || -> Result<(), Failure> {
        loop {
            if stop() {
                return Err(Failure::new(Code::NodeInstallFailed, "it was asked to stop"));
            }
            if !transaction.advance()? {
                break;
            }
        }
        accept(done)
    };
    let result = all().and_then(|()| transaction.commit());
    if let Err(failure) = result {
        let undone = transaction.undo()?;
        let left: Vec<String> = undone.left.iter().map(|p| p.display().to_string()).collect();
        let mut reason = failure.reason;
        if !left.is_empty() {
            reason.push_str(&format!("; {} changed meanwhile and was left", left.join(", ")));
        }
        return Err(Failure { reason, ..Failure::new(failure.code, "") });
    }
    store.tidy(plan.manifest.as_ref());
    Ok(())
}
