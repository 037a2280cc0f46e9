//! The store in one embedded file (redb), for one process or for several that take turns.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, TableDefinition};

use crate::Error;
use crate::keyfile::create_private_folder;
use crate::lock::{self, FileLock, Kind};

mod operations;
mod problem;

use problem::Problem;

/// One table for all namespaces: one name less that can be missing or of another type.
const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("cocoon");

/// How long to wait for another process before [`Error::Busy`], unless told otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);

type WriteTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;
type Opener = Box<dyn Fn() -> Result<Database, Problem> + Send + Sync>;

/// State in the file `path`, guarded by the lock file `path` + `.lock`; both 0600.
///
/// Every `Ok` of a write is durable (flushed) when it is given.
pub struct RedbStore {
    path: PathBuf,
    mode: Mode,
}

enum Mode {
    /// Ours alone and kept open. `None` after an IO error: redb refuses all further work on a handle that met
    /// one (say, a full disk), so the next call opens anew and finds the last committed state.
    Exclusive { database: RwLock<Option<Database>>, open: Opener, _lock: Option<FileLock> },
    /// Opened for each operation under the lock.
    Shared { wait: Duration },
}

impl RedbStore {
    /// Opens or creates the file for this process alone, checking its integrity. [`Error::Busy`] if another
    /// process keeps it for longer than 10 s.
    pub fn open_exclusive(path: &Path) -> Result<Self, Error> {
        Self::open_exclusive_within(path, DEFAULT_WAIT)
    }

    /// [`RedbStore::open_exclusive`] with another time limit.
    pub fn open_exclusive_within(path: &Path, wait: Duration) -> Result<Self, Error> {
        create_private_folder(path.parent().unwrap_or(Path::new(".")))?;
        let lock = lock::acquire(&lock_path(path), Kind::Exclusive, wait)?;
        let file = path.to_path_buf();
        Self::exclusive(path, Some(lock), Box::new(move || open_file(&file, 32 << 20, true)))
    }

    fn exclusive(path: &Path, lock: Option<FileLock>, open: Opener) -> Result<Self, Error> {
        let mode = Mode::Exclusive { database: RwLock::new(None), open, _lock: lock };
        let store = RedbStore { path: path.to_path_buf(), mode };
        store.write(|_| Ok(()))?;
        Ok(store)
    }

    /// Uses the file together with other processes that do the same: each operation takes the lock, waiting at
    /// most 10 s for the others, opens the file, does its work durably and lets go.
    pub fn open_shared(path: &Path) -> Result<Self, Error> {
        Self::open_shared_within(path, DEFAULT_WAIT)
    }

    /// [`RedbStore::open_shared`] with another time limit.
    pub fn open_shared_within(path: &Path, wait: Duration) -> Result<Self, Error> {
        create_private_folder(path.parent().unwrap_or(Path::new(".")))?;
        let store = RedbStore { path: path.to_path_buf(), mode: Mode::Shared { wait } };
        let readable = store.read(|_| Ok(()));
        readable.map(|()| store)
    }

    /// Runs `work` in one durable transaction.
    fn write<T>(&self, work: impl FnOnce(&mut WriteTable<'_>) -> Result<T, Problem>) -> Result<T, Error> {
        match &self.mode {
            Mode::Exclusive { .. } => self.with_database(|database| write_in(database, work)),
            Mode::Shared { wait } => {
                let _lock = lock::acquire(&lock_path(&self.path), Kind::Exclusive, *wait)?;
                self.guarded(|| {
                    let database = open_file(&self.path, 4 << 20, false)?;
                    let outcome = write_in(&database, work)?;
                    // Closing writes redb's clean marker; what was committed does not depend on it.
                    database.close().map_err(Problem::from)?;
                    Ok(outcome)
                })
            }
        }
    }

    /// Runs `work` on a snapshot; `None` is an empty store.
    fn read<T>(&self, work: impl FnOnce(Option<&ReadTable>) -> Result<T, Problem>) -> Result<T, Error> {
        let wait = match &self.mode {
            Mode::Exclusive { .. } => return self.with_database(|database| read_in(database, work)),
            Mode::Shared { wait } => *wait,
        };
        let shared = lock::acquire(&lock_path(&self.path), Kind::Shared, wait)?;
        if std::fs::metadata(&self.path).map_or(0, |m| m.len()) == 0 {
            return self.guarded(|| work(None));
        }
        let opened =
            self.guarded(|| match Builder::new().set_cache_size(4 << 20).open_read_only(&self.path) {
                Ok(database) => Ok(Some(database)),
                // A writer was killed: the file wants the repair that only a writer may do.
                Err(DatabaseError::RepairAborted) => Ok(None),
                Err(error) => Err(error.into()),
            })?;
        if let Some(database) = opened {
            return self.guarded(|| read_in(&database, work));
        }
        drop(shared);
        let _exclusive = lock::acquire(&lock_path(&self.path), Kind::Exclusive, wait)?;
        self.guarded(|| read_in(&open_file(&self.path, 4 << 20, false)?, work))
    }

    /// The open database of exclusive mode, opened anew if the last operation broke it.
    fn with_database<T>(&self, work: impl FnOnce(&Database) -> Result<T, Problem>) -> Result<T, Error> {
        let Mode::Exclusive { database, open, .. } = &self.mode else {
            return Err(Error::Corrupt("shared store has no open database".into()));
        };
        let guard = database.read().unwrap_or_else(PoisonError::into_inner);
        let guard = if guard.is_some() { guard } else { self.reopen(guard, database, open)? };
        let Some(open_database) = guard.as_ref() else {
            return Err(Error::Busy(self.path.display().to_string()));
        };
        let result = self.guarded_raw(|| work(open_database));
        drop(guard);
        result.map_err(|problem| {
            if problem.breaks_handle() {
                let broken = database.write().unwrap_or_else(PoisonError::into_inner).take();
                drop(catch_unwind(AssertUnwindSafe(|| drop(broken))));
            }
            problem.into_error(&self.path)
        })
    }

    fn reopen<'a>(
        &self,
        guard: RwLockReadGuard<'a, Option<Database>>,
        database: &'a RwLock<Option<Database>>,
        open: &Opener,
    ) -> Result<RwLockReadGuard<'a, Option<Database>>, Error> {
        drop(guard);
        let mut slot = database.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(self.guarded(open)?);
        }
        drop(slot);
        Ok(database.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Error> {
        self.guarded_raw(work).map_err(|problem| problem.into_error(&self.path))
    }

    /// redb may panic on a file that somebody altered; that is a corrupt store, not a reason to end Trustee.
    fn guarded_raw<T>(&self, work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(Problem::Corrupt("the file's structure is damaged".into())))
    }
}

type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

fn write_in<T>(
    database: &Database,
    work: impl FnOnce(&mut WriteTable<'_>) -> Result<T, Problem>,
) -> Result<T, Problem> {
    // Default durability: `commit` returns after the flush.
    let transaction = database.begin_write()?;
    let outcome = {
        let mut table = transaction.open_table(TABLE)?;
        work(&mut table)?
    };
    transaction.commit()?;
    Ok(outcome)
}

fn read_in<T>(
    database: &impl ReadableDatabase,
    work: impl FnOnce(Option<&ReadTable>) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let transaction = database.begin_read()?;
    match transaction.open_table(TABLE) {
        Ok(table) => work(Some(&table)),
        Err(redb::TableError::TableDoesNotExist(_)) => work(None),
        Err(error) => Err(error.into()),
    }
}

fn open_file(path: &Path, cache: usize, check: bool) -> Result<Database, Problem> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Problem::Io)?;
    let backend = FileBackend::new(file)?;
    Ok(Builder::new()
        .set_cache_size(cache)
        .set_check_integrity_on_open(check)
        .create_with_backend(backend)?)
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
#[path = "redb_tests.rs"]
mod tests;
