//! The content of a volume as it lies on this host, flattened: kubelet's links are followed, its own names left out.
//!
//! Who writes into a volume may be a pod, or somebody else who must not read the rest of this host. So everything is found
//! from a descriptor of the volume by the kernel, which lets no path and no link lead out of it, and is opened only when
//! it is known to be a file or a folder.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cocoon_plan::files::{MAX_DEPTH, MAX_FILE_BYTES, MAX_FILES, MAX_POD_BYTES, names};
use cocoon_stage::{Code, Failure, Stage};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often something is tried that others change meanwhile.
const TRIES: usize = 5;
/// The link by which kubelet exchanges a volume's content.
const KUBELETS_LINK: &str = "..data";

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Content.
    pub data: Vec<u8>,
}

/// A volume's content: files by their paths below it.
pub type Content = BTreeMap<String, Entry>;

/// Reads the parts of a volume, which are folders or files by where they belong. A part that is the whole wins.
///
/// # Errors
/// `HOST-UNSUPPORTED` for what is more than a volume may be, or cannot be read.
pub fn read(volume: &str, parts: &BTreeMap<String, PathBuf>) -> Result<Content, Failure> {
    let failed =
        |why: String| Failure::new(Code::HostUnsupported, format!("volume {volume}: {why}")).at(Stage::Start);
    let whole = parts.get_key_value("");
    let parts: Vec<_> = whole.map_or_else(|| parts.iter().collect(), |part| vec![part]);
    let (mut content, mut bytes) = (Content::new(), 0);
    for (place, source) in parts {
        let taken = part(source, place, content.len(), bytes);
        let walk = taken.map_err(|e| failed(format!("{}: {e}", source.display())))?;
        bytes = walk.bytes;
        content.extend(walk.content);
    }
    Ok(content)
}

/// Reads one part; `files` and `bytes` are there already.
fn part(source: &Path, place: &str, files: usize, bytes: u64) -> io::Result<Taken> {
    let root = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let generation = || rustix::fs::readlinkat(&root, KUBELETS_LINK, Vec::new()).ok();
    steady(generation, || {
        let mut walk = Walk { root: root.as_fd(), content: Content::new(), files, bytes };
        walk.take(&root, "", place, 0)?;
        Ok(Taken { content: walk.content, bytes: walk.bytes })
    })
}

/// Reads what `generation` tells apart, again where it was exchanged meanwhile: half of each is neither.
fn steady<G: PartialEq, T>(
    generation: impl Fn() -> G,
    mut read: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    for _ in 0..TRIES {
        let before = generation();
        let taken = read();
        if generation() == before {
            return taken;
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "it changes faster than it can be read"))
}

struct Taken {
    content: Content,
    bytes: u64,
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// Files of earlier parts.
    files: usize,
    content: Content,
    /// Of all parts.
    bytes: u64,
}

fn too_much(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, why)
}

/// Finds what is at `path` of a volume, without opening it; `None` for what is not there, or not in the volume.
fn find(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was moved while the kernel looked at a `..`.
            Err(Errno::AGAIN) => {}
            Err(Errno::XDEV | Errno::NOENT) => return Ok(None),
            found => return Ok(Some(found?)),
        }
    }
    Err(Errno::AGAIN.into())
}

/// The name under which the kernel opens just what the descriptor has, whatever its path leads to by now.
fn itself(found: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", found.as_raw_fd())
}

impl Walk<'_> {
    /// Takes what was found at `at` of the part as `path` of the volume.
    fn take(&mut self, found: &OwnedFd, at: &str, path: &str, depth: usize) -> io::Result<()> {
        let what = File::from(found.try_clone()?).metadata()?;
        if what.is_dir() {
            return self.folder(found, at, path, depth);
        }
        if !what.is_file() {
            // Sockets, pipes and devices are of this host.
            return Ok(());
        }
        self.file(found, path, &what)
    }

    fn folder(&mut self, found: &OwnedFd, at: &str, path: &str, depth: usize) -> io::Result<()> {
        if depth >= MAX_DEPTH {
            return Err(too_much(format!("{at} is deeper than {MAX_DEPTH} folders")));
        }
        for entry in fs::read_dir(itself(found))? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            // Kubelet's own: `..data` and what it leads to.
            if depth == 0 && name.starts_with("..") {
                continue;
            }
            let below = |folder: &str| match folder {
                "" => name.clone(),
                folder => format!("{folder}/{name}"),
            };
            let (at, path) = (below(at), below(path));
            // Where a link leads out of the volume, it leads to what nobody asked for.
            match find(self.root, &at)? {
                Some(found) => self.take(&found, &at, &path, depth + 1)?,
                None => tracing::debug!(file = at, "a link that leads out of its volume, or nowhere"),
            }
        }
        Ok(())
    }

    fn file(&mut self, found: &OwnedFd, path: &str, what: &Metadata) -> io::Result<()> {
        if let Err(e) = names(path) {
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, format!("{path:?} {e}")));
        }
        if self.files + self.content.len() >= MAX_FILES {
            return Err(too_much(format!("more than {MAX_FILES} files")));
        }
        let mut data = Vec::new();
        File::open(itself(found))?.take(MAX_FILE_BYTES + 1).read_to_end(&mut data)?;
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        if length > MAX_FILE_BYTES || self.bytes > MAX_POD_BYTES {
            return Err(too_much(format!(
                "{path:?} makes it larger than {MAX_FILE_BYTES} bytes a file or {MAX_POD_BYTES} in all"
            )));
        }
        let (mode, uid, gid) = (what.mode() & 0o7777, what.uid(), what.gid());
        self.content.insert(path.to_owned(), Entry { mode, uid, gid, data });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn parts(list: &[(&str, &Path)]) -> BTreeMap<String, PathBuf> {
        list.iter().map(|(place, source)| ((*place).to_owned(), source.to_path_buf())).collect()
    }

    #[test]
    fn kubelets_links_are_flattened() {
        let dir = tempfile::tempdir().unwrap();
        let generation = dir.path().join("..2026_11_27");
        fs::create_dir(&generation).unwrap();
        fs::write(generation.join("key"), "value").unwrap();
        fs::create_dir(generation.join("sub")).unwrap();
        fs::write(generation.join("sub/other"), "x").unwrap();
        symlink("..2026_11_27", dir.path().join("..data")).unwrap();
        symlink("..data/key", dir.path().join("key")).unwrap();
        symlink("..data/sub", dir.path().join("sub")).unwrap();
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        symlink("../../../../../../etc", dir.path().join("up")).unwrap();
        symlink("/proc/self/root/etc/passwd", dir.path().join("magic")).unwrap();
        symlink("nowhere", dir.path().join("broken")).unwrap();
        let content = read("c", &parts(&[("", dir.path())])).unwrap();
        assert_eq!(content.keys().collect::<Vec<_>>(), ["key", "sub/other"]);
        assert_eq!(
            (content["key"].data.as_slice(), content["key"].mode & 0o400),
            (b"value".as_slice(), 0o400)
        );
    }

    #[test]
    fn parts_have_their_places_and_the_whole_wins() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "1").unwrap();
        let file = dir.path().join("f");
        let content = read("c", &parts(&[("a/b", &file), ("d", dir.path())])).unwrap();
        assert_eq!(content.keys().collect::<Vec<_>>(), ["a/b", "d/f"]);
        let content = read("c", &parts(&[("a/b", &file), ("", dir.path())])).unwrap();
        assert_eq!(content.keys().collect::<Vec<_>>(), ["f"]);
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("large")).unwrap();
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        let refused = read("big", &parts(&[("", dir.path())])).unwrap_err();
        assert!(refused.code == Code::HostUnsupported && refused.reason.contains("big"));
        fs::remove_file(dir.path().join("large")).unwrap();
        symlink(".", dir.path().join("loop")).unwrap();
        assert!(read("deep", &parts(&[("", dir.path())])).unwrap_err().reason.contains("deeper"));
        assert!(read("gone", &parts(&[("", Path::new("/proc/cocoon-nothing"))])).is_err());
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("p"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        fs::remove_file(dir.path().join("loop")).unwrap();
        assert!(read("pipe", &parts(&[("", dir.path())])).unwrap().is_empty());
    }
    #[test]
    fn a_link_that_is_exchanged_all_the_time_never_leads_out() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("f"), "secret").unwrap();
        fs::create_dir(dir.path().join("inside")).unwrap();
        fs::write(dir.path().join("inside/f"), "mine").unwrap();
        let (place, spare) = (dir.path().join("d"), dir.path().join("inside/spare"));
        symlink("inside", &place).unwrap();
        symlink(outside.path(), &spare).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                while !done.load(Ordering::Relaxed) {
                    rustix::fs::renameat_with(rustix::fs::CWD, &place, rustix::fs::CWD, &spare, flags)
                        .unwrap();
                }
            });
            for _ in 0..500 {
                let content = read("c", &parts(&[("", dir.path())])).unwrap();
                assert!(content.values().all(|entry| entry.data == b"mine"));
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn what_is_exchanged_meanwhile_is_read_again() {
        let now = std::cell::Cell::new(0);
        let switching = |until: u32| {
            now.set(0);
            let mut reads = 0;
            let read = || {
                reads += 1;
                if reads < until {
                    now.set(reads);
                }
                Ok(reads)
            };
            steady(|| now.get(), read).ok()
        };
        assert_eq!((switching(1), switching(3), switching(99)), (Some(1), Some(3), None));
    }
}
