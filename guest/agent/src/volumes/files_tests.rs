//! A host that sends files as it should, and one that does not.

use std::os::unix::fs::MetadataExt;

use super::*;

struct Machine {
    dir: tempfile::TempDir,
    files: Files,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path().to_owned());
        files.add("v", None);
        Machine { dir, files }
    }

    fn put(&self, generation: u64, pieces: &[Piece<'_>], commit: bool) -> Result<(), Refusal> {
        self.files.put("v", generation, pieces, commit)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.files.root("v").join(path)).ok()
    }

    /// What lies right in the volume's folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.files.root("v")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn nothing_half_sent(&self) {
        assert!(!self.dir.path().join("incoming/v").exists(), "what was refused is gone");
    }
}

fn piece<'a>(path: &'a str, offset: u64, data: &'a [u8]) -> Piece<'a> {
    let me = rustix::process::getuid().as_raw();
    Piece { path, mode: 0o644, uid: me, gid: rustix::process::getgid().as_raw(), offset, data }
}

fn host(refused: Result<(), Refusal>) -> String {
    match refused {
        Err(Refusal::Host(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn generations_change_places_as_kubernetes_does_it() {
    let m = Machine::new();
    m.put(1, &[piece("a", 0, b"one"), piece("d/deep", 0, b"x")], false).unwrap();
    assert!(m.names().is_empty(), "nothing shows before it is complete");
    m.put(1, &[piece("z", 0, b"")], true).unwrap();
    assert_eq!(m.names(), ["..1", "..data", "a", "d", "z"]);
    assert_eq!(fs::read_link(m.files.root("v").join("..data")).unwrap(), Path::new("..1"));
    assert_eq!(fs::read_link(m.files.root("v").join("a")).unwrap(), Path::new("..data/a"));
    assert_eq!(m.read("d/deep").as_deref(), Some("x"));
    m.put(7, &[piece("a", 0, b"two"), piece("new", 0, b"n")], true).unwrap();
    assert_eq!(m.names(), ["..7", "..data", "a", "new"]);
    assert_eq!(m.read("a").as_deref(), Some("two"));
    m.put(8, &[], true).unwrap();
    assert_eq!(m.names(), ["..8", "..data"], "an empty volume is one too");
    m.nothing_half_sent();
}

#[test]
fn generations_only_grow_and_a_newer_one_ends_a_half_sent_one() {
    let m = Machine::new();
    assert!(host(m.put(0, &[], true)).contains("generation 0"));
    m.put(5, &[piece("a", 0, b"5")], true).unwrap();
    for replayed in [5, 4, 0] {
        assert!(host(m.put(replayed, &[piece("a", 0, b"old")], true)).contains("after 5"));
    }
    m.put(6, &[piece("half", 0, b"6")], false).unwrap();
    m.put(8, &[piece("a", 0, b"8")], false).unwrap();
    assert!(host(m.put(6, &[], true)).contains("after 8"), "the half-sent one is no more");
    m.put(8, &[piece("b", 0, b"8")], true).unwrap();
    assert_eq!(m.names(), ["..8", "..data", "a", "b"], "none of generation 6, and 8 outlived the replay");
    // What was refused cannot be mended under its own number.
    host(m.put(9, &[piece("a", 5, b"gap")], false));
    assert!(host(m.put(9, &[piece("a", 0, b"x")], true)).contains("after 9"));
    assert_eq!(m.read("a").as_deref(), Some("8"));
    m.nothing_half_sent();
}

#[test]
fn pieces_come_in_order() {
    let m = Machine::new();
    m.put(1, &[piece("a", 0, b"ab")], false).unwrap();
    m.put(1, &[piece("a", 2, b"cd"), piece("a", 4, b"ef"), piece("b", 0, b"")], true).unwrap();
    assert_eq!(m.read("a").as_deref(), Some("abcdef"));
    let wrong: [&[Piece<'_>]; 6] = [
        &[piece("a", 1, b"x")],
        &[piece("a", 0, b"xy"), piece("a", 1, b"z")],
        &[piece("a", 0, b"xy"), piece("a", 3, b"z")],
        &[piece("a", 0, b"x"), piece("b", 0, b"x"), piece("a", 1, b"x")],
        &[piece("a", 0, b"x"), piece("a", 0, b"x")],
        &[piece("a", u64::MAX, b"x")],
    ];
    for (generation, pieces) in (2..).zip(wrong) {
        host(m.put(generation, pieces, true));
        m.nothing_half_sent();
        assert_eq!(m.names(), ["..1", "..data", "a", "b"]);
    }
}

#[test]
fn no_path_leads_anywhere_else() {
    let m = Machine::new();
    fs::write(m.dir.path().join("secret"), "s").unwrap();
    let deep = vec!["d"; 17].join("/");
    let long = "n".repeat(256);
    let bad = [
        "",
        "/",
        "/etc/passwd",
        "../secret",
        "a/../../secret",
        "a/./b",
        "a//b",
        "a/",
        "..data",
        "..data/a",
        "..1/a",
        "..data_tmp",
        "a\0b",
        "a\nb",
        &deep,
        &long,
    ];
    for (generation, path) in (1..).zip(bad) {
        host(m.put(generation, &[piece(path, 0, b"x")], true));
        m.nothing_half_sent();
    }
    assert_eq!(fs::read_to_string(m.dir.path().join("secret")).unwrap(), "s");
    host(m.put(50, &[piece("a", 0, b"x"), piece("a/b", 0, b"x")], true));
    host(m.put(51, &[piece("a/b", 0, b"x"), piece("a", 0, b"x")], true));
    assert!(m.names().is_empty());
}

/// Whatever got into a generation's folder by another way: links are not followed, nothing that is there is written over.
#[test]
fn links_in_the_way_are_not_followed() {
    let m = Machine::new();
    let outside = m.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "kept").unwrap();
    for (generation, path) in [(1, "link/new"), (3, "link/f"), (5, "file")] {
        m.put(generation, &[], false).unwrap();
        let incoming = m.dir.path().join("incoming/v");
        symlink(&outside, incoming.join("link")).unwrap();
        symlink(outside.join("f"), incoming.join("file")).unwrap();
        assert!(m.put(generation, &[piece(path, 0, b"evil")], true).is_err(), "{path}");
        m.nothing_half_sent();
    }
    assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "kept");
    assert!(!outside.join("new").exists());
}

#[test]
fn bits_and_owners_are_plain() {
    let m = Machine::new();
    let mut suid = piece("a", 0, b"x");
    suid.mode = 0o107_755;
    m.put(1, &[suid], true).unwrap();
    assert_eq!(fs::metadata(m.files.root("v").join("a")).unwrap().mode(), 0o100_755);
    let mut nobody = piece("a", 0, b"x");
    nobody.uid = u32::MAX;
    host(m.put(2, &[nobody], true));
}

#[test]
fn amounts_are_bounded() {
    let m = Machine::new();
    let mib = vec![7; 1 << 20];
    // A file.
    let pieces: Vec<_> = (0..5).map(|i| piece("a", i << 20, mib.as_slice())).collect();
    assert!(host(m.put(1, &pieces, true)).contains("4194304"));
    // A volume's files, empty ones too.
    let names: Vec<String> = (0..4097).map(|i| format!("f{i}")).collect();
    let many: Vec<_> = names.iter().map(|n| piece(n, 0, b"")).collect();
    assert!(host(m.put(2, &many, true)).contains("4096"));
    m.put(3, &many[..4096], true).unwrap();
    // The pod's bytes, over all its volumes: 16 MiB are there, 48 are left.
    m.files.add("w", None);
    let big: Vec<_> = names.iter().take(49).map(|n| piece(n, 0, mib.as_slice())).collect();
    assert!(host(m.files.put("w", 1, &big, true)).contains("a pod"));
    m.files.put("w", 2, &big[..48], true).unwrap();
    assert!(host(m.put(4, &[many.as_slice(), &[piece("more", 0, b"")]].concat(), true)).contains("4096"));
    // The same amount again: an exchange needs no more room than what it leaves.
    m.files.put("w", 3, &big[..48], true).unwrap();
    // Folders count.
    m.put(5, &[], true).unwrap();
    let paths: Vec<String> = (0..1025).map(|i| format!("{i}/{}/f", ["d"; 14].join("/"))).collect();
    let deep: Vec<_> = paths.iter().map(|p| piece(p, 0, b"")).collect();
    assert!(host(m.put(6, &deep, true)).contains("a pod"));
    m.nothing_half_sent();
    assert!(host(m.files.put("unknown", 1, &[], true)).contains("no volume"));
}

fn digest(bytes: &[u8]) -> String {
    cocoon_image::Digest::sha256(bytes).to_string()
}

#[test]
fn with_digests_only_those_files_are_taken() {
    let m = Machine::new();
    let wanted = BTreeMap::from([("a".to_owned(), digest(b"one")), ("d/b".to_owned(), digest(b""))]);
    let all = wanted.clone();
    m.files.add("w", Some(wanted));
    let wrong: [&[Piece<'_>]; 6] = [
        &[],
        &[piece("a", 0, b"")],
        &[piece("a", 0, b"One"), piece("d/b", 0, b"")],
        &[piece("a", 0, b"one"), piece("d/b", 0, b"x")],
        &[piece("a", 0, b"one"), piece("d/b", 0, b""), piece("c", 0, b"")],
        &[piece("b", 0, b"one"), piece("d/b", 0, b"")],
    ];
    for (generation, pieces) in (1..).zip(wrong) {
        let refused = m.files.put("w", generation, pieces, true);
        assert!(matches!(refused, Err(Refusal::Digests(_))), "{refused:?}");
        assert!(!m.files.root("w").exists());
        assert_eq!(m.files.generations("w").unwrap().borrow().generation, 0);
    }
    // A part of them is taken, and only grows.
    let (whole, part) = (Some(&all), [piece("d/b", 0, b"")]);
    m.files.put("w", 9, &part, true).unwrap();
    let arrived = m.files.generations("w").unwrap();
    let holds = |path: &str| arrived.borrow().holds(whole, path);
    assert!(holds("d") && holds("d/b") && !holds("a") && !holds(""));
    assert!(matches!(m.files.put("w", 10, &[piece("a", 0, b"one")], true), Err(Refusal::Digests(_))));
    let right = [piece("a", 0, b"on"), piece("a", 2, b"e"), piece("d/b", 0, b"")];
    m.files.put("w", 11, &right, true).unwrap();
    assert!(holds("") && holds("a"));
    assert!(matches!(m.files.put("w", 12, &part, true), Err(Refusal::Digests(_))), "nothing is taken back");
    assert!(matches!(m.files.put("w", 13, &[piece("a", 0, b"two")], true), Err(Refusal::Digests(_))));
    assert_eq!(fs::read(m.files.root("w").join("a")).unwrap(), b"one", "what was there stays");
}

#[test]
fn commits_that_race_leave_one_whole_generation() {
    let m = Machine::new();
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let m = &m;
            scope.spawn(move || {
                for turn in 0..40_u64 {
                    let generation = turn * 4 + worker + 1;
                    let text = generation.to_string();
                    let pieces = [piece("a", 0, text.as_bytes()), piece("b", 0, text.as_bytes())];
                    // Refused where a larger one was quicker.
                    let _ = m.put(generation, &pieces[..1], false);
                    let _ = m.put(generation, &pieces[1..], true);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..400 {
                // One look at the link sees one generation, which may be gone by the time its files are opened.
                let Ok(now) = fs::read_link(m.files.root("v").join(DATA)) else { continue };
                let read = |name| fs::read_to_string(m.files.root("v").join(&now).join(name));
                if let (Ok(a), Ok(b)) = (read("a"), read("b")) {
                    assert_eq!(a, b);
                }
            }
        });
    });
    let generation = m.read("a").unwrap_or_else(|| m.read("b").unwrap());
    assert_eq!(m.names().first(), Some(&format!("..{generation}")));
    assert_eq!(m.names().iter().filter(|n| n.starts_with("..")).count(), 2, "{:?}", m.names());
    m.nothing_half_sent();
}

#[test]
fn copies_are_plain_files() {
    let m = Machine::new();
    let mut secret = piece("d/key", 0, b"k");
    secret.mode = 0o400;
    m.put(1, &[piece("a", 0, b"one"), secret], true).unwrap();
    let to = m.dir.path().join("copy");
    m.files.copy("v", &to).unwrap();
    assert!(to.join("a").symlink_metadata().unwrap().is_file());
    assert_eq!(to.join("d/key").metadata().unwrap().mode() & 0o7777, 0o400);
    m.files.add("none", None);
    assert!(m.files.copy("none", &m.dir.path().join("x")).is_err());
}
