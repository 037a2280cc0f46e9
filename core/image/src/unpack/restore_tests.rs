//! Directories that layers imply, as an overlay shows them.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::layer_tests::{NAMES, apply_layer, root};
use super::tests::{dir, file, layer, options, raw};
use super::*;
use ::tar::{Builder, EntryType, Header};

/// Puts entries into a layer.
type Fill<'a> = &'a dyn Fn(&mut Builder<Vec<u8>>);

/// A directory that is nobody's default.
fn special(b: &mut Builder<Vec<u8>>, name: &str, mode: u32, owner: u64) {
    let mut h = Header::new_ustar();
    h.set_path(name).unwrap();
    h.set_entry_type(EntryType::Directory);
    h.set_mode(mode);
    h.set_uid(owner);
    h.set_gid(owner);
    h.set_size(0);
    h.set_mtime(1_234_567);
    h.set_cksum();
    b.append_pax_extensions([("SCHILY.xattr.user.note", &b"hi"[..])]).unwrap();
    b.append(&h, &b""[..]).unwrap();
}

struct Stack {
    folder: tempfile::TempDir,
    layers: Vec<PathBuf>,
}

impl Stack {
    fn new() -> Self {
        Stack { folder: tempfile::tempdir().unwrap(), layers: Vec::new() }
    }

    /// Puts a layer on top.
    fn add(&mut self, data: &[u8]) -> &mut Self {
        let at = self.folder.path().join(format!("layer{}", self.layers.len()));
        std::fs::create_dir(&at).unwrap();
        apply_layer(&at, data).unwrap();
        self.layers.insert(0, at);
        self
    }

    fn upper(&self) -> PathBuf {
        self.folder.path().join("upper")
    }

    fn restore(&self) -> Result<u64, Error> {
        remove_tree(&self.upper()).unwrap();
        std::fs::create_dir(self.upper()).unwrap();
        restore(&self.layers, &self.upper())
    }

    /// What the overlay shows, looked at while it is mounted.
    fn mounted<T>(&self, look: impl FnOnce(&Path) -> T) -> Option<T> {
        let at = self.folder.path().join("view");
        let work = self.folder.path().join("work");
        remove_tree(&work).unwrap();
        std::fs::create_dir_all(&at).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        // The writable directory must not lie on an overlay itself; read-only it is one more layer.
        let all: Vec<_> =
            [self.upper()].iter().chain(&self.layers).map(|p| p.display().to_string()).collect();
        let data = std::ffi::CString::new(format!("lowerdir={}", all.join(":"))).unwrap();
        if let Err(e) =
            rustix::mount::mount("overlay", &at, "overlay", rustix::mount::MountFlags::RDONLY, &*data)
        {
            println!("skipped: no overlay can be mounted: {e}");
            return None;
        }
        let seen = look(&at);
        rustix::mount::unmount(&at, rustix::mount::UnmountFlags::empty()).unwrap();
        Some(seen)
    }
}

fn base() -> Vec<u8> {
    layer(|b| {
        special(b, "./", 0o711, 3);
        special(b, "tmp", 0o1777, 7);
        special(b, "var", 0o750, 8);
        special(b, "var/lib", 0o2770, 9);
        file(b, "var/lib/old", "");
        raw(b, "lib", EntryType::Symlink, "usr/lib", b"");
        file(b, "file", "");
    })
}

#[test]
fn what_a_lower_layer_says_of_a_directory_shows() {
    if !root() {
        return;
    }
    let mut stack = Stack::new();
    stack.add(&base());
    stack.add(&layer(|b| {
        file(b, "tmp/x", "1");
        file(b, "var/lib/a/b/x", "1");
        file(b, "new/x", "1");
    }));
    stack.add(&layer(|b| file(b, "var/lib/y", "2")));
    // tmp, var, var/lib
    assert_eq!(stack.restore().unwrap(), 3);
    stack.mounted(|at| {
        let seen = |p: &str| {
            let m = std::fs::metadata(at.join(p)).unwrap();
            (m.permissions().mode() & 0o7777, m.uid(), m.gid())
        };
        assert_eq!(seen(""), (0o711, 3, 3));
        assert_eq!(seen("tmp"), (0o1777, 7, 7));
        assert_eq!(seen("var"), (0o750, 8, 8));
        assert_eq!(seen("var/lib"), (0o2770, 9, 9));
        assert_eq!(seen("var/lib/a"), (0o755, 0, 0));
        assert_eq!(seen("new"), (0o755, 0, 0));
        for p in ["", "tmp", "var", "var/lib"] {
            assert_eq!(std::fs::metadata(at.join(p)).unwrap().mtime(), 1_234_567, "{p}");
            let mut value = [0; 8];
            let n = rustix::fs::getxattr(at.join(p), "user.note", &mut value[..]);
            assert!(matches!(n, Ok(2) | Err(Errno::NODATA | Errno::OPNOTSUPP)), "{p}: {n:?}");
        }
        for p in ["tmp/x", "var/lib/old", "var/lib/y", "var/lib/a/b/x"] {
            assert!(at.join(p).exists(), "{p}");
        }
    });
}

#[test]
fn what_is_described_or_hidden_is_not_restored() {
    if !root() {
        return;
    }
    let cases: [(u64, Fill<'_>); 8] = [
        (0, &|b| special(b, "tmp", 0o700, 1)),
        // Described after use.
        (0, &|b| {
            file(b, "tmp/x", "");
            special(b, "tmp", 0o700, 1);
        }),
        // Deleted, then new.
        (0, &|b| {
            file(b, ".wh.tmp", "");
            file(b, "tmp/x", "");
        }),
        (0, &|b| {
            file(b, "tmp/x", "");
            file(b, ".wh.tmp", "");
        }),
        // Emptied, but the same directory.
        (1, &|b| file(b, "tmp/.wh..wh..opq", "")),
        (1, &|b| file(b, "tmp/.wh.x", "")),
        // Below a described directory.
        (2, &|b| {
            dir(b, "var");
            file(b, "var/lib/x", "");
        }),
        // Below one that hides what is below it.
        (0, &|b| {
            dir(b, "var");
            file(b, "var/.wh..wh..opq", "");
            file(b, "var/lib/x", "");
        }),
    ];
    for (i, (made, build)) in cases.into_iter().enumerate() {
        let mut stack = Stack::new();
        stack.add(&base()).add(&layer(build));
        assert_eq!(stack.restore().unwrap(), made, "{i}");
    }
    // A layer between the two.
    let between: [(u64, Fill<'_>); 5] = [
        (1, &|b| file(b, "etc/x", "")),
        (1, &|b| file(b, "tmp/y", "")),
        (0, &|b| file(b, ".wh.tmp", "")),
        // The new one is what shows.
        (1, &|b| {
            file(b, ".wh.tmp", "");
            file(b, "tmp/z", "");
        }),
        (1, &|b| special(b, "tmp", 0o700, 1)),
    ];
    for (i, (made, build)) in between.into_iter().enumerate() {
        let mut stack = Stack::new();
        stack.add(&base()).add(&layer(build)).add(&layer(|b| file(b, "tmp/x", "")));
        assert_eq!(stack.restore().unwrap(), made, "{i}");
    }
    // Covered again by one that is described.
    let mut stack = Stack::new();
    stack.add(&base()).add(&layer(|b| file(b, "tmp/x", ""))).add(&layer(|b| special(b, "tmp", 0o700, 1)));
    assert_eq!(stack.restore().unwrap(), 0);
}

#[test]
fn a_link_below_an_implied_directory_is_an_error() {
    if !root() {
        return;
    }
    for name in ["lib/foo", "file/foo", "lib/a/b/foo", "lib/.wh.foo"] {
        let mut stack = Stack::new();
        stack.add(&base()).add(&layer(|b| file(b, name, "")));
        let e = stack.restore().unwrap_err();
        assert!(matches!(e, Error::Unsafe { .. }), "{name}: {e}");
        assert_eq!(cocoon_stage::Failure::from(e).code, cocoon_stage::Code::ImageLayerUnsafe);
        // Whatever is above it.
        stack.add(&layer(|b| dir(b, "lib"))).add(&layer(|b| dir(b, "file")));
        assert!(matches!(stack.restore(), Err(Error::Unsafe { .. })), "{name}");
    }
    // Described, it replaces the link.
    let mut stack = Stack::new();
    stack.add(&base()).add(&layer(|b| {
        dir(b, "lib");
        file(b, "lib/foo", "");
    }));
    assert_eq!(stack.restore().unwrap(), 0);
    let mut stack = Stack::new();
    stack.add(&base()).add(&layer(|b| {
        file(b, ".wh.lib", "");
        file(b, "lib/foo", "");
    }));
    assert_eq!(stack.restore().unwrap(), 0);
}

#[test]
fn a_layer_cannot_mark_its_directories_itself() {
    if !root() {
        return;
    }
    let mut stack = Stack::new();
    stack.add(&base()).add(&layer(|b| {
        b.append_pax_extensions([("SCHILY.xattr.trusted.cocoon.implied", &b"y"[..])]).unwrap();
        dir(b, "tmp");
    }));
    assert_eq!(stack.restore().unwrap(), 0);
}

#[test]
fn many_directories_and_deep_ones_are_bounded() {
    const COUNT: u64 = 2000;
    if !root() {
        return;
    }
    let mut stack = Stack::new();
    stack.add(&layer(|b| (0..COUNT).for_each(|i| special(b, &format!("d{}/e{i}", i % 100), 0o700, 1))));
    stack.add(&layer(|b| (0..COUNT).for_each(|i| file(b, &format!("d{}/e{i}/f", i % 100), ""))));
    let start = std::time::Instant::now();
    assert_eq!(stack.restore().unwrap(), 100 + COUNT);
    println!("{COUNT} implied directories: {:?}", start.elapsed());
    stack.layers.remove(0);
    remove_tree(&stack.upper()).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(stack.restore().unwrap(), 0);
    println!("{COUNT} described directories in 100 implied ones: {:?}", start.elapsed());
    // Deeper than any path, through the layer's own links.
    let mut stack = Stack::new();
    stack.add(&layer(|b| {
        let mut deep = "d/".repeat(44);
        for i in 0..38 {
            dir(b, &deep);
            let link = format!("l{i}");
            raw(b, &link, EntryType::Symlink, deep.trim_end_matches('/'), b"");
            deep = format!("{link}/{}", "d/".repeat(44));
        }
        let long = format!("{deep}{}f", format!("{}/", "x".repeat(200)).repeat(6));
        b.append_pax_extensions([("path", long.as_bytes())]).unwrap();
        file(b, "short", "");
    }));
    let e = stack.restore().unwrap_err();
    assert!(matches!(e, Error::Unsafe { .. }), "{e}");
}

type View = BTreeMap<PathBuf, (u32, u32, Vec<u8>)>;

/// Mode, owner and content of everything.
fn view(top: &Path) -> View {
    let mut all = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(m) = std::fs::symlink_metadata(&path) else { continue };
        if m.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        let content = if m.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        all.insert(path.strip_prefix(top).unwrap().to_owned(), (m.mode(), m.uid(), content));
    }
    all
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..proptest::prelude::ProptestConfig::with_cases(250) })]
    /// Stacked, layers show the modes and owners that they have when each is put onto the one below.
    #[test]
    fn stacked_layers_show_what_merged_layers_say(layers in proptest::collection::vec(
        proptest::collection::vec((0_usize..NAMES.len(), 0_u8..7), 0..8), 2..5))
    {
        if !root() {
            return Ok(());
        }
        let mut stack = Stack::new();
        let merged = stack.folder.path().join("merged");
        std::fs::create_dir(&merged).unwrap();
        std::fs::set_permissions(&merged, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (i, entries) in layers.iter().enumerate() {
            let data = layer(|b| {
                for (name, _) in entries.iter().filter(|(_, kind)| *kind == 3) {
                    let name = NAMES[*name].trim_end_matches('/');
                    let (above, last) = name.rsplit_once('/').map_or(("", name), |(a, l)| (a, l));
                    // The mark alone would make the directory, so it is there in any case.
                    if !above.is_empty() {
                        dir(b, above);
                    }
                    file(b, &[above, "/.wh.", last].concat(), "");
                }
                // First, as the image specification asks: behind entries that it does not mean, a mark is read in
                // several ways.
                for (name, _) in entries.iter().filter(|(name, kind)| *kind == 4 && NAMES[*name].ends_with('/')) {
                    file(b, &format!("{}.wh..wh..opq", NAMES[*name]), "");
                }
                for (n, (name, kind)) in entries.iter().enumerate() {
                    let name = NAMES[*name];
                    let n = u32::try_from(n).unwrap();
                    match kind {
                        3 => {}
                        0 | 1 if name.ends_with('/') => special(b, name, 0o700 + n, u64::from(n)),
                        4 if name.ends_with('/') => {}
                        5 => raw(b, name, EntryType::Symlink, "a", b""),
                        _ => file(b, name, &format!("{i}.{n}")),
                    }
                }
            });
            let root = std::fs::File::open(&merged).unwrap();
            let one = unpack(BufReader::new(&data[..]), root.as_fd(), &options(), &mut Budget::new(Limits::default()));
            let tree = stack.folder.path().join(format!("layer{i}"));
            std::fs::create_dir(&tree).unwrap();
            if one.is_err() || apply_layer(&tree, &data).is_err() {
                return Ok(());
            }
            stack.layers.insert(0, tree);
        }
        match stack.restore() {
            // Refused are implied directories above something else, which merging refuses or follows.
            Err(Error::Unsafe { .. }) => return Ok(()),
            other => other.unwrap(),
        };
        if let Some(seen) = stack.mounted(view) {
            proptest::prop_assert_eq!(seen, view(&merged));
        }
    }
}
