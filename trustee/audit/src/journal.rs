//! Entries that are durable but not in the store yet: one small write in place of a commit.

mod file;
mod format;

use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use cocoon_store::Store;

use crate::layout::{Head, Item};
use crate::merkle::Hash;
use crate::tree::Tree;
use crate::{Entry, Error, Kind, Logged};

pub(crate) use file::Medium;
pub(crate) use format::{Contents, MAX_BATCH};

/// Length of a journal's file in bytes (8 MiB): more than [`MAX_BATCH`] entries of the greatest length.
pub(crate) const LENGTH: u64 = 8 << 20;

/// An open journal. It knows nothing of the store; [`crate::journaled`] keeps the two in step.
pub(crate) struct Journal {
    medium: Box<dyn Medium>,
    path: PathBuf,
    length: u64,
    /// The newest generation's number.
    number: u64,
    /// Where the next record goes; `None` if a generation must begin first.
    position: Option<Position>,
    /// A failed write may have left a whole record at the position.
    uncertain: bool,
    buffer: Vec<u8>,
}

struct Position {
    offset: u64,
    sequence: u64,
    previous: Hash,
    /// Index of the next entry.
    next: u64,
}

/// Whether there is room for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// In this generation.
    Here,
    /// In a new one.
    Anew,
    /// In none.
    Never,
}

impl Journal {
    /// Opens or creates the journal at `path`; it and what it held.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<Contents>), Error> {
        let (file, bytes) = file::open(path, LENGTH)?;
        let contents = parse(path, &bytes)?;
        file::fill(path, &file, LENGTH)?;
        let number = contents.as_ref().map_or(0, |contents| contents.generation.number);
        Ok((Self::on(Box::new(file), path, LENGTH, number), contents))
    }

    /// A journal of `length` bytes whose newest generation has this number.
    fn on(medium: Box<dyn Medium>, path: &Path, length: u64, number: u64) -> Self {
        let (path, buffer) = (path.to_path_buf(), Vec::new());
        Journal { medium, path, length, number, position: None, uncertain: false, buffer }
    }

    /// Whether these entries, the first of which gets the index `first`, have room.
    pub(crate) fn room(&self, first: u64, items: &[Item]) -> Room {
        let length = format::record_length(items) as u64;
        let fits = |offset: u64| offset.saturating_add(length) <= self.length;
        match &self.position {
            Some(position) if position.next == first && fits(position.offset) => Room::Here,
            _ if fits(format::DATA as u64) && items.len() <= MAX_BATCH => Room::Anew,
            _ => Room::Never,
        }
    }

    /// Begins a generation that continues `base`. All earlier records must be in the store.
    pub(crate) fn begin(&mut self, base: &Head) -> Result<(), Error> {
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).map_err(|_| Error::System("no randomness"))?;
        let number = self.number + 1;
        let (header, hash) = format::encode_header(number, self.length, &nonce, base);
        self.position = None;
        self.medium
            .write_at(format::slot(number), &header)
            .and_then(|()| self.medium.sync())
            .map_err(|error| file::failure(&self.path, error))?;
        self.number = number;
        self.uncertain = false;
        let offset = format::DATA as u64;
        self.position = Some(Position { offset, sequence: 0, previous: hash, next: base.frontier.size });
        Ok(())
    }

    /// Appends entries for which there is [`Room::Here`]; they are durable when this returns.
    ///
    /// # Errors
    /// Those of the file. The entries then do not count, unless the process ends before [`Journal::repair`].
    pub(crate) fn append(&mut self, items: &[Item]) -> Result<(), Error> {
        let unready = Error::System("the audit journal has no generation");
        let position = self.position.as_mut().ok_or(unready)?;
        let Position { offset, sequence, previous, next } = position;
        let hash = format::encode_record(&mut self.buffer, self.number, *sequence, *next, previous, items)
            .ok_or(Error::System("a record of the audit journal is too long"))?;
        self.uncertain = true;
        self.medium
            .write_at(*offset, &self.buffer)
            .and_then(|()| self.medium.sync())
            .map_err(|error| file::failure(&self.path, error))?;
        self.uncertain = false;
        *position = Position {
            offset: format::after(*offset, self.buffer.len()),
            sequence: *sequence + 1,
            previous: hash,
            next: *next + items.len() as u64,
        };
        Ok(())
    }

    /// Makes sure that a record whose writing failed is not there after all.
    pub(crate) fn repair(&mut self) -> Result<(), Error> {
        if let (true, Some(position)) = (self.uncertain, &self.position) {
            self.medium
                .write_at(position.offset, &[0; format::RECORD])
                .and_then(|()| self.medium.sync())
                .map_err(|error| file::failure(&self.path, error))?;
        }
        self.uncertain = false;
        Ok(())
    }

    /// Ends the generation: what comes next does not continue its last record.
    pub(crate) fn end(&mut self) {
        self.position = None;
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Option<Contents>, Error> {
    format::read(bytes)
        .map_err(|format::Damaged(at)| Error::JournalDamaged { path: path.display().to_string(), at })
}

/// The journal's entries that the store, whose head this is, does not hold yet; the others must be those it holds.
pub(crate) fn missing(store: &dyn Store, head: &Head, contents: Contents) -> Result<Vec<Item>, Error> {
    let Contents { generation, mut items } = contents;
    let (size, base) = (head.frontier.size, generation.base.frontier.size);
    if head.log_id != generation.base.log_id {
        let (expected, found) = (hex::encode(generation.base.log_id), hex::encode(head.log_id));
        return Err(Error::OtherLog { expected, found });
    }
    if size < base {
        return Err(Error::JournalAhead { size, base });
    }
    let held = items.len().min(usize::try_from(size - base).unwrap_or(usize::MAX));
    let mut frontier = generation.base.frontier;
    items.drain(..held).for_each(|item| frontier.push(item.leaf, |_, _, _| ()));
    if frontier.root() != Tree::new(store, frontier.size).root()? {
        return Err(Error::JournalConflict { from: base, size: frontier.size });
    }
    for (index, item) in (size..).zip(&items) {
        // No record holds what only the rotation of the key writes.
        let entry = Entry::from_bytes(&item.bytes).filter(|entry| entry.kind != Kind::LogKeyRotation);
        entry.ok_or(Error::EntryAltered { index })?;
    }
    Ok(items)
}

/// The acknowledged entries that are in the journal at `path` but not yet in `store`, for an auditor of a Trustee that
/// was killed; [`crate::AuditLog::open_with`] moves them into the store. [`crate::verify()`] knows nothing of them, and no
/// signature covers them. Changes nothing. At most 8 MiB are read.
///
/// # Errors
/// Those of the store and the file, also if there is none; [`Error::HeadMissing`], [`Error::HeadMalformed`]; those of
/// a journal that is damaged, is not of this log, or contradicts the store.
pub fn pending_in_journal(path: &Path, store: &dyn Store) -> Result<Vec<Logged>, Error> {
    let bytes = file::open_to_read(path, LENGTH)?;
    let (head, _) = Head::load(store)?.ok_or(Error::HeadMissing)?;
    let items = match parse(path, &bytes)? {
        Some(contents) => missing(store, &head, contents)?,
        None => Vec::new(),
    };
    (head.frontier.size..)
        .zip(items)
        .map(|(index, item)| {
            let entry = Entry::from_bytes(&item.bytes).ok_or(Error::EntryAltered { index })?;
            Ok(Logged { index, entry })
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the sizes in these tests are small")]
#[path = "journal/tests.rs"]
mod tests;
