//! What is built, seen by the kernel, by erofs-utils, and beside the same layer unpacked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod common;

use common::{Entry, Layer, build, compare, run, text, tree, unpack};
use std::collections::BTreeMap;
use tar::EntryType;

/// A layer with one of everything.
fn everything() -> Vec<u8> {
    let mut capability = [0_u8; 20];
    capability[..8].copy_from_slice(&[1, 0, 0, 2, 0, 4, 0, 0]);
    let mut l = Layer::new();
    l.add(&Entry {
        name: b"./",
        kind: EntryType::Directory,
        mode: 0o1777,
        owner: (1, 2),
        mtime: "5.5",
        ..Entry::default()
    });
    l.dir("bin").dir("a").dir("a/b").dir("a/b/c").dir("empty");
    l.add(&Entry {
        name: b"bin/su",
        content: b"abc",
        mode: 0o4755,
        owner: (70_000, 3_000_000_000),
        mtime: "1700000000.123456789",
        xattrs: &[
            ("user.note", b"hi"),
            ("user.empty", b""),
            ("security.capability", &capability),
            ("trusted.overlay.opaque", b"y"),
            ("security.selinux", b"x"),
        ],
        ..Entry::default()
    });
    for (i, len) in
        [0, 1, 2, 4000, 4031, 4032, 4033, 4064, 4065, 4095, 4096, 4097, 8191, 8192, 12_288, 300_000]
            .into_iter()
            .enumerate()
    {
        let content: Vec<u8> = (0..len).map(|n: usize| (n % 251 + i) as u8).collect();
        let mtime = if i % 2 == 0 { "0" } else { "77" };
        l.add(&Entry {
            name: format!("a/size-{len}").as_bytes(),
            content: &content,
            mtime,
            ..Entry::default()
        });
    }
    l.symlink("bin/sh", "/bin/su")
        .symlink("dangling", "../../nowhere")
        .symlink("long-link", &"x".repeat(4095));
    l.symlink("almost-a-block", &"y/".repeat(2016)).symlink("up", "a/b/..");
    l.hard_link("hard", "bin/su").hard_link("a/hard", "/bin/su").hard_link("link-of-link", "bin/sh");
    l.add(&Entry { name: b"pipe", kind: EntryType::Fifo, mode: 0o600, ..Entry::default() });
    l.file("made/on/the/way", b"x").file("up/through-a-link", b"y").file("bin/sh2", b"");
    l.add(&Entry { name: "ünïcödé/日本語".as_bytes(), content: b"u", ..Entry::default() });
    l.add(&Entry { name: b"\xff\x01\n\xfe", content: b"binary", ..Entry::default() });
    l.file(&"n".repeat(255), b"long")
        .file("!before-dots", b"")
        .file("-", b"")
        .file("...", b"")
        .file("..-", b"");
    l.add(&Entry { name: &[&b"d/".repeat(60)[..], b"f"].concat(), content: b"deep", ..Entry::default() });
    // Later entries win.
    l.file("again", b"1").file("again", b"2").file("was-dir/x", b"").file("was-dir", b"now a file");
    l.file("was-file", b"").dir("was-file").file("was-file/x", b"");
    l.hard_link("hard", "hard").hard_link("bin/sh2", "hard");
    l.done()
}

#[test]
fn the_kernel_shows_what_unpacking_gives() {
    let tar = everything();
    let image = build(&tar).unwrap();
    let Some(seen) = image.seen() else { return };
    let unpacked = unpack(&tar).unwrap();
    compare(&seen, &tree(&unpacked.root()), |path| {
        let implied: [&[u8]; 3] = [b"made", b"\xc3\xbcn", b"d"];
        !implied.iter().any(|i| path.starts_with(i)) || path == b"dangling"
    });
    assert_eq!(seen[&b"bin/su"[..]].links, 4);
    assert_eq!(seen[&b"bin/su"[..]].xattrs.len(), 3);
    // The empty path, `a` with `b`, `b` with `c`, and an empty one.
    let directories =
        seen.iter().filter(|(p, i)| i.mode & 0o170_000 == 0o040_000 && !p.contains(&b'/')).count();
    let links = |path: &[u8]| seen[path].links;
    assert_eq!((links(b""), links(b"a"), links(b"empty")), (2 + directories as u64 - 1, 3, 2));
}

#[test]
fn erofs_utils_find_no_fault() {
    let image = build(&everything()).unwrap();
    if !image.fsck() {
        return;
    }
    let out = run("dump.erofs", &["-s", image.path.to_str().unwrap()]).unwrap();
    let shown = text(&out);
    assert!(out.status.success() && shown.contains("sb_csum"), "{shown}");
    assert!(shown.contains("0xE0F5E1E2"), "{shown}");
}

#[test]
fn erofs_utils_extract_what_unpacking_gives() {
    let tar = everything();
    let image = build(&tar).unwrap();
    let to = image.folder.path().join("extracted");
    let extract = format!("--extract={}", to.to_str().unwrap());
    let owners: &[&str] = if common::is_root() { &["--preserve"] } else { &[] };
    let arguments = [&[extract.as_str()], owners, &[image.path.to_str().unwrap()]].concat();
    let Some(out) = run("fsck.erofs", &arguments) else { return };
    assert!(out.status.success(), "{}", text(&out));
    let unpacked = unpack(&tar).unwrap();
    // It extracts no attributes, links as copies, whole seconds only for some types, and loses setuid bits.
    let plain = |root: &std::path::Path| -> BTreeMap<_, _> {
        tree(root)
            .into_iter()
            .map(|(path, i)| (path, (i.mode & !0o7000, i.owner, i.content)))
            .filter(|(_, (mode, ..))| mode & 0o170_000 != 0o040_000)
            .collect()
    };
    let (theirs, ours) = (plain(&to), plain(&unpacked.root()));
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (path, item) in &theirs {
        assert!(*item == ours[path], "{} {item:?} {:?}", String::from_utf8_lossy(path), ours[path]);
    }
}

/// Content at the end of a name of 4096 bytes, and of 3000 directories in each other.
#[test]
fn the_longest_names_lead_somewhere() {
    use rustix::fs::{Mode, OFlags};
    let mut l = Layer::new();
    let deep = [&b"d/".repeat(2046)[..], b"fgh"].concat();
    assert_eq!(deep.len(), 4095);
    l.add(&Entry { name: &deep, content: b"deep", ..Entry::default() });
    l.add(&Entry { name: &[b"/", &deep[..]].concat(), content: b"deeper", ..Entry::default() });
    let image = build(&l.done()).unwrap();
    let Some(mounted) = image.mount() else { return };
    let root = std::fs::File::open(&mounted.0).unwrap();
    let file = rustix::fs::openat(&root, &deep[..], OFlags::RDONLY, Mode::empty()).unwrap();
    assert_eq!(std::io::read_to_string(std::fs::File::from(file)).unwrap(), "deeper");
    let mut l = Layer::new();
    l.add(&Entry { name: &[&deep[..], b"ij"].concat(), ..Entry::default() });
    let e = build(&l.done()).map(|_| ()).unwrap_err();
    assert!(e.to_string().contains("too long"), "{e}");
}

/// Attributes that take more room than a block leaves, on files and directories; ext4 would not hold them.
#[test]
fn attributes_of_all_sizes() {
    let mut l = Layer::new();
    let sizes = [1, 2900, 3900, 3996, 4000, 4020, 4030, 4096, 5000, 20_000, 60_000];
    for len in sizes {
        let value = vec![b'v'; len];
        let e = |name: &str, kind, content: &[u8]| {
            let xattrs: &[(&str, &[u8])] = &[("user.a", b"1"), ("user.v", &value), ("user.z", b"9")];
            l.add(&Entry { name: name.as_bytes(), kind, content, mode: 0o755, xattrs, ..Entry::default() });
        };
        let mut e = e;
        e(&format!("file-{len}"), EntryType::Regular, b"tail");
        e(&format!("whole-{len}"), EntryType::Regular, &[7; 5000]);
        e(&format!("dir-{len}"), EntryType::Directory, b"");
    }
    let value = [b'r'; 2700];
    let (name, kind) = (b"/", EntryType::Directory);
    l.add(&Entry { name, kind, xattrs: &[("user.root", &value)], mode: 0o700, ..Entry::default() });
    let image = build(&l.done()).unwrap();
    image.fsck();
    let Some(seen) = image.seen() else { return };
    assert_eq!(seen[&b""[..]].xattrs[&b"user.root"[..]], value);
    for len in sizes {
        for (name, content) in [("file", &b"tail"[..]), ("whole", &[7; 5000]), ("dir", b"")] {
            let item = &seen[format!("{name}-{len}").as_bytes()];
            assert_eq!(item.xattrs[&b"user.v"[..]], vec![b'v'; len], "{name}-{len}");
            assert_eq!((&item.xattrs[&b"user.z"[..]][..], &item.content[..]), (&b"9"[..], content));
        }
    }
}
