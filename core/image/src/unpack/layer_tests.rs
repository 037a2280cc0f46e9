//! Layers as trees for overlayfs: the marks, and what the kernel makes of them.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::tests::{dir, file, layer, options, raw};
use super::*;
use ::tar::{Builder, EntryType};

pub(super) fn root() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        println!("skipped: only root may mark and mount");
    }
    is
}

pub(super) fn apply_layer(dir: &Path, data: &[u8]) -> Result<Summary, Error> {
    let root = std::fs::File::open(dir).unwrap();
    unpack_layer(BufReader::new(data), root.as_fd(), &options(), &mut Budget::new(Limits::default()))
}

pub(super) fn is_deleted(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

pub(super) fn opaque(path: &Path) -> bool {
    overlay::is_opaque(std::fs::File::open(path).unwrap()).unwrap()
}

#[test]
fn whiteouts_become_marks() {
    if !root() {
        return;
    }
    let t = tempfile::tempdir().unwrap();
    let at = |p: &str| t.path().join(p);
    let s = apply_layer(
        t.path(),
        &layer(|b| {
            file(b, ".wh.gone", "");
            dir(b, "d");
            file(b, "d/.wh.one", "");
            file(b, "d/two", "2");
            dir(b, "o");
            file(b, "o/new", "2");
            file(b, "o/.wh..wh..opq", "");
            file(b, "implied/.wh..wh..opq", "");
            file(b, ".wh..wh.plnk", "");
        }),
    )
    .unwrap();
    assert_eq!(s.entries, 9);
    for gone in ["gone", "d/one"] {
        assert!(is_deleted(&at(gone)), "{gone}");
    }
    assert!(opaque(&at("o")) && opaque(&at("implied")) && !opaque(&at("d")) && !opaque(t.path()));
    for absent in [".wh.gone", "d/.wh.one", "o/.wh..wh..opq", ".wh..wh.plnk"] {
        assert!(std::fs::symlink_metadata(at(absent)).is_err(), "{absent}");
    }
}

#[test]
fn an_entry_beats_the_whiteout_of_its_name_in_either_order() {
    if !root() {
        return;
    }
    for whiteout_first in [true, false] {
        let t = tempfile::tempdir().unwrap();
        let at = |p: &str| t.path().join(p);
        let marks = |b: &mut Builder<Vec<u8>>| {
            for name in ["f", "d", "l", "deep"] {
                file(b, &format!(".wh.{name}"), "");
            }
        };
        let data = layer(|b| {
            if whiteout_first {
                marks(b);
            }
            file(b, "f", "new");
            dir(b, "d");
            raw(b, "l", EntryType::Symlink, "f", b"");
            // The directory is only implied.
            file(b, "deep/er/x", "new");
            if !whiteout_first {
                marks(b);
            }
        });
        apply_layer(t.path(), &data).unwrap();
        assert_eq!(std::fs::read(at("f")).unwrap(), b"new");
        assert!(opaque(&at("d")) && opaque(&at("deep")) && !opaque(&at("deep/er")), "{whiteout_first}");
        assert!(std::fs::symlink_metadata(at("l")).unwrap().is_symlink());
    }
}

#[test]
fn a_directory_that_replaced_something_in_its_own_layer_is_opaque() {
    if !root() {
        return;
    }
    let t = tempfile::tempdir().unwrap();
    apply_layer(
        t.path(),
        &layer(|b| {
            file(b, "x", "1");
            dir(b, "x");
            dir(b, "y");
            dir(b, "y");
        }),
    )
    .unwrap();
    assert!(opaque(&t.path().join("x")) && !opaque(&t.path().join("y")));
}

#[test]
fn marks_below_what_is_no_directory_any_more_are_needless() {
    if !root() {
        return;
    }
    for file_first in [true, false] {
        let t = tempfile::tempdir().unwrap();
        let data = layer(|b| {
            if file_first {
                file(b, "lib", "now a file");
            }
            // As umoci writes them.
            file(b, "lib/.wh.x", "");
            file(b, "lib/.wh..wh..opq", "");
            if !file_first {
                file(b, "lib", "now a file");
            }
        });
        apply_layer(t.path(), &data).unwrap();
        assert_eq!(std::fs::read(t.path().join("lib")).unwrap(), b"now a file");
    }
}

#[test]
fn an_opaque_root_is_told() {
    if !root() {
        return;
    }
    let t = tempfile::tempdir().unwrap();
    apply_layer(t.path(), &layer(|b| file(b, ".wh..wh..opq", ""))).unwrap();
    assert!(opaque(t.path()));
}

#[test]
fn hard_links_reach_their_own_layer_only() {
    let t = tempfile::tempdir().unwrap();
    apply_layer(
        t.path(),
        &layer(|b| {
            file(b, "a", "1");
            raw(b, "b", EntryType::Link, "a", b"");
        }),
    )
    .unwrap();
    assert_eq!(std::fs::metadata(t.path().join("b")).unwrap().nlink(), 2);
    for target in ["lower", "no/such/file", "a/below-a-file"] {
        let e = apply_layer(t.path(), &layer(|b| raw(b, "c", EntryType::Link, target, b""))).unwrap_err();
        assert!(e.to_string().contains("not in the same layer"), "{target}: {e}");
        assert!(matches!(e, Error::Unsafe { .. }));
    }
    if root() {
        let data = layer(|b| {
            file(b, ".wh.gone", "");
            raw(b, "c", EntryType::Link, "gone", b"");
        });
        let e = apply_layer(t.path(), &data).unwrap_err();
        assert!(e.to_string().contains("not in the same layer"), "{e}");
    }
}

/// Type and content of everything below a directory.
fn listing(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Where nothing lies below a directory, overlayfs lists the marks in it, which then are not there.
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            let what = if meta.is_dir() {
                waiting.push(path.clone());
                "directory".to_owned()
            } else if meta.is_symlink() {
                format!("link to {}", std::fs::read_link(&path).unwrap().display())
            } else {
                format!(
                    "{:?} {}",
                    meta.file_type(),
                    String::from_utf8(std::fs::read(&path).unwrap()).unwrap()
                )
            };
            all.insert(path.strip_prefix(top).unwrap().to_owned(), what);
        }
    }
    all
}

/// The layers as overlayfs shows them.
fn mounted(layers: &[PathBuf], at: &Path) -> Option<BTreeMap<PathBuf, String>> {
    let lower: Vec<_> = layers.iter().rev().map(|p| p.to_str().unwrap()).collect();
    let data = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
    let flags = rustix::mount::MountFlags::RDONLY;
    if let Err(e) = rustix::mount::mount("overlay", at, "overlay", flags, &*data) {
        println!("skipped: no overlay can be mounted: {e}");
        return None;
    }
    let seen = listing(at);
    rustix::mount::unmount(at, rustix::mount::UnmountFlags::empty()).unwrap();
    Some(seen)
}

/// Directories end in a slash in these names, so that no file is a parent; links are never parents.
pub(super) const NAMES: [&str; 11] =
    ["a", "b", "d/", "d/a", "d/e/", "d/e/a", "d/e/b", "f/", "f/a", "d/e", "f"];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    /// The two ways to unpack agree, with the kernel as the judge.
    #[test]
    fn stacked_layers_show_what_merged_layers_hold(layers in proptest::collection::vec(
        proptest::collection::vec((0_usize..NAMES.len(), 0_u8..5), 0..8), 2..4))
    {
        if !root() {
            return Ok(());
        }
        let t = tempfile::tempdir().unwrap();
        let merged = t.path().join("merged");
        let view = t.path().join("view");
        std::fs::create_dir(&merged).unwrap();
        std::fs::create_dir(&view).unwrap();
        let mut trees = vec![t.path().join("empty")];
        std::fs::create_dir(&trees[0]).unwrap();
        for (i, entries) in layers.iter().enumerate() {
            let data = layer(|b| for (n, (name, kind)) in entries.iter().enumerate() {
                let name = NAMES[*name];
                let content = format!("{i}.{n}");
                let (above, last) = name.trim_end_matches('/').rsplit_once('/').unwrap_or(("", name.trim_end_matches('/')));
                let above = if above.is_empty() { String::new() } else { format!("{above}/") };
                match kind {
                    _ if name.ends_with('/') && *kind < 3 => dir(b, name),
                    3 => {
                        // As image builders do: without it the mark alone would make the directory.
                        if !above.is_empty() {
                            dir(b, &above);
                        }
                        file(b, &format!("{above}.wh.{last}"), "")
                    }
                    4 if name.ends_with('/') => {
                        dir(b, name);
                        file(b, &format!("{name}.wh..wh..opq"), "")
                    }
                    1 => raw(b, name, EntryType::Symlink, "nowhere", b""),
                    _ => file(b, name, &content),
                }
            });
            let tree = t.path().join(format!("layer{i}"));
            std::fs::create_dir(&tree).unwrap();
            let root = std::fs::File::open(&merged).unwrap();
            let one = unpack(BufReader::new(&data[..]), root.as_fd(), &options(), &mut Budget::new(Limits::default()));
            let other = apply_layer(&tree, &data);
            // What the merged way refuses because of lower layers (a file as parent) the layer by itself may not show.
            if one.is_err() || other.is_err() {
                return Ok(());
            }
            trees.push(tree);
        }
        if let Some(seen) = mounted(&trees, &view) {
            proptest::prop_assert_eq!(seen, listing(&merged));
        }
    }
}
