//! Layers to build, and file systems to compare.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    dead_code
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cocoon_erofs::{Built, Error};
use cocoon_image::{Budget, Limits, UnpackOptions};
use tar::{Builder, EntryType, Header};

pub const BLOCK: u64 = 4096;

/// One entry to put into a layer, with its name as it is.
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub kind: EntryType,
    pub link: &'a [u8],
    pub content: &'a [u8],
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: &'a str,
    pub xattrs: &'a [(&'a str, &'a [u8])],
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Entry {
            name: b"",
            kind: EntryType::Regular,
            link: b"",
            content: b"",
            mode: 0o644,
            owner: (0, 0),
            mtime: "1000000",
            xattrs: &[],
        }
    }
}

/// A tar in the making.
pub struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Layer(Builder::new(Vec::new()))
    }

    pub fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    pub fn add(&mut self, e: &Entry<'_>) -> &mut Self {
        let mut pax: Vec<(String, Vec<u8>)> = vec![
            ("path".into(), e.name.to_vec()),
            ("mtime".into(), e.mtime.into()),
            ("uid".into(), e.owner.0.to_string().into()),
            ("gid".into(), e.owner.1.to_string().into()),
        ];
        if !e.link.is_empty() {
            pax.push(("linkpath".into(), e.link.to_vec()));
        }
        for (name, value) in e.xattrs {
            pax.push((format!("SCHILY.xattr.{name}"), value.to_vec()));
        }
        self.0.append_pax_extensions(pax.iter().map(|(k, v)| (k.as_str(), v.as_slice()))).unwrap();
        let mut h = Header::new_ustar();
        h.set_entry_type(e.kind);
        h.set_mode(e.mode);
        h.set_size(e.content.len() as u64);
        h.set_cksum();
        self.0.append(&h, e.content).unwrap();
        self
    }

    pub fn file(&mut self, name: &str, content: &[u8]) -> &mut Self {
        self.add(&Entry { name: name.as_bytes(), content, ..Entry::default() })
    }

    /// A file or hard link by a plain header alone: for very many.
    pub fn plain(&mut self, name: &str, link: &str, content: &[u8]) {
        let mut h = Header::new_ustar();
        h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        h.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        h.set_entry_type(if link.is_empty() { EntryType::Regular } else { EntryType::Link });
        h.set_mode(0o644);
        h.set_mtime(1_000_000);
        h.set_size(content.len() as u64);
        h.set_cksum();
        self.0.append(&h, content).unwrap();
    }

    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.add(&Entry {
            name: name.as_bytes(),
            kind: EntryType::Directory,
            mode: 0o755,
            ..Entry::default()
        })
    }

    pub fn symlink(&mut self, name: &str, to: &str) -> &mut Self {
        let (name, link) = (name.as_bytes(), to.as_bytes());
        self.add(&Entry { name, link, kind: EntryType::Symlink, ..Entry::default() })
    }

    pub fn hard_link(&mut self, name: &str, to: &str) -> &mut Self {
        let (name, link) = (name.as_bytes(), to.as_bytes());
        self.add(&Entry { name, link, kind: EntryType::Link, ..Entry::default() })
    }
}

/// A built image in a folder of its own.
pub struct Image {
    pub folder: tempfile::TempDir,
    pub path: PathBuf,
    pub file: File,
    pub built: Built,
}

pub fn build(tar: &[u8]) -> Result<Image, Error> {
    build_with(tar, &Limits::default())
}

pub fn build_with(tar: &[u8], limits: &Limits) -> Result<Image, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let built = cocoon_erofs::build(tar, &file, limits)?;
    assert_eq!(file.metadata().unwrap().len(), built.image_blocks * BLOCK);
    assert_eq!(built.diff_bytes, tar.len() as u64);
    Ok(Image { folder, path, file, built })
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(out) => Some(out),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {program} is not installed");
            None
        }
        Err(e) => panic!("{program}: {e}"),
    }
}

pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

impl Image {
    /// `fsck.erofs`, which must find nothing; false where it is not installed.
    pub fn fsck(&self) -> bool {
        let Some(out) = run("fsck.erofs", &["-d3", self.path.to_str().unwrap()]) else { return false };
        assert!(
            out.status.success() && text(&out).contains("No errors found"),
            "{} {}",
            out.status,
            text(&out)
        );
        true
    }

    /// Mounted by the kernel; `None` where that is not possible.
    pub fn mount(&self) -> Option<Mounted> {
        if !is_root() {
            println!("skipped: mounting needs root");
            return None;
        }
        let at = self.folder.path().join("mnt");
        std::fs::create_dir(&at).unwrap();
        let (from, to) = (self.path.to_str().unwrap(), at.to_str().unwrap());
        let out = run("mount", &["-t", "erofs", "-o", "loop,ro", from, to])?;
        if !out.status.success() {
            let why = text(&out);
            assert!(
                why.contains("unknown filesystem") || why.contains("loop") && !why.contains("wrong fs type"),
                "{why}"
            );
            println!("skipped: no loop-mounts of EROFS here: {why}");
            return None;
        }
        Some(Mounted(at, None))
    }

    /// The tree as the kernel shows it.
    pub fn seen(&self) -> Option<BTreeMap<Vec<u8>, Item>> {
        let mounted = self.mount()?;
        Some(tree(&mounted.0))
    }
}

/// A mount, undone at the end; then its folder goes, where that is its own.
pub struct Mounted(pub PathBuf, Option<tempfile::TempDir>);

impl Mounted {
    pub fn with(folder: tempfile::TempDir) -> Self {
        Mounted(folder.path().to_owned(), Some(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A program that another test starts has our open folders until it replaces itself.
        for _ in 0..100 {
            if Command::new("umount").arg("-q").arg(&self.0).status().is_ok_and(|s| s.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(std::thread::panicking(), "{} stays mounted", self.0.display());
    }
}

/// What `cocoon_image::unpack` makes of a layer.
pub struct Unpacked(pub tempfile::TempDir);

pub fn unpack(tar: &[u8]) -> Result<Unpacked, cocoon_image::Error> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let open = File::open(&root).unwrap();
    let options = UnpackOptions { preserve_owner: is_root() };
    cocoon_image::unpack(tar, open.as_fd(), &options, &mut Budget::new(Limits::default()))?;
    Ok(Unpacked(folder))
}

impl Unpacked {
    pub fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }
}

/// One inode as a file system shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub device: u64,
    pub links: u64,
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path, in byte order, of the same inode.
    pub first: Vec<u8>,
}

/// All inodes below a folder (and it, as an empty path), by path.
pub fn tree(root: &Path) -> BTreeMap<Vec<u8>, Item> {
    let mut all = BTreeMap::new();
    let mut inodes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut todo = vec![(root.to_owned(), Vec::new())];
    while let Some((at, path)) = todo.pop() {
        // overlayfs lists a whiteout of nothing in a directory that only one layer has, but nothing is there.
        let m = match std::fs::symlink_metadata(&at) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.unwrap(),
        };
        if m.is_dir() {
            for entry in std::fs::read_dir(&at).unwrap() {
                let name = entry.unwrap().file_name();
                let below = match &path[..] {
                    b"" => name.as_bytes().to_vec(),
                    path => [path, name.as_bytes()].join(&b'/'),
                };
                todo.push((at.join(&name), below));
            }
        }
        inodes.entry(m.ino()).or_default().push(path.clone());
        all.insert(path, item(&at, &m));
    }
    for paths in inodes.values() {
        let first = paths.iter().min().unwrap();
        paths.iter().for_each(|p| all.get_mut(p).unwrap().first = first.clone());
    }
    all
}

fn item(at: &Path, m: &std::fs::Metadata) -> Item {
    let kind = m.file_type();
    let content = if kind.is_file() {
        std::fs::read(at).unwrap()
    } else if kind.is_symlink() {
        std::fs::read_link(at).unwrap().as_os_str().as_bytes().to_vec()
    } else {
        Vec::new()
    };
    let mut item = Item {
        mode: m.mode(),
        owner: (m.uid(), m.gid()),
        mtime: (m.mtime(), m.mtime_nsec()),
        device: m.rdev(),
        links: m.nlink(),
        content,
        xattrs: BTreeMap::new(),
        first: Vec::new(),
    };
    if m.is_dir() || m.is_file() {
        let mut names = vec![0_u8; 65_536];
        let n = rustix::fs::llistxattr(at, &mut names[..]).unwrap_or(0);
        for name in names[..n].split(|b| *b == 0).filter(|n| !n.is_empty()) {
            let mut value = vec![0_u8; 65_536];
            let n = rustix::fs::lgetxattr(at, name, &mut value[..]).unwrap();
            item.xattrs.insert(name.to_vec(), value[..n].to_vec());
        }
    }
    item
}

/// Compares an image as the kernel shows it with the same layer unpacked. `described` says of a directory's path
/// whether exactly one entry describes it; others have times (and after a second one, modes) that may differ. Marks of
/// opaque and implied directories are not compared.
pub fn compare(
    image: &BTreeMap<Vec<u8>, Item>,
    unpacked: &BTreeMap<Vec<u8>, Item>,
    described: impl Fn(&[u8]) -> bool,
) {
    let names = |m: &BTreeMap<Vec<u8>, Item>| {
        m.keys().map(|k| String::from_utf8_lossy(k).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(image), names(unpacked));
    for ((path, a), b) in image.iter().zip(unpacked.values()) {
        let (mut a, mut b) = (a.clone(), b.clone());
        a.xattrs.remove(&b"trusted.overlay.opaque"[..]);
        a.xattrs.remove(&b"trusted.cocoon.implied"[..]);
        if a.mode & 0o170_000 == 0o040_000 {
            // Not all file systems count a directory's links.
            b.links = a.links;
            if !described(path) {
                b.mtime = a.mtime;
                b.mode = b.mode & 0o170_000 | a.mode & 0o7777;
            }
        }
        let shown = |i: &Item| {
            let mut i = i.clone();
            i.content.truncate(64);
            format!("{i:?}")
        };
        assert!(a == b, "{}\n{}\n{}", String::from_utf8_lossy(path), shown(&a), shown(&b));
    }
}
