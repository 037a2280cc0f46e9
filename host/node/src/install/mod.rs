//! `cocoon node install` and `uninstall`: a node's containerd learns Cocoon's runtimes, and forgets them again.
//!
//! Contract: whatever happens – a refusal, a failure, Ctrl-C, `kill -9` – containerd's configuration is one that this
//! containerd accepts and that means what it meant before, plus Cocoon's runtimes. A draft is shown to containerd before any
//! file is changed and the result after it; what is changed is journalled first and put back on any failure. Uninstalling
//! leaves each file with the bytes, mode and owner that it had.
//!
//! Trust: host side, run by the node's administrator.

mod change;
mod classes;
mod desired;
mod disk;
mod draft;
mod places;
mod recovery;
mod restart;
mod store;
mod transaction;
mod uninstall;

use std::cell::Cell;
use std::path::PathBuf;

use cocoon_stage::{Code, Failure};

use crate::containerd::{Containerd, Dialect};

pub use classes::{CLASSES, Choice, Class, choose, names};
pub use disk::Print;
pub use places::Places;
pub use restart::Restart;
pub use store::{Entry, Journal, Manifest, Store};
pub use transaction::{Change, Transaction, Undone, recover};
pub use uninstall::{Uninstall, uninstall};

use change::Plan;
use recovery::Recovery;
use store::failed;

/// What to install.
#[derive(Clone, Debug, Default)]
pub struct Install {
    /// Where.
    pub places: Places,
    /// containerd's program; looked for where it is not given.
    pub containerd: Option<PathBuf>,
    /// The shim's program, on this disk.
    pub shim: PathBuf,
    /// Folder of a guest image on this disk, to be copied; else one that is there stays.
    pub guest_image: Option<PathBuf>,
    /// Which classes.
    pub classes: Choice,
    /// Whether images of Cocoon's pods go to the proxy snapshotter.
    pub snapshotter: bool,
    /// Whether to write node features even where there is no folder for them.
    pub features: bool,
    /// Whether class files that a person changed are written anew.
    pub reset_classes: bool,
    /// How to restart containerd, if at all.
    pub restart: Option<Restart>,
    /// Settings of class files beside protection and guest image (docs/runtime-reference.md has the keys); no tables.
    pub settings: toml::Table,
    /// Folders whose installed files stay although this installation has them not: earlier versions that pods run with.
    pub keep: Vec<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Files that were written or removed, with what happened to each.
    pub changed: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Whether containerd has been restarted, and answered.
    pub restarted: bool,
    /// Whether it must still be, for its configuration was changed.
    pub to_restart: bool,
}

impl Done {
    /// Whether everything was as it should be already.
    pub fn is_unchanged(&self) -> bool {
        self.changed.is_empty()
    }
}

/// Installs. `stop` is asked between any two steps whether to give up; everything is put back then.
///
/// # Errors
/// `NODE-CONTAINERD-UNUSABLE`, `NODE-CONFIG-REFUSED`, `NODE-BUSY`, `HOST-UNSUPPORTED`, `USAGE-INVALID`: nothing was
/// changed. `NODE-INSTALL-FAILED`: what had been changed was put back.
pub fn install(wish: &Install, stop: &dyn Fn() -> bool) -> Result<Done, Failure> {
    let places = &wish.places;
    let containerd = find(places, wish.containerd.as_deref())?;
    let dialect = containerd.dialect()?;
    let classes = choose(&wish.classes, &places.root, places.is_live())?;
    let store = Store::lock(&places.on_disk(&places.state))?;
    let result = install_into(wish, stop, &store, &containerd, dialect, &classes);
    if result.is_err() && store.is_empty() {
        store.vanish();
    }
    result
}

fn install_into(
    wish: &Install,
    stop: &dyn Fn() -> bool,
    store: &Store,
    containerd: &Containerd,
    dialect: Dialect,
    classes: &[Class],
) -> Result<Done, Failure> {
    let places = &wish.places;
    let mut done = Done::default();
    let recovery = Recovery {
        places,
        containerd: wish.containerd.as_deref(),
        force: false,
        restart: wish.restart.as_ref(),
    };
    recovery.run(store, &mut done)?;
    let manifest = store.manifest()?;

    let main = draft::MainFile::read(places, manifest.as_ref())?;
    let draft = draft::Draft::make(wish, classes, containerd, dialect, &main)?;
    draft.try_out(places, containerd, store, &main)?;

    let desired = desired::files(wish, classes, &draft, &main, manifest.as_ref(), &mut done)?;
    let plan = Plan::make(store, manifest, desired, places, &main, &mut done)?;
    if plan.changes.is_empty() {
        store.tidy(plan.manifest.as_ref());
        done.notes.push("everything was as it should be; nothing was changed".into());
        return Ok(done);
    }
    let restarting = Restarting {
        store,
        restart: wish.restart.as_ref(),
        containerd: Some(containerd),
        tried: Cell::new(false),
    };
    // Class files, shim and guest image are read when a pod starts.
    let own = places.on_disk(&places.drop_in());
    let configures = plan.changes.iter().any(|c| c.path == main.path || c.path == own);
    let result = change::carry_out(store, &plan, &mut done, stop, &|done| {
        if places.is_live() {
            draft
                .confirm(containerd, &places.config)
                .map_err(|reason| Failure::new(Code::NodeInstallFailed, reason))?;
        }
        if configures { restarting.run(places, done) } else { Ok(()) }
    });
    result.map_err(|failure| restarting.back_to_before(places, failure))?;
    done.to_restart = configures && !done.restarted;
    Ok(done)
}

/// A restart of containerd as part of a change.
struct Restarting<'a> {
    store: &'a Store,
    restart: Option<&'a Restart>,
    containerd: Option<&'a Containerd>,
    tried: Cell<bool>,
}

impl Restarting<'_> {
    /// Restarts containerd where that is wished, and waits until it answers.
    fn run(&self, places: &Places, done: &mut Done) -> Result<(), Failure> {
        let (Some(restart), Some(containerd)) = (self.restart, self.containerd) else { return Ok(()) };
        let effective = containerd.effective(&places.config).map_err(|e| failed(&e))?;
        self.tried.set(true);
        // Should this run be cut off from here on, the next one knows what containerd has read.
        self.store.note_restart().map_err(|e| failed(&e))?;
        restart.run_and_wait(containerd, &effective.address()).map_err(|e| failed(&e))?;
        done.restarted = true;
        Ok(())
    }

    /// After a failure: files are as before; so must the containerd be that has read the new ones.
    fn back_to_before(&self, places: &Places, failure: Failure) -> Failure {
        if !self.tried.get() {
            return failure;
        }
        let what = match self.run(places, &mut Done::default()) {
            Ok(()) => {
                "with its configuration as before containerd was restarted again, and answers".to_owned()
            }
            Err(e) => {
                format!("containerd does not run with its configuration as before either: {}", e.reason)
            }
        };
        Failure::new(failure.code, format!("{}; {what}", failure.reason))
    }
}

fn find(places: &Places, given: Option<&std::path::Path>) -> Result<Containerd, Failure> {
    if given.is_some() || places.is_live() {
        return Containerd::find(given);
    }
    let inside = ["usr/local/bin/containerd", "usr/bin/containerd"].map(|p| places.root.join(p));
    match inside.iter().find(|p| p.is_file()) {
        Some(program) => Containerd::find(Some(program)),
        None => {
            let reason =
                format!("there is no containerd in {}; name one of its version", places.root.display());
            Err(Failure::new(Code::NodeContainerdUnusable, reason))
        }
    }
}
