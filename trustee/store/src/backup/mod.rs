//! A whole store in one stream, and back.
//!
//! Format, numbers big-endian. Header: the 8 bytes `COCOONBK`, version byte 1, one byte 0 (plain) or 1 (encrypted),
//! 32 bytes of salt (random; zero if plain). Then the content, plain or as encrypted chunks (see `chunks.rs`).
//! Content: records in the strictly ascending order of namespace and key, each a byte 1, u16 length and text of the
//! namespace, u16 length and text of the key, u32 length and bytes of the value; then a byte 0, the u64 number of
//! records and the SHA-256 of header and content up to here. Nothing may follow.
//!
//! A plain backup is protected against accidents only. An encrypted one shows every alteration, truncation and
//! reordering, and hides keys and values. Values sealed by a [`Sealer`](crate::Sealer) stay sealed in either: keep its key file too.

use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::{Error, Record, Store, keyfile};

mod chunks;
mod content;
mod restore;

#[cfg(test)]
mod tests;

pub use restore::RestoreMode;

const MAGIC: &[u8; 8] = b"COCOONBK";
const VERSION: u8 = 1;
const HEADER: usize = 8 + 1 + 1 + SALT;
const SALT: usize = 32;

/// The key that encrypts backups. Not the sealer's: who restores needs both.
pub struct BackupKey(Zeroizing<[u8; 32]>);

impl BackupKey {
    /// Reads the 32-byte key file at `path`, which group and others must not be able to read
    /// ([`Error::KeyFile`]).
    pub fn open(path: &Path) -> Result<Self, Error> {
        keyfile::open(path).map(BackupKey)
    }

    /// Reads the key file at `path`, or creates it (0600, random) if there is none.
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
        keyfile::open_or_create(path).map(BackupKey)
    }

    /// Uses the given key.
    pub fn from_key(key: &[u8; 32]) -> Self {
        BackupKey(Zeroizing::new(*key))
    }
}

impl std::fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupKey")
    }
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Records.
    pub records: u64,
    /// Length of the whole stream in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole stream, as `sha256sum` gives it.
    pub sha256: [u8; 32],
}

/// Writes all records of `store`, as of one moment, to `out`; encrypted if there is a `key`. `out` is flushed but
/// not synced. After an error what was written is no backup.
pub fn backup(store: &dyn Store, out: &mut dyn Write, key: Option<&BackupKey>) -> Result<Summary, Error> {
    let mut salt = [0; SALT];
    if key.is_some() {
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::Crypto)?;
    }
    let header = header(key.is_some(), &salt);
    let mut out =
        BufWriter::with_capacity(128 << 10, Counted { inner: out, hash: Context::new(&SHA256), bytes: 0 });
    let written = (|| {
        out.write_all(&header).map_err(unwritable)?;
        let records = match key {
            None => content::write(&header, &mut out, |each| store.snapshot(each))?,
            Some(key) => {
                let mut chunks = chunks::Encrypt::new(&mut out, &key.0, &salt, &header)?;
                let records = content::write(&header, &mut chunks, |each| store.snapshot(each))?;
                chunks.finish().map_err(unwritable)?;
                records
            }
        };
        out.flush().map_err(unwritable)?;
        Ok(records)
    })();
    // Otherwise dropping the buffer would write on after an error.
    let (counted, _) = out.into_parts();
    let Counted { hash, bytes, .. } = counted;
    Ok(Summary { records: written?, bytes, sha256: digest(hash) })
}

/// Reads the whole backup and tells what it holds. [`Error::Backup`] if it is truncated, altered, or (with `key`)
/// not encrypted with that key; a plain backup is refused where there is a `key`.
pub fn verify_backup<R: Read + Seek>(input: &mut R, key: Option<&BackupKey>) -> Result<Summary, Error> {
    read(input, key, &mut |_| Ok(()))
}

/// Puts a backup's records into `store`. The whole backup is read and verified before the first change; it is then
/// read a second time and must be the same.
///
/// With [`RestoreMode::Replace`] everything else in the store is removed. Records are written about a thousand at a
/// time: stop others from using the store. If it is interrupted, restore once more with `Replace`.
///
/// # Errors
/// As [`verify_backup`], and [`Error::NotEmpty`]; in these cases nothing was changed.
pub fn restore<R: Read + Seek>(
    input: &mut R,
    store: &dyn Store,
    mode: RestoreMode,
    key: Option<&BackupKey>,
) -> Result<Summary, Error> {
    let start = input.stream_position().map_err(unreadable)?;
    let verified = verify_backup(input, key)?;
    restore::prepare(store, mode)?;
    input.seek(SeekFrom::Start(start)).map_err(unreadable)?;
    let mut batch = restore::Batch::new(store);
    let again = read(input, key, &mut |record| batch.add(record))?;
    batch.finish()?;
    if again == verified { Ok(again) } else { Err(Error::Backup("it changed while it was read".into())) }
}

/// Reads a backup from the current position to its end.
fn read<R: Read>(
    input: &mut R,
    key: Option<&BackupKey>,
    each: &mut dyn FnMut(Record) -> Result<(), Error>,
) -> Result<Summary, Error> {
    let mut input = Counted { inner: input, hash: Context::new(&SHA256), bytes: 0 };
    let mut buffered = std::io::BufReader::with_capacity(128 << 10, &mut input);
    let mut header = [0; HEADER];
    buffered.read_exact(&mut header).map_err(unreadable)?;
    let (encrypted, salt) = parse_header(&header)?;
    let records = match (encrypted, key) {
        (false, None) => content::read(&header, &mut buffered, each)?,
        (true, Some(key)) => {
            let mut chunks = chunks::Decrypt::new(&mut buffered, &key.0, &salt, &header)?;
            content::read(&header, &mut chunks, each)?
        }
        (true, None) => return Err(Error::Backup("it is encrypted; name its key file".into())),
        (false, Some(_)) => {
            return Err(Error::Backup("it is not encrypted, although a key was given".into()));
        }
    };
    Ok(Summary { records, bytes: input.bytes, sha256: digest(input.hash) })
}

fn header(encrypted: bool, salt: &[u8; SALT]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&[VERSION, u8::from(encrypted)]);
    header.extend_from_slice(salt);
    header
}

fn parse_header(header: &[u8; HEADER]) -> Result<(bool, [u8; SALT]), Error> {
    let no_backup = || Error::Backup("this is no backup".into());
    let rest = header.strip_prefix(MAGIC).ok_or_else(no_backup)?;
    let ([version, encrypted], salt) = rest.split_first_chunk().ok_or_else(no_backup)?;
    if *version != VERSION {
        return Err(Error::Backup(format!("version {version} is not known to this program")));
    }
    let salt: [u8; SALT] = salt.try_into().map_err(|_| no_backup())?;
    match (encrypted, salt == [0; SALT]) {
        (1, _) => Ok((true, salt)),
        (0, true) => Ok((false, salt)),
        _ => Err(Error::Backup("its header is damaged".into())),
    }
}

/// Counts and hashes what passes.
struct Counted<T> {
    inner: T,
    hash: Context,
    bytes: u64,
}

impl<T> Counted<T> {
    fn passed(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.passed(buf.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.passed(buf.get(..read).unwrap_or_default());
        Ok(read)
    }
}

fn digest(hash: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

fn unwritable(error: std::io::Error) -> Error {
    Error::io(Path::new("the backup"), error)
}

/// An alteration is reported by the reader as invalid data, a truncation as an early end.
fn unreadable(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::Backup("it ends early".into()),
        std::io::ErrorKind::InvalidData => Error::Backup(error.to_string()),
        _ => Error::io(Path::new("the backup"), error),
    }
}
