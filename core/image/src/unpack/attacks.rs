//! Attacks on unpackers that were found in the wild, by name where they have one, tried on both ways of unpacking.

use std::io::{BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;

use super::layer_tests::apply_layer;
use super::tests::{apply, dir, file, layer, raw, text};
use super::*;
use ::tar::{Builder, EntryType, Header};

type Way = fn(&Path, &[u8]) -> Result<Summary, Error>;

/// Unpacks into `root` beside a file that must stay as it is, in both ways.
fn attack(build: impl Fn(&mut Builder<Vec<u8>>, &Path), check: impl Fn(Result<Summary, Error>, &Path)) {
    for way in [apply as Way, apply_layer as Way] {
        let outer = tempfile::tempdir().unwrap();
        let (root, victim) = (outer.path().join("root"), outer.path().join("victim"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&victim).unwrap();
        std::fs::write(victim.join("file"), "untouched").unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(victim.join("file"), private).unwrap();
        let data = layer(|b| build(b, &victim));
        check(way(&root, &data), &root);
        assert_eq!(text(victim.join("file")), "untouched");
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1, "something was added");
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2, "something escaped");
    }
}

fn any(_: Result<Summary, Error>, _: &Path) {}

fn refused(result: Result<Summary, Error>, _: &Path) {
    assert!(matches!(result, Err(Error::Unsafe { .. } | Error::Corrupt(_))), "{result:?}");
}

/// CVE-2014-6407 (Docker): a parent that is a link to the outside, absolute or climbing.
#[test]
fn a_link_as_parent_leads_nowhere_outside() {
    for prefix in ["", "../", "../../../../../../../.."] {
        attack(
            |b, victim| {
                let target = format!("{prefix}{}", victim.display());
                raw(b, "out", EntryType::Symlink, target.get(..100).unwrap_or(&target), b"");
                file(b, "out/file", "bad");
                file(b, "out/added", "bad");
            },
            any,
        );
    }
    attack(
        |b, _| {
            raw(b, "out", EntryType::Symlink, "../victim", b"");
            file(b, "out/file", "bad");
            dir(b, "out/added");
        },
        any,
    );
}

/// CVE-2014-9356 (Docker): absolute links, and links by way of links. (CVE-2018-15664 needs a container that swaps a link
/// while files are written, and nothing runs in a tree that is being unpacked.)
#[test]
fn a_chain_of_links_leads_nowhere_outside() {
    attack(
        |b, _| {
            raw(b, "a", EntryType::Symlink, "..", b"");
            raw(b, "b", EntryType::Symlink, "a/..", b"");
            raw(b, "c", EntryType::Symlink, "b/../victim", b"");
            file(b, "c/file", "bad");
            file(b, "a/victim/file", "bad");
        },
        any,
    );
}

/// An entry written through a link left by an earlier entry of the same name.
#[test]
fn a_link_of_the_same_name_is_replaced_not_followed() {
    attack(
        |b, victim| {
            let to = victim.join("file");
            raw(b, "x", EntryType::Symlink, to.to_str().unwrap(), b"");
            file(b, "x", "inside");
        },
        |result, root| {
            result.unwrap();
            assert_eq!(text(root.join("x")), "inside");
        },
    );
}

/// Directory, then link, then something below the name again; and the other way round.
#[test]
fn a_directory_that_becomes_a_link_is_no_parent_outside() {
    attack(
        |b, victim| {
            dir(b, "d");
            file(b, "d/one", "1");
            raw(b, "d", EntryType::Symlink, victim.to_str().unwrap(), b"");
            file(b, "d/file", "bad");
            dir(b, "d/sub");
        },
        any,
    );
    attack(
        |b, victim| {
            raw(b, "d", EntryType::Symlink, victim.to_str().unwrap(), b"");
            dir(b, "d");
            file(b, "d/file", "inside");
        },
        |result, root| {
            result.unwrap();
            assert_eq!(text(root.join("d/file")), "inside");
        },
    );
}

/// CVE-2018-1002207 and many like it ("zip slip"): names that climb.
#[test]
fn climbing_names_and_links_are_refused() {
    for name in ["../victim/file", "a/../../victim/file", "./../victim/added", "/../victim/added"] {
        attack(|b, _| file(b, name, "bad"), refused);
        attack(|b, _| dir(b, name), refused);
        attack(|b, _| raw(b, "h", EntryType::Link, name, b""), refused);
    }
    // Whiteouts of what is not below the root.
    for name in [".wh...", "a/.wh...", ".wh.", ".wh..", "../.wh.victim", "a/../../.wh.victim"] {
        attack(|b, _| file(b, name, ""), refused);
    }
    attack(|b, _| file(b, "../victim/.wh..wh..opq", ""), refused);
}

/// CVE-2021-32760 (containerd): a hard link to a link, by which the mode, or the content, of a file outside is changed.
#[test]
fn a_hard_link_to_a_link_links_the_link() {
    attack(
        |b, victim| {
            raw(b, "s", EntryType::Symlink, victim.join("file").to_str().unwrap(), b"");
            raw(b, "h", EntryType::Link, "s", b"");
            file(b, "h", "inside");
        },
        |result, root| {
            result.unwrap();
            let victim = std::fs::metadata(root.join("../victim/file")).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&victim.permissions()) & 0o777, 0o600);
            assert_eq!(text(root.join("h")), "inside");
            assert!(std::fs::symlink_metadata(root.join("s")).unwrap().is_symlink());
        },
    );
    // Through a link that leads out.
    attack(
        |b, victim| {
            raw(b, "s", EntryType::Symlink, victim.to_str().unwrap(), b"");
            raw(b, "h", EntryType::Link, "s/file", b"");
            file(b, "h", "bad");
        },
        any,
    );
}

/// CVE-2021-29136 (umoci): the root itself as a link, so that everything after it is written elsewhere.
#[test]
fn the_root_is_a_directory() {
    for name in [".", "./", "/", "a/.."] {
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo] {
            attack(
                |b, victim| {
                    raw(b, name, kind, victim.to_str().unwrap(), b"");
                    file(b, "file", "bad");
                },
                refused,
            );
        }
    }
}

/// CVE-2025-62518 (tokio-tar): the extended header gives the true size and the plain one says 0, so that a reader that
/// heeds the wrong one takes the content for more entries.
#[test]
fn content_is_never_taken_for_entries() {
    let inner = layer(|b| file(b, "smuggled", "bad"));
    let size = inner.len().to_string();
    attack(
        |b, _| {
            pax(b, "size", size.as_bytes());
            raw(b, "outer", EntryType::Regular, "", b"");
            b.get_mut().extend_from_slice(&inner);
        },
        |result, root| {
            assert_eq!(result.unwrap().entries, 1);
            assert!(!root.join("smuggled").exists());
            assert_eq!(std::fs::metadata(root.join("outer")).unwrap().len(), inner.len() as u64);
        },
    );
}

#[test]
fn a_whiteout_through_a_link_deletes_nothing_outside() {
    attack(
        |b, victim| {
            raw(b, "s", EntryType::Symlink, victim.to_str().unwrap(), b"");
            file(b, "s/.wh.file", "");
            file(b, "s/.wh..wh..opq", "");
        },
        any,
    );
}

#[test]
fn devices_are_refused_also_the_one_that_means_deleted() {
    for kind in [EntryType::Char, EntryType::Block] {
        attack(|b, _| raw(b, "null", kind, "", b""), refused);
    }
}

/// A layer that brings overlayfs' own marks could hide what other layers hold, or escape `userxattr` mounts.
#[test]
fn marks_in_a_layer_are_dropped() {
    attack(
        |b, _| {
            b.append_pax_extensions([
                ("SCHILY.xattr.trusted.overlay.opaque", &b"y"[..]),
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.trusted.overlay.metacopy", b""),
                ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.security.selinux", b"x"),
            ])
            .unwrap();
            dir(b, "d");
        },
        |result, root| {
            result.unwrap();
            let mut names = [0_u8; 1024];
            let n = rustix::fs::listxattr(root.join("d"), &mut names[..]).unwrap_or(0);
            let names = String::from_utf8_lossy(&names[..n]).into_owned();
            assert!(!names.contains("overlay"), "{names}");
        },
    );
}

fn pax(b: &mut Builder<Vec<u8>>, key: &str, value: &[u8]) {
    b.append_pax_extensions([(key, value)]).unwrap();
}

#[test]
fn extended_headers_do_not_get_around_the_rules() {
    // The plain header is harmless; the extended one is what counts, and is checked.
    attack(
        |b, _| {
            pax(b, "path", b"../victim/file");
            file(b, "harmless", "bad");
        },
        refused,
    );
    attack(
        |b, _| {
            pax(b, "linkpath", b"../victim/file");
            raw(b, "h", EntryType::Link, "harmless", b"");
        },
        refused,
    );
    // A size that differs from the header's moves everything after it, or the archive ends too early.
    attack(
        |b, _| {
            pax(b, "size", b"99999999");
            file(b, "f", "short");
        },
        refused,
    );
    for size in [&b"-1"[..], b"18446744073709551616", b"0x10", b"1e3"] {
        attack(
            |b, _| {
                pax(b, "size", size);
                file(b, "f", "x");
            },
            refused,
        );
    }
    for sparse in ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.realsize"] {
        attack(
            |b, _| {
                pax(b, sparse, b"1");
                file(b, "f", "x");
            },
            refused,
        );
    }
}

/// A header with a field written as it is.
fn with_field(at: usize, field: &[u8], kind: EntryType) -> Vec<u8> {
    let mut h = Header::new_gnu();
    h.set_path("f").unwrap();
    h.set_entry_type(kind);
    h.set_mode(0o644);
    h.set_size(0);
    h.as_mut_bytes()[at..at + field.len()].copy_from_slice(field);
    h.set_cksum();
    [h.as_bytes().to_vec(), vec![0; 1024]].concat()
}

#[test]
fn numbers_out_of_range_are_refused() {
    let (size, uid) = (124, 108);
    for way in [apply as Way, apply_layer as Way] {
        let t = tempfile::tempdir().unwrap();
        for (at, field) in [
            (size, &[0xff_u8; 12][..]),
            (size, &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (size, b"-0000000001\0"),
            (size, b"99999999999\0"),
            (uid, &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] {
            let e = way(t.path(), &with_field(at, field, EntryType::Regular)).unwrap_err();
            assert!(matches!(e, Error::Corrupt(_)), "{field:?}: {e}");
        }
        // The largest that can be written: refused for what it claims, before anything is written.
        let e = way(t.path(), &with_field(size, b"77777777777\0", EntryType::Regular)).unwrap_err();
        assert!(matches!(e, Error::Corrupt(_) | Error::TooLarge(_)), "{e}");
        let huge = [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let e = way(t.path(), &with_field(size, &huge, EntryType::Regular)).unwrap_err();
        assert!(matches!(e, Error::TooLarge(_)), "{e}");
        // A sparse file whose map is not what is stored.
        let e = way(t.path(), &with_field(size, b"00000000001\0", EntryType::GNUSparse)).unwrap_err();
        assert!(matches!(e, Error::Corrupt(_)), "{e}");
    }
}

#[test]
fn names_of_bytes_and_names_too_long() {
    attack(
        |b, _| {
            let mut h = Header::new_gnu();
            h.as_old_mut().name[..4].copy_from_slice(b"\xff\xfe\n\x01");
            h.set_mode(0o644);
            h.set_size(0);
            h.set_cksum();
            b.append(&h, &b""[..]).unwrap();
        },
        |result, root| {
            result.unwrap();
            use std::os::unix::ffi::OsStrExt;
            assert!(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe\n\x01")).exists());
        },
    );
    let long = |length: usize| {
        move |b: &mut Builder<Vec<u8>>, _: &Path| {
            let mut h = Header::new_gnu();
            h.set_entry_type(EntryType::GNULongName);
            h.set_size(length as u64);
            h.set_cksum();
            b.append(&h, std::io::repeat(b'a').take(length as u64)).unwrap();
            file(b, "short", "x");
        }
    };
    for length in [256, 5000, 70_000, 8 << 20] {
        attack(long(length), refused);
    }
}

#[test]
fn a_hundred_thousand_tiny_files_are_unpacked_or_counted() {
    let t = tempfile::tempdir().unwrap();
    let data = layer(|b| (0..100_000).for_each(|i| file(b, &format!("d{}/f{i}", i % 100), "")));
    let root = std::fs::File::open(t.path()).unwrap();
    let few = Limits { entries: 99_999, ..Limits::default() };
    let result = unpack_layer(
        BufReader::new(&data[..]),
        root.as_fd(),
        &super::tests::options(),
        &mut Budget::new(few),
    );
    assert!(matches!(result, Err(Error::TooLarge(_))), "{result:?}");
    assert_eq!(apply_layer(t.path(), &data).unwrap().entries, 100_000);
}
