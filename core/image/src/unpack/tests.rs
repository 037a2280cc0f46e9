//! Unpacking, friendly and hostile.

use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::*;
use ::tar::{Builder, EntryType, Header};

pub(super) fn options() -> UnpackOptions {
    UnpackOptions { preserve_owner: rustix::process::geteuid().is_root() }
}

pub(super) fn layer(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut b = Builder::new(Vec::new());
    build(&mut b);
    b.into_inner().unwrap()
}

pub(super) fn apply_with(dir: &Path, data: &[u8], limits: Limits) -> Result<Summary, Error> {
    let root = std::fs::File::open(dir).unwrap();
    unpack(BufReader::new(data), root.as_fd(), &options(), &mut Budget::new(limits))
}

pub(super) fn apply(dir: &Path, data: &[u8]) -> Result<Summary, Error> {
    apply_with(dir, data, Limits::default())
}

/// Adds an entry whose name is written as it is (the builder's own functions refuse hostile names).
pub(super) fn raw(b: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, content: &[u8]) {
    let mut h = Header::new_gnu();
    h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    h.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    h.set_entry_type(kind);
    h.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    h.set_size(content.len() as u64);
    h.set_mtime(1_000_000);
    h.set_cksum();
    b.append(&h, content).unwrap();
}

pub(super) fn file(b: &mut Builder<Vec<u8>>, name: &str, content: &str) {
    raw(b, name, EntryType::Regular, "", content.as_bytes());
}

pub(super) fn dir(b: &mut Builder<Vec<u8>>, name: &str) {
    raw(b, name, EntryType::Directory, "", b"");
}

pub(super) fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn keeps_content_modes_times_links_and_attributes() {
    let t = tempfile::tempdir().unwrap();
    let data = layer(|b| {
        dir(b, "./");
        dir(b, "bin/");
        let mut h = Header::new_gnu();
        h.set_mode(0o4755);
        h.set_size(3);
        h.set_mtime(1234);
        b.append_pax_extensions([
            ("SCHILY.xattr.user.note", &b"hi"[..]),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .unwrap();
        b.append_data(&mut h, "bin/su", &b"abc"[..]).unwrap();
        raw(b, "bin/sh", EntryType::Symlink, "/bin/su", b"");
        raw(b, "hard", EntryType::Link, "bin/su", b"");
        raw(b, "absolute-hard", EntryType::Link, "/bin/su", b"");
        raw(b, "pipe", EntryType::Fifo, "", b"");
        file(b, "made/on/the/way", "x");
    });
    let s = apply(t.path(), &data).unwrap();
    assert_eq!((s.entries, s.bytes), (8, 4));
    let su = std::fs::metadata(t.path().join("bin/su")).unwrap();
    assert_eq!((su.permissions().mode() & 0o7777, su.mtime(), su.nlink()), (0o4755, 1234, 3));
    assert_eq!(std::fs::metadata(t.path().join("bin")).unwrap().mtime(), 1_000_000);
    assert_eq!(std::fs::read_link(t.path().join("bin/sh")).unwrap(), Path::new("/bin/su"));
    assert!(std::fs::metadata(t.path().join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(text(t.path().join("made/on/the/way")), "x");
    if s.skipped_xattrs == 0 {
        let mut value = [0_u8; 8];
        let n = rustix::fs::getxattr(t.path().join("bin/su"), "user.note", &mut value[..]).unwrap();
        assert_eq!(&value[..n], b"hi");
    }
    assert!(
        rustix::fs::getxattr(t.path().join("bin/su"), "trusted.overlay.opaque", &mut [0_u8; 8][..]).is_err()
    );
}

#[test]
fn upper_layers_replace_and_white_out() {
    let t = tempfile::tempdir().unwrap();
    apply(
        t.path(),
        &layer(|b| {
            file(b, "keep", "1");
            file(b, "gone", "1");
            file(b, "d/one", "1");
            file(b, "d/two", "1");
            file(b, "o/low", "1");
            file(b, "o/sub/low", "1");
            file(b, "becomes-dir", "1");
            file(b, "becomes-file/x", "1");
            raw(b, "link", EntryType::Symlink, "d", b"");
        }),
    )
    .unwrap();
    apply(
        t.path(),
        &layer(|b| {
            file(b, ".wh.gone", "");
            file(b, ".wh.never-was", "");
            file(b, "missing/.wh.x", "");
            file(b, "d/.wh.one", "");
            // What this layer made stays, though the mark comes after it.
            file(b, "o/new", "2");
            dir(b, "o/sub");
            file(b, "o/sub/new", "2");
            file(b, "o/.wh..wh..opq", "");
            file(b, ".wh..wh.plnk", "");
            file(b, "becomes-dir/x", "");
        }),
    )
    .expect_err("a file is not a parent");
    apply(
        t.path(),
        &layer(|b| {
            dir(b, "becomes-dir");
            file(b, "becomes-dir/x", "2");
            file(b, "becomes-file", "2");
            file(b, "link/three", "2");
            file(b, "again", "1");
            file(b, "again", "2");
        }),
    )
    .unwrap();
    let at = |p: &str| t.path().join(p);
    for gone in
        ["gone", "d/one", "o/low", "o/sub/low", "missing", ".wh.gone", "o/.wh..wh..opq", ".wh..wh.plnk"]
    {
        assert!(!at(gone).exists(), "{gone}");
    }
    for (there, content) in [
        ("keep", "1"),
        ("d/two", "1"),
        ("o/new", "2"),
        ("o/sub/new", "2"),
        ("becomes-dir/x", "2"),
        ("becomes-file", "2"),
        ("d/three", "2"),
        ("again", "2"),
    ] {
        assert_eq!(text(at(there)), content, "{there}");
    }
}

#[test]
fn nothing_leaves_the_root() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    let canary = outer.path().join("canary");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(&canary, "untouched").unwrap();
    let outside = outer.path().to_str().unwrap().to_owned();
    let short = |s: &str| format!("{}/{s}", outside.trim_end_matches('/'));

    // Names that climb are refused by name.
    for name in ["../canary", "a/../../canary", "..", "a/../.."] {
        let e = apply(&root, &layer(|b| file(b, name, "bad"))).unwrap_err();
        assert!(matches!(e, Error::Unsafe { .. }), "{name}: {e}");
    }
    for link in ["../canary", "x/../../canary", ".."] {
        let e = apply(&root, &layer(|b| raw(b, "h", EntryType::Link, link, b""))).unwrap_err();
        assert!(matches!(e, Error::Unsafe { .. }), "{link}: {e}");
    }
    // An absolute hard link is looked for inside the root, where it is not.
    let e = apply(&root, &layer(|b| raw(b, "h", EntryType::Link, &short("canary"), b""))).unwrap_err();
    assert!(matches!(e, Error::Corrupt(_)), "{e}");
    // Links that lead out lead nowhere: writing through them stays inside or fails.
    for target in [outside.as_str(), "..", "../..", "/proc/self/root", "/"] {
        let data = layer(|b| {
            raw(b, "out", EntryType::Symlink, target, b"");
            file(b, "out/canary", "bad");
            file(b, "out/.wh.canary", "");
        });
        let _ = apply(&root, &data);
        assert_eq!(text(&canary), "untouched", "{target}");
    }
    // A file put over a link replaces the link, not what it points to.
    let data = layer(|b| {
        raw(b, "l", EntryType::Symlink, &short("canary"), b"");
        file(b, "l", "new");
        raw(b, "m", EntryType::Symlink, &short("canary"), b"");
        raw(b, "n", EntryType::Link, "m", b"");
        dir(b, "m");
    });
    apply(&root, &data).unwrap();
    assert_eq!(text(root.join("l")), "new");
    assert!(
        std::fs::symlink_metadata(root.join("n")).unwrap().is_symlink(),
        "a link is linked, not followed"
    );
    assert_eq!(text(&canary), "untouched");
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2);
}

#[test]
fn devices_are_refused() {
    let t = tempfile::tempdir().unwrap();
    for kind in [EntryType::Char, EntryType::Block] {
        let e = apply(t.path(), &layer(|b| raw(b, "dev/x", kind, "", b""))).unwrap_err();
        assert!(matches!(e, Error::Unsafe { .. }), "{e}");
    }
    let e = apply(t.path(), &layer(|b| file(b, "/", ""))).map(|_| ());
    assert!(e.is_ok() || matches!(e, Err(Error::Unsafe { .. })));
    let e = apply(t.path(), &layer(|b| raw(b, ".", EntryType::Symlink, "x", b""))).unwrap_err();
    assert!(matches!(e, Error::Unsafe { .. }));
}

#[test]
fn a_bomb_is_seen_by_its_header() {
    let t = tempfile::tempdir().unwrap();
    let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
    let mut h = Header::new_gnu();
    h.set_path("zeros").unwrap();
    h.set_size(10 << 30);
    h.set_mode(0o644);
    h.set_cksum();
    // Nothing follows the header: had it been read on, this would be Corrupt.
    assert!(matches!(apply_with(t.path(), h.as_bytes(), limits), Err(Error::TooLarge(_))));
    assert!(!t.path().join("zeros").exists());

    let many = layer(|b| (0..50).for_each(|i| file(b, &format!("f{i}"), "")));
    let few = Limits { entries: 49, ..Limits::default() };
    assert!(matches!(apply_with(t.path(), &many, few), Err(Error::TooLarge(_))));
    let pages = Limits { total_bytes: 60_000, ..Limits::default() };
    let small = layer(|b| (0..50).for_each(|i| file(b, &format!("f{i}"), "x")));
    assert!(matches!(apply_with(t.path(), &small, pages), Err(Error::TooLarge(_))), "pages count, not bytes");
}

#[test]
fn a_tree_nested_through_its_own_links_is_removed() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    std::fs::create_dir(&root).unwrap();
    // Each round goes deeper through the link than the round before; paths stay short.
    let data = layer(|b| {
        let mut deep = "d/".repeat(20);
        dir(b, &deep);
        for i in 0..40 {
            let link = format!("l{i}");
            raw(b, &link, EntryType::Symlink, deep.trim_end_matches('/'), b"");
            deep = format!("{link}/{}", "d/".repeat(20));
            dir(b, &deep);
        }
    });
    apply(&root, &data).unwrap_or_default();
    remove_tree(&root).unwrap();
    assert!(!root.exists());
}

/// A directory with its own mode and time.
fn described(b: &mut Builder<Vec<u8>>, name: &str, mode: u32, mtime: u64) {
    let mut h = Header::new_gnu();
    h.set_path(name).unwrap();
    h.set_entry_type(EntryType::Directory);
    h.set_mode(mode);
    h.set_size(0);
    h.set_gid(7);
    h.set_mtime(mtime);
    h.set_cksum();
    b.append(&h, &b""[..]).unwrap();
}

#[test]
fn of_a_directory_described_twice_the_last_word_counts() {
    for way in [apply, super::layer_tests::apply_layer] {
        let t = tempfile::tempdir().unwrap();
        let data = layer(|b| {
            described(b, "d", 0o700, 1);
            described(b, "d/e", 0o700, 2);
            file(b, "d/e/f", "");
            described(b, "d", 0o751, 3);
        });
        way(t.path(), &data).unwrap();
        let seen = |p: &str| {
            let m = std::fs::metadata(t.path().join(p)).unwrap();
            (m.permissions().mode() & 0o7777, m.mtime())
        };
        assert_eq!((seen("d"), seen("d/e")), ((0o751, 3), (0o700, 2)));
    }
}

#[test]
fn implied_directories_are_plain_and_counted() {
    for way in [apply, super::layer_tests::apply_layer] {
        let t = tempfile::tempdir().unwrap();
        let data = layer(|b| {
            described(b, "d", 0o2775, 1);
            file(b, "d/a/b/f", "");
        });
        way(t.path(), &data).unwrap();
        for p in ["d/a", "d/a/b"] {
            let m = std::fs::metadata(t.path().join(p)).unwrap();
            let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            assert_eq!((m.permissions().mode() & 0o7777, m.uid(), m.gid()), (0o755, own.0, own.1), "{p}");
        }
    }
    let deep = layer(|b| file(b, &"d/".repeat(40), ""));
    for (entries, fits) in [(40, true), (39, false)] {
        let t = tempfile::tempdir().unwrap();
        let done = apply_with(t.path(), &deep, Limits { entries, ..Limits::default() });
        assert_eq!(done.is_ok(), fits, "{entries}: {done:?}");
    }
}

#[test]
fn a_whiteout_leaves_what_its_own_layer_put_into_lower_directories() {
    let t = tempfile::tempdir().unwrap();
    apply(t.path(), &layer(|b| file(b, "d/sub/old", ""))).unwrap();
    let data = layer(|b| {
        file(b, "d/sub/new", "");
        file(b, "d/.wh.sub", "");
        file(b, ".wh.d", "");
    });
    apply(t.path(), &data).unwrap();
    assert!(t.path().join("d/sub/new").exists() && !t.path().join("d/sub/old").exists());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_archives_stay_inside(entries in proptest::collection::vec(
        ("(\\.\\./|/|a/|b/|\\.wh\\.|\\./){0,4}(a|b|\\.\\.|\\.wh\\.a|\\.wh\\.\\.wh\\.\\.opq)", 0_u8..5, "(\\.\\./|/|a/|b/){0,3}(a|b|\\.\\.)"), 0..12)) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(outer.path().join("a")).unwrap();
        std::fs::write(outer.path().join("b"), "untouched").unwrap();
        let data = layer(|b| for (name, kind, link) in &entries {
            let kind = [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link, EntryType::Fifo]
                [usize::from(*kind)];
            raw(b, name, kind, link, if kind == EntryType::Regular { b"bad" } else { b"" });
        });
        let _ = apply(&root, &data);
        proptest::prop_assert_eq!(text(outer.path().join("b")), "untouched");
        proptest::prop_assert_eq!(std::fs::read_dir(outer.path().join("a")).unwrap().count(), 0);
        proptest::prop_assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 3);
    }
}
