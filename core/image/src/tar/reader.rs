//! Walks a tar stream entry by entry.

use std::io::{self, BufRead};

use super::header::{BLOCK, Header};
use super::pax::Extended;
use super::sparse::{self, Form, Parts};
use crate::Error;

/// The largest extended header, in bytes (Linux keeps at most 64 KiB of one attribute).
const MAX_PAX: u64 = 1 << 20;
/// The longest GNU long name.
const MAX_LONG_NAME: u64 = 64 * 1024;
/// Extended headers in a row before an entry must come.
const MAX_PREFIXES: u32 = 16;
/// What may follow the end marker: tapes and block devices pad, but not without end.
const MAX_TRAILING: u64 = 16 << 20;

/// A modification time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below 10⁹.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Regular file with content.
    File,
    /// Hard link to an earlier entry.
    HardLink,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Directory.
    Directory,
    /// FIFO.
    Fifo,
}

/// An entry's metadata. Names are bytes, as the archive has them: possibly absolute, possibly with `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Content's length in bytes; 0 for all but files.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes, name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What holes of sparse files are read from.
static ZEROS: [u8; 32 * 1024] = [0; 32 * 1024];

/// Reads entries from a tar stream; the content of one is read with [`Reader::data`] before the next is asked for.
pub struct Reader<R> {
    inner: R,
    /// Content bytes of the current entry not read yet.
    remaining: u64,
    /// Padding after them.
    padding: u64,
    /// Where they belong, if the file is sparse.
    sparse: Option<Parts>,
    /// Metadata bytes read so far, for the caller's accounting.
    metadata: u64,
    ended: bool,
}

fn corrupt(what: &str) -> Error {
    Error::Corrupt(format!("tar: {what}"))
}

fn read_error(e: io::Error) -> Error {
    Error::from_io(e, Error::Source)
}

impl<R: BufRead> Reader<R> {
    /// Reads a tar stream.
    pub fn new(inner: R) -> Self {
        Reader { inner, remaining: 0, padding: 0, sparse: None, metadata: 0, ended: false }
    }

    /// Bytes of headers read so far.
    pub fn metadata_bytes(&self) -> u64 {
        self.metadata
    }

    /// The next entry; `None` at the end of the archive. Content of the entry before that was not read is skipped.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for what is not tar or not supported, and whatever the stream below gives.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended = Extended::default();
        let (mut long_name, mut long_link) = (None, None);
        let mut prefixes = 0;
        loop {
            self.skip_content()?;
            let mut block = [0; BLOCK];
            if self.ended || !self.read_block(&mut block)? {
                return if prefixes == 0 {
                    Ok(None)
                } else {
                    Err(corrupt("it ends after an extended header"))
                };
            }
            let Some(header) = Header::parse(&block)? else {
                self.ended = true;
                continue;
            };
            match header.type_flag() {
                b'x' | b'g' => {
                    let data = self.read_metadata(header.size()?, MAX_PAX)?;
                    // Global headers carry comments (git archive); what they say of entries is ignored, as Go does,
                    // but they must be well formed.
                    if header.type_flag() == b'x' {
                        extended.read(&data)?
                    } else {
                        Extended::default().read(&data)?
                    }
                }
                b'L' => long_name = Some(c_string(self.read_metadata(header.size()?, MAX_LONG_NAME)?)),
                b'K' => long_link = Some(c_string(self.read_metadata(header.size()?, MAX_LONG_NAME)?)),
                _ => return self.entry(&header, extended, long_name, long_link).map(Some),
            }
            prefixes += 1;
            if prefixes > MAX_PREFIXES {
                return Err(corrupt("too many extended headers in a row"));
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        extended: Extended,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, Error> {
        let mut sparse = extended.sparse;
        let path = sparse.name.take().or(extended.path).or(long_name).unwrap_or_else(|| header.name());
        let kind = match header.type_flag() {
            // Before ustar a directory was a file whose name ends in a slash.
            0 | b'0' | b'7' if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => Kind::File,
            other => {
                return Err(corrupt(&format!("entries of type {:?} are not supported", char::from(other))));
            }
        };
        let id =
            |n: u64, what: &str| u32::try_from(n).map_err(|_| corrupt(&format!("{what} is out of range")));
        let size = match (kind, extended.size) {
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => header.size()?,
            // Whatever the field says, these have no content (as Go's archive/tar reads them).
            _ => 0,
        };
        self.remaining = size;
        self.padding = padding(size);
        let size = match (kind, header.type_flag()) {
            (Kind::File, b'S') => self.old_sparse(header)?,
            (Kind::File, _) => self.sparse(sparse.form()?)?,
            _ => size,
        };
        let mtime = match extended.mtime {
            Some(t) => t,
            None => Time { seconds: i64::try_from(header.mtime()?).unwrap_or(0), nanoseconds: 0 },
        };
        Ok(Entry {
            path,
            link: extended.link.or(long_link).unwrap_or_else(|| header.link_name()),
            kind,
            mode: header.mode()?,
            uid: id(extended.uid.map_or_else(|| header.uid(), Ok)?, "a uid")?,
            gid: id(extended.gid.map_or_else(|| header.gid(), Ok)?, "a gid")?,
            size,
            mtime,
            xattrs: extended.xattrs,
        })
    }

    /// Prepares to read a sparse file by PAX records; gives the file's whole size.
    fn sparse(&mut self, form: Form) -> Result<u64, Error> {
        let (parts, size) = match form {
            Form::Whole => return Ok(self.remaining),
            Form::Mapped { parts, size } => (parts, size),
            Form::MapInContent { size } => {
                let (parts, read) = sparse::map_in_content(|| {
                    let byte = self.data()?.first().copied();
                    self.consume(1);
                    byte.ok_or_else(|| corrupt("it ends within a sparse file's map"))
                })?;
                self.metadata = self.metadata.saturating_add(read);
                (parts, size)
            }
        };
        self.sparse = Some(Parts::new(parts, size, self.remaining)?);
        Ok(size)
    }

    /// The same of a header of type `S`, whose map goes on in blocks behind it.
    fn old_sparse(&mut self, header: &Header<'_>) -> Result<u64, Error> {
        let (mut parts, size, mut more) = sparse::old_header(header)?;
        let mut blocks = 0;
        while more {
            blocks += 1;
            if blocks > sparse::MAX_EXTENSIONS {
                return Err(corrupt("a sparse file's map is too long"));
            }
            let mut block = [0; BLOCK];
            if !self.read_block(&mut block)? {
                return Err(corrupt("it ends within a sparse file's map"));
            }
            more = sparse::old_extension(&block, &mut parts)?;
        }
        self.sparse = Some(Parts::new(parts, size, self.remaining)?);
        Ok(size)
    }

    /// The next piece of the current entry's content, without copying; empty at its end. Call
    /// [`Reader::consume`] with what was used. Of a sparse file's holes it gives zeros.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the stream ends within the content, and whatever it gives.
    pub fn data(&mut self) -> Result<&[u8], Error> {
        let limit = match self.sparse.as_ref().map(Parts::next) {
            None => self.remaining,
            Some(None) => 0,
            Some(Some((true, stored))) => stored.min(self.remaining),
            Some(Some((false, zeros))) => {
                let n = usize::try_from(zeros).unwrap_or(usize::MAX).min(ZEROS.len());
                return Ok(ZEROS.get(..n).unwrap_or_default());
            }
        };
        if limit == 0 {
            return Ok(&[]);
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let piece = fill(&mut self.inner)?;
        if piece.is_empty() {
            return Err(corrupt("it ends within a file"));
        }
        Ok(piece.get(..limit.min(piece.len())).unwrap_or_default())
    }

    /// The stream below, wherever it stands.
    pub(crate) fn stream(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Marks `n` bytes of what [`Reader::data`] gave as used.
    pub fn consume(&mut self, n: usize) {
        let bytes = u64::try_from(n).unwrap_or(u64::MAX);
        if let Some(parts) = &mut self.sparse {
            let hole = matches!(parts.next(), Some((false, _)));
            parts.advance(bytes);
            if hole {
                return;
            }
        }
        self.inner.consume(n);
        self.remaining = self.remaining.saturating_sub(bytes);
    }

    /// Reads what follows the archive's end marker up to the stream's own end, so that the stages below verify.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where there is no end to it, and whatever the stream gives.
    pub fn drain(&mut self) -> Result<(), Error> {
        let mut seen = 0_u64;
        loop {
            let n = fill(&mut self.inner)?.len();
            if n == 0 {
                return Ok(());
            }
            self.inner.consume(n);
            seen = seen.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
            if seen > MAX_TRAILING {
                return Err(Error::TooLarge(format!(
                    "more than {MAX_TRAILING} bytes follow the end of a layer's tar"
                )));
            }
        }
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        self.sparse = None;
        let mut left = self.remaining.saturating_add(self.padding);
        while left > 0 {
            let piece = fill(&mut self.inner)?.len();
            if piece == 0 && left == self.padding && self.padding > 0 {
                // The content is whole and nothing follows it, not even its padding: umoci writes single files so, and
                // Go's reader, which container engines use, takes it.
                break;
            }
            if piece == 0 {
                return Err(corrupt("it ends within a file"));
            }
            let n = piece.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.inner.consume(n);
            left = left.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// False at a clean end of the stream (an archive without end marker, as some tools make).
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Error> {
        let mut have = 0;
        while have < BLOCK {
            let room = block.get_mut(have..).unwrap_or_default();
            match self.inner.read(room) {
                Ok(0) if have == 0 => return Ok(false),
                Ok(0) => return Err(corrupt("it ends within a header")),
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(e)),
            }
        }
        self.metadata = self.metadata.saturating_add(512);
        Ok(true)
    }

    fn read_metadata(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, Error> {
        if size > limit {
            return Err(corrupt("an extended header is too long"));
        }
        self.remaining = size;
        self.padding = padding(size);
        let mut out = Vec::new();
        loop {
            let piece = self.data()?;
            if piece.is_empty() {
                break;
            }
            let n = piece.len();
            out.extend_from_slice(piece);
            self.consume(n);
        }
        self.metadata = self.metadata.saturating_add(size);
        Ok(out)
    }
}

fn fill<R: BufRead>(inner: &mut R) -> Result<&[u8], Error> {
    loop {
        match inner.fill_buf() {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(read_error(e)),
        }
    }
    // Filled already: this call only borrows it (the loop could not return the borrow).
    inner.fill_buf().map_err(read_error)
}

fn padding(size: u64) -> u64 {
    let block = 512;
    (block - size % block) % block
}

fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
