//! A change of several files that happens whole or not at all.
//!
//! 1. [`Transaction::prepare`] keeps the old content of every file and writes the journal: from here on a crash is undone by
//!    the next run ([`recover`]).
//! 2. [`Transaction::advance`] makes one step; the caller may look at the result between any two.
//! 3. [`Transaction::commit`] removes the journal, or [`Transaction::undo`] puts everything back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cocoon_stage::Failure;

use super::disk::{self, Content, Print};
use super::store::{Journal, Step, Store, failed};

/// A file as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: PathBuf,
    /// What; `None`: it shall not be there.
    pub after: Option<(Content, Print)>,
}

/// A change under way.
#[derive(Debug)]
pub struct Transaction<'a> {
    store: &'a Store,
    journal: Journal,
    changes: Vec<Change>,
    done: usize,
}

impl<'a> Transaction<'a> {
    /// Gets ready. No file is changed yet.
    ///
    /// # Errors
    /// `NODE-INSTALL-FAILED`; nothing was changed.
    pub fn prepare(store: &'a Store, changes: Vec<Change>) -> Result<Self, Failure> {
        let prepare = || -> io::Result<Journal> {
            let mut steps = Vec::new();
            let mut folders: Vec<PathBuf> = Vec::new();
            for change in &changes {
                let before = Print::of(&change.path)?;
                if let Some(before) = &before {
                    store.keep(&change.path, before)?;
                }
                if change.after.is_some() {
                    let lacking = disk::lacking(&change.path);
                    folders
                        .extend(lacking.into_iter().filter(|dir| !folders.contains(dir)).collect::<Vec<_>>());
                }
                let after = change.after.as_ref().map(|(_, print)| print.clone());
                steps.push(Step { path: change.path.clone(), before, after });
            }
            let journal = Journal { steps, folders, restarted: false };
            store.begin(&journal)?;
            Ok(journal)
        };
        let journal = prepare().map_err(|e| failed(&e))?;
        Ok(Transaction { store, journal, changes, done: 0 })
    }

    /// Makes the next step; `false` where there is none left.
    ///
    /// # Errors
    /// `NODE-INSTALL-FAILED`; [`Transaction::undo`] is due.
    pub fn advance(&mut self) -> Result<bool, Failure> {
        let Some(change) = self.changes.get(self.done) else { return Ok(false) };
        let step = || -> io::Result<()> {
            match &change.after {
                None => disk::remove(&change.path),
                Some((content, print)) => {
                    let folder = change.path.parent().unwrap_or(Path::new("/"));
                    fs::create_dir_all(folder).map_err(|e| disk::named(folder, &e))?;
                    disk::replace(&change.path, content, print)
                }
            }
        };
        step().map_err(|e| failed(&e))?;
        self.done += 1;
        Ok(true)
    }

    /// The folders that the change makes.
    pub fn folders(&self) -> &[PathBuf] {
        &self.journal.folders
    }

    /// The change stays.
    ///
    /// # Errors
    /// `NODE-INSTALL-FAILED`; [`Transaction::undo`] is due.
    pub fn commit(&self) -> Result<(), Failure> {
        self.store.end().map_err(|e| failed(&e))
    }

    /// Everything as it was.
    ///
    /// # Errors
    /// `NODE-INSTALL-FAILED`; the journal stays, and the next run tries again.
    pub fn undo(&self) -> Result<Undone, Failure> {
        undo(self.store, &self.journal)
    }
}

/// What was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Files that have their old content again.
    pub restored: Vec<PathBuf>,
    /// Files that someone else changed meanwhile; they were left.
    pub left: Vec<PathBuf>,
}

/// Undoes what an earlier run left unfinished; `None` where nothing was.
///
/// # Errors
/// `NODE-INSTALL-FAILED`; the journal stays.
pub fn recover(store: &Store) -> Result<Option<Undone>, Failure> {
    match store.journal()? {
        Some(journal) => undo(store, &journal).map(Some),
        None => Ok(None),
    }
}

fn undo(store: &Store, journal: &Journal) -> Result<Undone, Failure> {
    let undo = || -> io::Result<Undone> {
        let mut undone = Undone::default();
        for step in journal.steps.iter().rev() {
            let _ = fs::remove_file(disk::waiting(&step.path));
            let now = Print::of(&step.path)?;
            if now == step.before {
                continue;
            }
            if now != step.after {
                undone.left.push(step.path.clone());
                continue;
            }
            match &step.before {
                None => disk::remove(&step.path)?,
                Some(print) => {
                    let folder = step.path.parent().unwrap_or(Path::new("/"));
                    fs::create_dir_all(folder).map_err(|e| disk::named(folder, &e))?;
                    let kept = Content::CopyOf(store.original(&print.sha256));
                    disk::replace(&step.path, &kept, print)?;
                }
            }
            undone.restored.push(step.path.clone());
        }
        remove_folders(&journal.folders);
        store.end()?;
        Ok(undone)
    };
    undo().map_err(|e| {
        failed(&format!("what was changed could not all be put back ({e}); the next run tries again"))
    })
}

/// Removes those of the folders that are empty, innermost first.
pub fn remove_folders(folders: &[PathBuf]) {
    for folder in folders.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
