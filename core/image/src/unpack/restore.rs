//! Puts in front what directories that are only [implied](super::implied) cover: before layers are stacked, each such
//! directory that a lower layer describes gets a copy of that layer's in the writable directory above all of them.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::Error;
use crate::error::printable;
use crate::unpack::{implied, overlay};

/// Longest path of an implied directory: `PATH_MAX` without its NUL.
const MAX_PATH: usize = 4095;
/// Bytes that the paths of one image's implied directories may take.
const MAX_PATHS: usize = 16 << 20;
/// Directories that may be opened.
const MAX_STEPS: u64 = 8_000_000;

/// Gives `upper`, an empty directory, the root directory's owner, mode, times and attributes, and a directory for each
/// that some layer of `layers` (topmost first, in overlayfs' form) implies and a lower one describes. Gives the number
/// of directories made. Needs root.
///
/// # Errors
/// [`Error::Unsafe`] where a layer implies a directory at a place where the next lower layer has something else: put
/// onto that layer, its files would have gone elsewhere. [`Error::TooLarge`] where there are too many implied
/// directories; [`Error::Filesystem`].
pub fn restore(layers: &[PathBuf], upper: &Path) -> Result<u64, Error> {
    let name = |p: &Path| p.display().to_string().into_bytes();
    let open = |p: &PathBuf| top(p).map_err(|e| Error::filesystem(&name(p), e));
    let layers = layers.iter().map(|p| Ok(Layer { root: Rc::new(open(p)?), last: None }));
    let mut work = Work {
        layers: layers.collect::<Result<_, Error>>()?,
        upper: top(upper).map_err(|e| Error::filesystem(&name(upper), e))?,
        there: HashSet::new(),
        times: Vec::new(),
        steps: 0,
    };
    let mut all = BTreeSet::new();
    let mut bytes = 0;
    for index in 0..work.layers.len() {
        work.collect(index, &mut all, &mut bytes)?;
    }
    work.copy(b"")?;
    let mut previous: Option<&[u8]> = None;
    for (path, index) in &all {
        if work.search(*index, path)?.blocked {
            let reason = "a layer puts files into it as a directory without describing it, and the layer below has a link or a \
                          file there";
            return Err(Error::Unsafe { path: printable(path), reason });
        }
        if previous.replace(path) == Some(path) || path.is_empty() {
            continue;
        }
        let found = work.search(0, path)?;
        if found.covered && found.described.is_some() {
            work.put(path)?;
        }
    }
    work.set_times()?;
    Ok(u64::try_from(work.there.len()).unwrap_or(u64::MAX))
}

struct Layer {
    root: Rc<OwnedFd>,
    /// The parent that was looked at last: names of a directory come together.
    last: Option<(Vec<u8>, Place)>,
}

/// Where a path leads in one layer.
#[derive(Clone)]
enum Place {
    /// To a directory; `cut` where it or one above it hides what lower layers have.
    Directory { fd: Rc<OwnedFd>, cut: bool },
    /// Nowhere, and lower layers show.
    Absent,
    /// Nowhere, and lower layers do not show.
    Hidden,
    /// To something else.
    Other,
}

/// What layers have of a directory.
#[derive(Default)]
struct Found {
    /// The uppermost directory that is described and shows.
    described: Option<Rc<OwnedFd>>,
    /// The uppermost that is implied, where it is above that.
    implied: Option<Rc<OwnedFd>>,
    /// Implied ones cover something.
    covered: bool,
    /// Below them is something else than a directory.
    blocked: bool,
}

struct Work {
    layers: Vec<Layer>,
    upper: OwnedFd,
    /// Directories in `upper`.
    there: HashSet<Vec<u8>>,
    /// Times to be set when everything is made.
    times: Vec<(Vec<u8>, Timestamps)>,
    steps: u64,
}

impl Work {
    /// Finds a layer's implied directories.
    fn collect(
        &mut self,
        index: usize,
        all: &mut BTreeSet<(Vec<u8>, usize)>,
        bytes: &mut usize,
    ) -> Result<(), Error> {
        let Some(root) = self.layers.get(index).map(|l| l.root.clone()) else { return Ok(()) };
        let mut waiting = Vec::new();
        match implied::get(&*root).map_err(|e| Error::filesystem(b"/", e))? {
            Some(mark) => waiting.push((Vec::new(), mark)),
            None => return Ok(()),
        }
        while let Some((path, mark)) = waiting.pop() {
            let fail = |e| Error::filesystem(&path, e);
            let directory = beneath(&*root, &path).map_err(fail)?;
            for entry in Dir::read_from(&directory).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                let name = entry.file_name();
                let may = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
                if !may || name == c"." || name == c".." {
                    continue;
                }
                self.step()?;
                let child = match implied::reopen(&directory, name) {
                    Ok(child) => child,
                    Err(Errno::NOTDIR | Errno::LOOP) => continue,
                    Err(e) => return Err(fail(e)),
                };
                let Some(mark) = implied::get(&child).map_err(fail)? else { continue };
                let below = join(&path, name.to_bytes());
                *bytes = bytes.saturating_add(below.len()).saturating_add(64);
                if below.len() > MAX_PATH {
                    return Err(Error::Unsafe { path: printable(&below), reason: "its name is too long" });
                }
                if *bytes > MAX_PATHS {
                    return Err(too_many());
                }
                waiting.push((below, mark));
            }
            if mark == implied::IMPLIED {
                all.insert((path, index));
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Error> {
        self.steps = self.steps.saturating_add(1);
        if self.steps > MAX_STEPS { Err(too_many()) } else { Ok(()) }
    }

    /// What the layers from `from` on downwards have of a directory.
    fn search(&mut self, from: usize, path: &[u8]) -> Result<Found, Error> {
        let fail = |e| Error::filesystem(path, e);
        let mut found = Found::default();
        for index in from..self.layers.len() {
            let (fd, cut) = match self.look(index, path)? {
                (Place::Absent, _) => continue,
                (Place::Directory { fd, .. }, cut) => (fd, cut),
                (Place::Hidden, _) => break,
                (Place::Other, _) => {
                    found.blocked = found.implied.is_some();
                    break;
                }
            };
            if implied::get(&*fd).map_err(fail)? != Some(implied::IMPLIED) {
                found.covered = found.implied.is_some();
                found.described = Some(fd);
                break;
            }
            found.implied.get_or_insert(fd);
            if cut {
                break;
            }
        }
        Ok(found)
    }

    /// Where a path leads in a layer, and whether a directory above it hides what lower layers have of it. (That the
    /// directory itself is opaque says that lower layers' names in it are gone, not that it is another directory.)
    fn look(&mut self, index: usize, path: &[u8]) -> Result<(Place, bool), Error> {
        let (above, name) = split(path);
        let Some(layer) = self.layers.get(index) else { return Ok((Place::Absent, false)) };
        if name.is_empty() {
            return Ok((Place::Directory { fd: layer.root.clone(), cut: false }, false));
        }
        let parent = match &layer.last {
            Some((known, place)) if known == above => place.clone(),
            _ => {
                let place = self.walk(index, above)?;
                if let Some(layer) = self.layers.get_mut(index) {
                    layer.last = Some((above.to_vec(), place.clone()));
                }
                place
            }
        };
        match parent {
            Place::Directory { fd, cut } => {
                self.step()?;
                Ok((child(&fd, cut, name).map_err(|e| Error::filesystem(path, e))?, cut))
            }
            Place::Absent => Ok((Place::Absent, false)),
            Place::Hidden | Place::Other => Ok((Place::Hidden, true)),
        }
    }

    fn walk(&mut self, index: usize, path: &[u8]) -> Result<Place, Error> {
        let fail = |e| Error::filesystem(path, e);
        let Some(root) = self.layers.get(index).map(|l| l.root.clone()) else { return Ok(Place::Absent) };
        let mut at = Place::Directory { fd: root, cut: false };
        for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            let Place::Directory { fd, cut } = at else { break };
            self.step()?;
            at = child(&fd, cut, part).map_err(fail)?;
        }
        Ok(at)
    }

    /// Makes a directory above all layers, and those above it.
    fn put(&mut self, path: &[u8]) -> Result<(), Error> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        for end in ends.chain([path.len()]) {
            let path = path.get(..end).unwrap_or_default();
            if self.there.contains(path) {
                continue;
            }
            let (above, name) = split(path);
            self.step()?;
            beneath(&self.upper, above)
                .and_then(|above| rustix::fs::mkdirat(above, name, Mode::RWXU))
                .map_err(|e| Error::filesystem(path, e))?;
            self.there.insert(path.to_vec());
            self.copy(path)?;
        }
        Ok(())
    }

    /// Copies what the uppermost layer that describes a directory says of it.
    fn copy(&mut self, path: &[u8]) -> Result<(), Error> {
        let fail = |e| Error::filesystem(path, e);
        let found = self.search(0, path)?;
        let Some(from) = found.described.or(found.implied) else { return Ok(()) };
        let to = beneath(&self.upper, path).map_err(fail)?;
        let stat = rustix::fs::fstat(&*from).map_err(fail)?;
        rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
            .map_err(fail)?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(fail)?;
        copy_attributes(&from, &to).map_err(fail)?;
        let tv_nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let at = Timespec { tv_sec: stat.st_mtime, tv_nsec };
        self.times.push((path.to_vec(), Timestamps { last_access: at, last_modification: at }));
        Ok(())
    }

    fn set_times(&mut self) -> Result<(), Error> {
        for (path, times) in self.times.drain(..) {
            beneath(&self.upper, &path)
                .and_then(|fd| rustix::fs::futimens(fd, &times))
                .map_err(|e| Error::filesystem(&path, e))?;
        }
        Ok(())
    }
}

fn too_many() -> Error {
    Error::TooLarge("the image's layers use too many directories without describing them".to_owned())
}

/// What a name in a layer's directory stands for.
fn child(fd: &OwnedFd, cut: bool, name: &[u8]) -> Result<Place, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(fd, name, flags, Mode::empty()) {
        Ok(fd) => {
            let cut = cut || overlay::has_mark(&fd)?;
            Ok(Place::Directory { fd: Rc::new(fd), cut })
        }
        Err(Errno::NOENT) if cut => Ok(Place::Hidden),
        Err(Errno::NOENT) => Ok(Place::Absent),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(if overlay::is_mark(&stat) { Place::Hidden } else { Place::Other })
        }
        Err(e) => Err(e),
    }
}

/// Copies the attributes that layers may set.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    // XATTR_LIST_MAX and XATTR_SIZE_MAX.
    let mut names = vec![0_u8; 65_536];
    let n = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(n) => n,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(e),
    };
    let mut value = vec![0_u8; 65_536];
    for name in names.get(..n).unwrap_or_default().split(|b| *b == 0) {
        if !super::meta::is_layers_own(name) {
            continue;
        }
        let n = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        let value = value.get(..n).unwrap_or_default();
        match rustix::fs::fsetxattr(to, name, value, rustix::fs::XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => {}
            other => other?,
        }
    }
    Ok(())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => {
            (path.get(..at).unwrap_or_default(), path.get(at.saturating_add(1)..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

fn top(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A directory by its path, through no link.
fn beneath(root: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}
