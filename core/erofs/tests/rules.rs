//! Whiteouts, refusals, bounds and determinism.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod common;

use std::io::{BufRead, BufReader, Read};

use cocoon_erofs::{Error, verity};
use cocoon_image::Error as Refusal;
use cocoon_image::Limits;
use common::{Entry, Layer, build, build_with};
use tar::{EntryType, Header};

const OPAQUE: &[u8] = b"trusted.overlay.opaque";

fn refusal(tar: &[u8]) -> Refusal {
    match build(tar) {
        Err(Error::Layer(e)) => e,
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("was built"),
    }
}

fn one(change: impl FnOnce(&mut Layer)) -> Vec<u8> {
    let mut l = Layer::new();
    change(&mut l);
    l.done()
}

#[test]
fn a_layer_of_nothing_and_of_whiteouts_alone() {
    for tar in [Vec::new(), vec![0; 1024], Layer::new().done()] {
        let image = build(&tar).unwrap();
        assert_eq!((image.built.image_blocks, image.built.entries), (2, 0));
        image.fsck();
        if let Some(seen) = image.seen() {
            assert_eq!(seen.len(), 1);
            let root = &seen[&b""[..]];
            assert_eq!((root.mode, root.owner, root.mtime), (0o040_755, (0, 0), (0, 0)));
        }
    }
    let image = build(&one(|l| {
        l.file("etc/.wh.passwd", b"")
            .file(".wh.gone", b"")
            .file("d/.wh..wh..opq", b"")
            .file(".wh..wh.plnk", b"");
    }))
    .unwrap();
    image.fsck();
    let Some(seen) = image.seen() else { return };
    let names: Vec<_> = seen.keys().map(|k| String::from_utf8_lossy(k).into_owned()).collect();
    assert_eq!(names, ["", "d", "etc", "etc/passwd", "gone"]);
    for whiteout in [&b"gone"[..], b"etc/passwd"] {
        let w = &seen[whiteout];
        assert_eq!((w.mode, w.device, w.owner, w.mtime), (0o020_000, 0, (0, 0), (0, 0)));
    }
    assert_eq!(seen[&b"d"[..]].xattrs[OPAQUE], b"y");
    assert_eq!((seen[&b"d"[..]].mode, seen[&b"d"[..]].mtime), (0o040_755, (0, 0)));
}

#[test]
fn an_entry_wins_over_a_whiteout_of_its_name() {
    let image = build(&one(|l| {
        l.file(".wh.file", b"").file("file", b"1").file("file2", b"2").file(".wh.file2", b"");
        l.file(".wh.dir", b"").dir("dir").dir("dir2").file(".wh.dir2", b"");
        l.file(".wh.implied", b"").file("implied/x", b"3");
        l.file("was-file", b"").dir("was-file").dir("plain").dir("plain");
        l.symlink("to", "plain").file("to/.wh.inside", b"").file("file/.wh.under-a-file", b"");
        l.file("to/.wh..wh..opq", b"");
    }))
    .unwrap();
    image.fsck();
    let Some(seen) = image.seen() else { return };
    for (name, content) in [("file", b"1"), ("file2", b"2"), ("implied/x", b"3")] {
        assert_eq!(seen[name.as_bytes()].content, content, "{name}");
    }
    for name in ["dir", "dir2", "implied", "was-file", "plain"] {
        assert_eq!(seen[name.as_bytes()].xattrs.get(OPAQUE).map(|v| &v[..]), Some(&b"y"[..]), "{name}");
    }
    assert_eq!(seen[&b"plain/inside"[..]].mode, 0o020_000);
    assert_eq!(seen.len(), 11);
}

#[test]
fn what_unpacking_refuses_is_refused() {
    for bad in ["../x", "a/../../x", "..", ".wh.", "a/.wh...", &"n".repeat(256)] {
        let e = refusal(&one(|l| {
            l.file(bad, b"");
        }));
        assert!(matches!(e, Refusal::Unsafe { .. }), "{bad}: {e}");
    }
    for kind in [EntryType::Char, EntryType::Block] {
        let e = refusal(&one(|l| {
            l.add(&Entry { name: b"dev/x", kind, ..Entry::default() });
        }));
        assert!(e.to_string().contains("device"), "{e}");
    }
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Layer));
    let cases: [Case<'_>; 9] = [
        ("is not in the layer", &|l| {
            l.hard_link("h", "lower");
        }),
        ("is not in the layer", &|l| {
            l.file(".wh.lower", b"").hard_link("h", "lower");
        }),
        ("is not in the layer", &|l| {
            l.file("d/x", b"").hard_link("d", "d/x");
        }),
        ("hard link to the root", &|l| {
            l.hard_link("h", "./");
        }),
        ("hard link to a directory", &|l| {
            l.dir("d").hard_link("h", "d");
        }),
        ("leads out of the root", &|l| {
            l.hard_link("h", "../x");
        }),
        ("parent is not a directory", &|l| {
            l.file("f", b"").file("f/x", b"");
        }),
        ("parent is not a directory", &|l| {
            l.symlink("s", "nowhere").file("s/x", b"");
        }),
        ("loop of symbolic links", &|l| {
            l.symlink("a", "b").symlink("b", "a").file("a/x", b"");
        }),
    ];
    for (words, layer) in cases {
        let e = refusal(&one(|l| layer(l)));
        assert!(e.to_string().contains(words), "{words}: {e}");
    }
}

#[test]
fn links_lead_inside_the_layer_only() {
    let image = build(&one(|l| {
        l.dir("etc").symlink("up", "../../../..").symlink("abs", "/etc").symlink("chain", "up/abs");
        l.file("up/etc/one", b"1").file("abs/two", b"2").file("chain/three", b"3");
    }))
    .unwrap();
    let Some(seen) = image.seen() else { return };
    for (name, content) in [("etc/one", b"1"), ("etc/two", b"2"), ("etc/three", b"3")] {
        assert_eq!(seen[name.as_bytes()].content, content, "{name}");
    }
}

#[test]
fn bombs_are_seen_by_their_headers() {
    let mut h = Header::new_gnu();
    h.set_path("zeros").unwrap();
    h.set_size(5 << 30);
    h.set_mode(0o644);
    h.set_cksum();
    // Cut off behind the header: with room for it, the cut is the fault; without, the claim.
    let e = refusal(h.as_bytes());
    assert!(matches!(e, Refusal::Corrupt(_)), "{e}");
    let few = |total_bytes, entries| Limits { total_bytes, entries, ..Limits::default() };
    let with = |tar: &[u8], limits| match build_with(tar, &limits) {
        Err(Error::Layer(Refusal::TooLarge(why))) => why,
        other => panic!("{:?}", other.map(|i| i.built)),
    };
    with(h.as_bytes(), few(1 << 30, 10));
    let many = one(|l| {
        (0..50).for_each(|i| {
            l.file(&format!("f{i}"), b"");
        })
    });
    with(&many, few(1 << 30, 49));
    with(&many, few(60_000, 100));
    // One name implies 2000 directories.
    let deep = one(|l| {
        l.file(&"d/".repeat(2000), b"");
    });
    assert!(with(&deep, few(1 << 30, 1000)).contains("entries"));
    // Each name leads through 40 links, each of which takes many steps.
    let long = format!("{}s0", "d/../".repeat(700));
    let slow = one(|l| {
        l.dir("d").dir("s0");
        for i in 1..40 {
            l.symlink(&format!("s{i}"), &long.replace("s0", &format!("s{}", i - 1)));
        }
        (0..1000).for_each(|i| {
            l.file(&format!("s39/f{i}"), b"");
        });
    });
    assert!(with(&slow, few(1 << 30, 2000)).contains("roundabout"));
}

#[test]
fn every_truncation_is_refused_or_a_shorter_layer() {
    let tar = one(|l| {
        l.file("a", &[7; 5000]).symlink("b", "a").hard_link("c", "a");
    });
    for cut in (0..tar.len() - 1024).step_by(37) {
        match build(&tar[..cut]) {
            Ok(image) => assert!(image.built.entries < 3 && cut % 512 == 0, "{cut}"),
            Err(Error::Layer(Refusal::Corrupt(_))) => {}
            Err(e) => panic!("{cut}: {e}"),
        }
    }
}

/// Fails at its end with what a verifying stage would say.
struct Damaged<'a>(&'a [u8]);

impl Read for Damaged<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(Refusal::Undecryptable("the HMAC is wrong".into()).into_io()),
            n => Ok(n),
        }
    }
}

#[test]
fn damage_is_told_by_the_stage_that_knows() {
    let tar = one(|l| {
        l.file("a", &[7; 50_000]);
    });
    for damaged in [tar.clone(), [&tar[..1536], &[1; 4096][..]].concat()] {
        let out = tempfile::tempfile().unwrap();
        let e = cocoon_erofs::build(BufReader::new(Damaged(&damaged)), &out, &Limits::default()).unwrap_err();
        assert!(matches!(e, Error::Layer(Refusal::Undecryptable(_))), "{e}");
    }
    let out = tempfile::tempfile().unwrap();
    out.set_len(1).unwrap();
    assert!(matches!(cocoon_erofs::build(&tar[..], &out, &Limits::default()), Err(Error::Device(_))));
}

/// Gives what it has in pieces of changing length.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.fill_buf()?;
        let n = piece.len().min(buf.len());
        buf[..n].copy_from_slice(&piece[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        Ok(&self.0[..self.0.len().min(1 + self.1 % 5000)])
    }

    fn consume(&mut self, n: usize) {
        self.0 = &self.0[n..];
        self.1 = self.1.wrapping_mul(31).wrapping_add(7);
    }
}

#[test]
fn the_same_layer_is_the_same_device() {
    let tar = one(|l| {
        for i in 0..3000_usize {
            let name = format!("d{}/e{}/f{i}", i % 13, i % 7);
            match i % 9 {
                0 => l.symlink(&name, "target"),
                1 => l.dir(&name),
                2 => l.hard_link(&name, &format!("d{}/e{}/f{}", (i - 1) % 13, (i - 1) % 7, i - 1)),
                3 => l.file(&format!("d{}/.wh.f{i}", i % 13), b""),
                _ => l.file(&name, &vec![i as u8; i * 7 % 9000]),
            };
            if i % 9 == 1 {
                l.file(&name, b"instead");
            }
        }
    });
    let device = |reader: &mut dyn BufRead| {
        let out = tempfile::tempfile().unwrap();
        let built = cocoon_erofs::build(reader, &out, &Limits::default()).unwrap();
        (verity::append(&out, built.image_blocks).unwrap(), built)
    };
    let first = device(&mut &tar[..]);
    assert_eq!(first, device(&mut &tar[..]));
    assert_eq!(first, device(&mut BufReader::with_capacity(513, &tar[..])));
    assert_eq!(first, device(&mut Pieces(&tar, 0)));
    // A golden root: another one is another format, which plans with pinned roots would not accept.
    let small = one(|l| {
        l.dir("d").file("d/f", &[3; 5000]).symlink("l", "d/f").file(".wh.w", b"");
    });
    let (tree, built) = device(&mut &small[..]);
    let golden = "fca74a6edc8f584048d69e5408699d49d3cbefb116eda2b34bd341e203f5d40a";
    assert_eq!((built.image_blocks, tree.root_hex().as_str()), (4, golden));
}

/// A layer with several kinds of entries, to be damaged.
fn mixed() -> Vec<u8> {
    one(|l| {
        l.dir("d").file("d/f", &[3; 700]).symlink("l", "d").file("l/g", b"").hard_link("h", "d/f");
        l.file(".wh.w", b"").file("d/.wh..wh..opq", b"");
    })
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn damaged_layers_are_refused_or_give_whole_devices(
        damage in proptest::collection::vec((0_usize..20_000, proptest::prelude::any::<u8>()), 1..4),
        fix_sums in proptest::prelude::any::<bool>(),
    ) {
        let mut tar = mixed();
        for (at, byte) in damage {
            let at = at % tar.len();
            tar[at] = byte;
        }
        if fix_sums {
            // What looks like a header gets its sum right, so that damage comes further than the sum.
            for block in tar.chunks_mut(512).filter(|b| b[257..262] == *b"ustar") {
                block[148..156].copy_from_slice(b"        ");
                let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Ok(image) = build(&tar) {
            let tree = verity::append(&image.file, image.built.image_blocks).unwrap();
            verity::check(&image.file, image.built.image_blocks, &tree.root).unwrap();
        }
    }
}
