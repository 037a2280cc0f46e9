//! The cache folder: one file per document, shared by any number of processes.
//!
//! Files appear whole (written beside and renamed) and are named by a hash of the need. A file that is damaged, of another
//! version, of another need or not a file at all counts as absent. A file's modification time is when it was last used.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_evidence::collateral::Need;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::entry::{Entry, Record};
use crate::offline::read_own;

/// Of the files' form.
const VERSION: u32 = 1;
/// Most names of the folder that are looked at.
const MAX_NAMES: usize = 100_000;
/// What a writer that died left behind is removed after this.
const ABANDONED: Duration = Duration::from_secs(3600);

/// How large the folder may become; what was not used for longest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Documents.
    pub files: usize,
    /// Bytes of all files together.
    pub bytes: u64,
}

impl Default for Bounds {
    /// 20 000 documents, 256 MiB.
    fn default() -> Self {
        Bounds { files: 20_000, bytes: 256 << 20 }
    }
}

/// What became of a document offered to the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is in the folder.
    Stored,
    /// The folder has a newer one, which stays.
    Kept,
}

/// The folder. All methods block; call them where that is allowed.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    bounds: Bounds,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    document: Record,
}

impl Folder {
    /// Opens the folder, made where it is missing.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self, Error> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|e| Error::file(path, e))?;
        Ok(Folder { path: path.to_owned(), bounds })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The document for a need, if a sound one is there.
    pub fn read(&self, need: &Need) -> Option<Entry> {
        need.check().ok()?;
        self.load(&self.path.join(name(need)), need)
    }

    fn load(&self, path: &Path, need: &Need) -> Option<Entry> {
        match read_entry(path) {
            Ok(Some(entry)) if entry.need == *need => Some(entry),
            Ok(None) => None,
            Ok(Some(_)) => {
                tracing::warn!(path = %path.display(), "collateral file of another document; ignored");
                None
            }
            Err(problem) => {
                tracing::warn!(path = %path.display(), %problem, "unusable collateral file; ignored");
                None
            }
        }
    }

    /// Puts a document into the folder unless a newer one is there. `replace` puts it there in any case.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn offer(&self, entry: &Entry, replace: bool) -> Result<Offer, Error> {
        let path = self.path.join(name(&entry.need));
        if !replace && let Some(present) = self.load(&path, &entry.need) {
            let older = entry.is_older_than(&present);
            let same_age = !present.is_older_than(entry) && present.fetched_unix > entry.fetched_unix;
            if older || same_age {
                return Ok(Offer::Kept);
            }
        }
        let content = Content { version: VERSION, document: Record::of(entry) };
        let bytes = serde_json::to_vec(&content).map_err(|e| Error::file(&path, e))?;
        self.write(&path, &bytes).map_err(|e| Error::file(&path, e))?;
        self.shrink(&path);
        Ok(Offer::Stored)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let nanos =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let beside = self.path.join(format!(".{}-{count}-{nanos}.tmp", std::process::id()));
        let written = || {
            let mut file = File::options().write(true).create_new(true).mode(0o644).open(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        written().inspect_err(|_| {
            let _ = std::fs::remove_file(&beside);
        })
    }

    /// Notes that the document was used, so that it is not the first to go.
    pub fn touch(&self, need: &Need) {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
        let at = |nanos| Timespec { tv_sec: 0, tv_nsec: nanos };
        let times = Timestamps { last_access: at(UTIME_OMIT), last_modification: at(UTIME_NOW) };
        let _ = utimensat(CWD, self.path.join(name(need)), &times, AtFlags::SYMLINK_NOFOLLOW);
    }

    /// Removes a document.
    pub fn remove(&self, need: &Need) {
        let _ = std::fs::remove_file(self.path.join(name(need)));
    }

    /// All sound documents, by kind and name. Files that are not sound are left out.
    pub fn list(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = self
            .files()
            .into_iter()
            .take(self.bounds.files)
            .filter_map(|file| {
                read_entry(&file.path).ok().flatten().filter(|e| file.path.ends_with(name(&e.need)))
            })
            .collect();
        all.sort_by(|a, b| a.need.cmp(&b.need));
        all
    }

    fn files(&self) -> Vec<Listed> {
        let Ok(names) = std::fs::read_dir(&self.path) else { return Vec::new() };
        let listed = |entry: std::fs::DirEntry| {
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(is_ours);
            // Of a link this is the link itself.
            let metadata = entry.metadata().ok().filter(|m| ours && m.is_file())?;
            Some(Listed { path: entry.path(), used: metadata.modified().ok()?, bytes: metadata.len() })
        };
        names.take(MAX_NAMES).filter_map(Result::ok).filter_map(listed).collect()
    }

    /// Removes what is over the bounds, `keep` last, and what dead writers left.
    fn shrink(&self, keep: &Path) {
        let mut files = self.files();
        files.retain(|file| {
            let temporary = file.path.extension().is_some_and(|e| e == "tmp");
            if temporary && file.used.elapsed().is_ok_and(|age| age > ABANDONED) {
                let _ = std::fs::remove_file(&file.path);
            }
            !temporary
        });
        let (mut count, mut bytes) = (files.len(), files.iter().map(|f| f.bytes).sum::<u64>());
        if count <= self.bounds.files && bytes <= self.bounds.bytes {
            return;
        }
        // What evidence names is many and comes back when it is needed; the handful of others stays longer.
        files.sort_by_key(|f| (f.path == keep, is_fixed(&f.path), f.used));
        for file in files {
            if count <= self.bounds.files && bytes <= self.bounds.bytes {
                break;
            }
            if std::fs::remove_file(&file.path).is_ok() {
                count -= 1;
                bytes = bytes.saturating_sub(file.bytes);
            }
        }
    }
}

struct Listed {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

/// `None` where there is no such file.
fn read_entry(path: &Path) -> Result<Option<Entry>, Error> {
    // Base64 and the JSON around it, for the largest document and chain.
    const MAX_FILE: usize = 8 << 20;
    let Some(bytes) = read_own(path, MAX_FILE)? else { return Ok(None) };
    let content: Content = serde_json::from_slice(&bytes).map_err(|e| Error::file(path, e))?;
    if content.version != VERSION {
        return Err(Error::file(path, "of another version"));
    }
    content.document.open().map(Some)
}

/// The file's name: kind, and a hash over the need's JSON form.
fn name(need: &Need) -> String {
    let form = serde_json::to_vec(need).unwrap_or_default();
    format!("{}-{}.json", need.kind(), hex::encode(digest(&SHA256, &form)))
}

fn is_ours(name: &str) -> bool {
    let document = name.ends_with(".json")
        && ["amd-", "intel-", "nvidia-", "hygon-"].iter().any(|p| name.starts_with(p));
    document || name.starts_with('.') && name.ends_with(".tmp")
}

fn is_fixed(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    !["amd-vcek-", "intel-tcb-info-", "nvidia-", "hygon-"].iter().any(|p| name.starts_with(p))
}
