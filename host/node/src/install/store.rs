//! What is remembered between runs: the manifest of what is installed, the originals of files that were changed, and the
//! journal of a change that is under way.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cocoon_stage::{Code, Failure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::disk::{self, Content, Print};

/// A file that was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is on this disk.
    pub path: PathBuf,
    /// What was put there.
    pub installed: Print,
    /// What was there before; its content is kept under its digest.
    pub original: Option<Print>,
    /// Whether the file is someone else's with something of ours in it, not all ours.
    pub edited: bool,
}

/// Everything that is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The files, in the order in which they were put there.
    pub entries: Vec<Entry>,
    /// Folders that were made, outermost first.
    pub folders: Vec<PathBuf>,
    /// containerd's main file as it was named.
    pub config: PathBuf,
    /// The import that was added to it, empty for none.
    pub import: String,
    /// Version of the program that installed.
    pub by: String,
}

impl Manifest {
    /// The entry of a file.
    pub fn entry(&self, path: &Path) -> Option<&Entry> {
        self.entries.iter().find(|e| e.path == path)
    }
}

/// One step of a change, as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The file.
    pub path: PathBuf,
    /// What it was; its content is kept under its digest.
    pub before: Option<Print>,
    /// What it shall be.
    pub after: Option<Print>,
}

/// A change that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Folders that the change makes, outermost first.
    pub folders: Vec<PathBuf>,
    /// Whether containerd was restarted with it, or was about to be.
    #[serde(default)]
    pub restarted: bool,
}

/// The folder of all that, locked.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    lock: File,
}

impl Drop for Store {
    fn drop(&mut self) {
        // Said aloud: a program that was started and has not begun yet still has the file open.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Store {
    /// Makes the folder where there is none, and locks it. Only root may look into it: it has copies of what may be
    /// readable by root alone.
    ///
    /// # Errors
    /// `NODE-BUSY` where another process has it; `NODE-INSTALL-FAILED`.
    pub fn lock(dir: &Path) -> Result<Self, Failure> {
        let failed = |e: io::Error| failed(&disk::named(dir, &e));
        loop {
            let made = disk::lacking(&dir.join("lock"));
            fs::create_dir_all(dir).map_err(failed)?;
            fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(failed)?;
            let path = dir.join("lock");
            let file = match File::options().write(true).create(true).truncate(false).open(&path) {
                Ok(file) => file,
                // An uninstallation ended between the two lines.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                let reason = format!("another `cocoon node` holds {}", path.display());
                return Err(Failure::new(Code::NodeBusy, reason));
            }
            // One that was removed while we waited for it locks nothing.
            let same = fs::metadata(&path).is_ok_and(|m| file.metadata().is_ok_and(|f| f.ino() == m.ino()));
            if same {
                fs::create_dir_all(dir.join("originals")).map_err(failed)?;
                let store = Store { dir: dir.into(), lock: file };
                if !made.is_empty() {
                    let text = serde_json::to_vec(&made).map_err(|e| failed(e.into()))?;
                    store.put("folders.json", &Content::Bytes(text)).map_err(failed)?;
                }
                return Ok(store);
            }
        }
    }

    /// The manifest's file.
    pub fn manifest_path(&self) -> PathBuf {
        self.dir.join("manifest.json")
    }

    /// A folder for drafts.
    pub fn drafts(&self) -> PathBuf {
        self.dir.join("drafts")
    }

    /// What is installed; `None` where nothing is.
    ///
    /// # Errors
    /// `NODE-INSTALL-FAILED` where it cannot be read.
    pub fn manifest(&self) -> Result<Option<Manifest>, Failure> {
        read(&self.manifest_path())
    }

    /// The same without the lock, for a look.
    ///
    /// # Errors
    /// As [`Store::manifest`].
    pub fn look(dir: &Path) -> Result<(Option<Manifest>, Option<Journal>), Failure> {
        Ok((read(&dir.join("manifest.json"))?, read(&dir.join("journal.json"))?))
    }

    /// The journal; `None` where no change is under way.
    ///
    /// # Errors
    /// `NODE-INSTALL-FAILED` where it cannot be read.
    pub fn journal(&self) -> Result<Option<Journal>, Failure> {
        read(&self.dir.join("journal.json"))
    }

    /// Writes the journal, durably.
    pub fn begin(&self, journal: &Journal) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(journal)?;
        self.put("journal.json", &Content::Bytes(text))
    }

    /// Notes in the journal that containerd is restarted now; no effect where no change is under way.
    pub fn note_restart(&self) -> io::Result<()> {
        match self.journal() {
            Ok(Some(journal)) => self.begin(&Journal { restarted: true, ..journal }),
            Ok(None) => Ok(()),
            Err(e) => Err(io::Error::other(e.reason)),
        }
    }

    /// Removes the journal, durably: the change is done, or undone.
    pub fn end(&self) -> io::Result<()> {
        disk::remove(&self.dir.join("journal.json"))
    }

    /// Keeps what `path` holds, under its digest.
    pub fn keep(&self, path: &Path, print: &Print) -> io::Result<()> {
        self.keep_content(&Content::CopyOf(path.into()), &print.sha256)
    }

    /// Keeps a content.
    pub fn keep_content(&self, content: &Content, sha256: &str) -> io::Result<()> {
        let kept = self.original(sha256);
        if content_is(&kept, sha256) { Ok(()) } else { self.put_at(&kept, content, sha256) }
    }

    /// Where a content is kept.
    pub fn original(&self, sha256: &str) -> PathBuf {
        self.dir.join("originals").join(sha256)
    }

    /// Forgets contents that neither `manifest` nor a journal names.
    pub fn tidy(&self, manifest: Option<&Manifest>) {
        let needed: Vec<&str> = manifest
            .into_iter()
            .flat_map(|m| &m.entries)
            .filter_map(|e| Some(e.original.as_ref()?.sha256.as_str()))
            .collect();
        for file in fs::read_dir(self.dir.join("originals")).into_iter().flatten().flatten() {
            if !needed.contains(&file.file_name().to_string_lossy().as_ref()) {
                let _ = fs::remove_file(file.path());
            }
        }
        let _ = fs::remove_dir_all(self.drafts());
    }

    /// Removes the folder, and those above it that were made for it.
    pub fn vanish(self) {
        let made: Option<Vec<PathBuf>> = read(&self.dir.join("folders.json")).ok().flatten();
        // Killed before it could say which it made: one of Cocoon's name is.
        let above = || self.dir.parent().filter(|p| p.ends_with("cocoon")).map(Path::to_path_buf);
        let made = made.unwrap_or_else(|| above().into_iter().collect());
        let _ = fs::remove_dir_all(&self.dir);
        super::transaction::remove_folders(&made);
    }

    /// Whether nothing is remembered: no installation, no change under way.
    pub fn is_empty(&self) -> bool {
        !self.manifest_path().exists() && !self.dir.join("journal.json").exists()
    }

    fn put(&self, name: &str, content: &Content) -> io::Result<()> {
        let sha256 = content.sha256()?;
        self.put_at(&self.dir.join(name), content, &sha256)
    }

    fn put_at(&self, path: &Path, content: &Content, sha256: &str) -> io::Result<()> {
        let meta = fs::metadata(&self.dir)?;
        let print = Print { sha256: sha256.into(), mode: 0o600, uid: meta.uid(), gid: meta.gid() };
        disk::replace(path, content, &print)
    }
}

fn content_is(path: &Path, sha256: &str) -> bool {
    matches!(Print::of(path), Ok(Some(print)) if print.sha256 == sha256)
}

/// A step of the installation that did not succeed.
pub(crate) fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::NodeInstallFailed, error.to_string())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&disk::named(path, &e))),
    };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|e| failed(&format!("{} is damaged ({e})", path.display())))
}
