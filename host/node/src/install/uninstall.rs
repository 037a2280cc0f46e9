//! `cocoon node uninstall`.

use std::cell::Cell;
use std::path::PathBuf;

use cocoon_stage::{Code, Failure};

use super::change::{self, Plan, manifest_change, take_back};
use super::draft::{self, MainFile};
use super::places::Places;
use super::recovery::Recovery;
use super::restart::Restart;
use super::store::{Store, failed};
use super::transaction::remove_folders;
use super::{Done, Restarting, find};
use crate::containerd::{Containerd, Effective, SNAPSHOTTER, Scope};
use crate::pods;

/// What to uninstall.
#[derive(Clone, Debug, Default)]
pub struct Uninstall {
    /// Where.
    pub places: Places,
    /// containerd's program.
    pub containerd: Option<PathBuf>,
    /// Although pods run. They go on until they end, but nothing can be done with them through containerd after its restart.
    pub force: bool,
    /// How to restart containerd, if at all.
    pub restart: Option<Restart>,
}

/// Uninstalls: every file is as it was before, save those that someone changed since.
///
/// # Errors
/// `NODE-BUSY` while pods run; `NODE-INSTALL-FAILED`: what had been changed was put back.
pub fn uninstall(wish: &Uninstall, stop: &dyn Fn() -> bool) -> Result<Done, Failure> {
    let state = wish.places.on_disk(&wish.places.state);
    let mut done = Done::default();
    if !state.exists() {
        done.notes.push("nothing is installed".into());
        return Ok(done);
    }
    let store = Store::lock(&state)?;
    let recovery = Recovery {
        places: &wish.places,
        containerd: wish.containerd.as_deref(),
        force: wish.force,
        restart: wish.restart.as_ref(),
    };
    recovery.run(&store, &mut done)?;
    let Some(manifest) = store.manifest()? else {
        done.notes.push("nothing is installed".into());
        draft::remove_drafts(&wish.places.on_disk(&wish.places.config));
        store.vanish();
        return Ok(done);
    };
    // As it was installed: another --config now would look for Cocoon in a file where it is not.
    let places = Places { config: manifest.config.clone(), ..wish.places.clone() };
    if places.is_live() && !wish.force {
        let running = pods::running(&places.pods, &places.shim());
        if !running.is_empty() {
            return Err(Failure::new(Code::NodeBusy, format!("pods still run: {}", running.join(", "))));
        }
    }
    let main = MainFile::read(&places, Some(&manifest))?;
    let containerd = match find(&places, wish.containerd.as_deref()) {
        Ok(containerd) => Some(containerd),
        Err(e) => {
            done.notes.push(format!("containerd was not asked whether it agrees: {}", e.reason));
            None
        }
    };
    let before =
        containerd.as_ref().filter(|_| places.is_live()).and_then(|c| c.effective(&places.config).ok());

    let mut changes = Vec::new();
    // The main file first, so that at no time it imports what is not there.
    for entry in manifest.entries.iter().rev() {
        changes.extend(take_back(&store, entry, &main, &mut done)?);
    }
    changes.push(manifest_change(&store, None)?);
    done.changed.push("what is remembered of the installation: removed".into());
    let plan = Plan { changes, manifest: None };
    let restarting = Restarting {
        store: &store,
        restart: wish.restart.as_ref(),
        containerd: containerd.as_ref(),
        tried: Cell::new(false),
    };
    let result = change::carry_out(&store, &plan, &mut done, stop, &|done| {
        if let (Some(containerd), Some(before)) = (&containerd, &before) {
            confirm(containerd, before, &places)?;
        }
        restarting.run(&places, done)?;
        remove_folders(&manifest.folders);
        Ok(())
    });
    result.map_err(|failure| restarting.back_to_before(&places, failure))?;
    store.vanish();
    done.to_restart = !done.restarted;
    Ok(done)
}

/// containerd still takes its configuration, nothing of others changed in it, and nothing of ours is left.
fn confirm(containerd: &Containerd, before: &Effective, places: &Places) -> Result<(), Failure> {
    let after = containerd
        .effective(&places.config)
        .map_err(|e| failed(&format!("containerd would refuse it: {e}")))?;
    let names = super::names();
    let differences = before.differences(&after, &Scope { runtimes: &names, snapshotter: SNAPSHOTTER });
    if differences.is_empty() {
        return Ok(());
    }
    Err(failed(&format!("other settings of containerd would change: {}", differences.join("; "))))
}
