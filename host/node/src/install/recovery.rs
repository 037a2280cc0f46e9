//! What is done before anything else: an earlier run that was cut off is undone.

use std::path::Path;

use cocoon_stage::{Code, Failure};

use super::places::Places;
use super::restart::Restart;
use super::store::{Journal, Store, failed};
use super::transaction::recover;
use super::{Done, find};
use crate::pods;

/// How an earlier run may be undone.
pub(super) struct Recovery<'a> {
    /// Where.
    pub places: &'a Places,
    /// containerd's program, where it was named.
    pub containerd: Option<&'a Path>,
    /// Although pods run.
    pub force: bool,
    /// How to restart containerd, if at all.
    pub restart: Option<&'a Restart>,
}

impl Recovery<'_> {
    /// Undoes it and says so. A containerd that had been restarted with what is undone is restarted again.
    ///
    /// # Errors
    /// `NODE-BUSY` where pods run with what would be removed; `NODE-INSTALL-FAILED`.
    pub fn run(&self, store: &Store, done: &mut Done) -> Result<(), Failure> {
        let Some(journal) = store.journal()? else { return Ok(()) };
        self.leave_pods_alone(&journal)?;
        let Some(undone) = recover(store)? else { return Ok(()) };
        let count = undone.restored.len();
        done.notes.push(format!(
            "an earlier run was cut off: {count} files that it had changed were put back first"
        ));
        let left = undone
            .left
            .iter()
            .map(|p| format!("{} was changed by someone else since and was left", p.display()));
        done.notes.extend(left);
        if journal.restarted { self.restart(done) } else { Ok(()) }
    }

    /// Undoing an installation removes what pods that have begun since run with.
    fn leave_pods_alone(&self, journal: &Journal) -> Result<(), Failure> {
        let removes = |step: &super::store::Step| step.before.is_none() && step.path.exists();
        if self.force || !self.places.is_live() || !journal.steps.iter().any(removes) {
            return Ok(());
        }
        match pods::running(&self.places.pods, &self.places.shim()).as_slice() {
            [] => Ok(()),
            running => {
                let why = "an earlier run was cut off, and pods run with what undoing it would remove";
                Err(Failure::new(Code::NodeBusy, format!("{why}: {}", running.join(", "))))
            }
        }
    }

    fn restart(&self, done: &mut Done) -> Result<(), Failure> {
        let Some(restart) = self.restart else {
            let note = "that run had restarted containerd: restart it, for it still has what was undone";
            done.notes.push(note.into());
            return Ok(());
        };
        let containerd = find(self.places, self.containerd)?;
        let effective = containerd.effective(&self.places.config).map_err(|e| failed(&e))?;
        restart.run_and_wait(&containerd, &effective.address()).map_err(|e| failed(&e))?;
        done.notes.push("that run had restarted containerd: it was restarted again".into());
        done.restarted = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::super::disk::{Content, Print};
    use super::super::transaction::{Change, Transaction};
    use super::*;

    #[test]
    fn an_installation_that_was_cut_off_is_not_undone_under_running_pods() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            root: "/".into(),
            prefix: dir.path().join("opt"),
            pods: dir.path().join("run"),
            ..Places::default()
        };
        let content = Content::Bytes("shim".into());
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let print = Print { sha256: content.sha256().unwrap(), mode: 0o755, uid, gid };
        let state = dir.path().join("state");
        let store = Store::lock(&state).unwrap();
        let change = Change { path: places.shim(), after: Some((content, print)) };
        let mut transaction = Transaction::prepare(&store, vec![change]).unwrap();
        assert!(transaction.advance().unwrap());
        store.note_restart().unwrap();

        let recovery = |force| Recovery { places: &places, containerd: None, force, restart: None };
        fs::create_dir_all(dir.path().join("run/s")).unwrap();
        let socket = UnixListener::bind(dir.path().join("run/s/pod-1.sock")).unwrap();
        let mut done = Done::default();
        let busy = recovery(false).run(&store, &mut done).unwrap_err();
        assert!(busy.code == Code::NodeBusy && busy.reason.contains("pod-1"), "{busy:?}");
        assert!(places.shim().exists() && store.journal().unwrap().is_some());

        drop(socket);
        recovery(false).run(&store, &mut done).unwrap();
        assert!(!places.shim().exists() && store.journal().unwrap().is_none());
        assert!(done.notes.iter().any(|note| note.contains("restart it")), "{:?}", done.notes);
        let notes = done.notes.len();
        recovery(false).run(&store, &mut done).unwrap();
        assert_eq!(done.notes.len(), notes, "there is nothing left to undo");
    }
}
