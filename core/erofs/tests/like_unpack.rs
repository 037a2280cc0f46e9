//! Random layers: refused exactly where unpacking refuses them, else the same tree; and stacked by overlayfs, the
//! same as unpacked on top of each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::mem::discriminant;
use std::os::fd::AsFd;

use cocoon_image::{Budget, Limits, UnpackOptions};
use common::{Entry, Layer, build, compare, is_root, run, text, tree, unpack};
use proptest::prelude::*;
use tar::EntryType;

#[derive(Clone, Debug)]
struct Random {
    name: String,
    kind: EntryType,
    link: String,
    len: usize,
    mode: u32,
    owner: u64,
    mtime: u32,
}

fn random(
    names: &'static str,
    kinds: &'static [EntryType],
    links: &'static str,
) -> impl Strategy<Value = Random> {
    let len = prop_oneof![4 => 0_usize..20, 1 => 4000_usize..4200, 1 => 8000_usize..8300];
    (names, proptest::sample::select(kinds), links, len, 0_u32..0o10000, 0_u64..70_000, 0_u32..3).prop_map(
        |(name, kind, link, len, mode, owner, mtime)| Random { name, kind, link, len, mode, owner, mtime },
    )
}

fn layer(entries: &[Random]) -> Vec<u8> {
    let mut l = Layer::new();
    for (i, r) in entries.iter().enumerate() {
        let linked = matches!(r.kind, EntryType::Symlink | EntryType::Link);
        let content: Vec<u8> = (0..r.len).map(|n| (n + i) as u8).collect();
        l.add(&Entry {
            name: r.name.as_bytes(),
            kind: r.kind,
            link: if linked { r.link.as_bytes() } else { b"" },
            content: if r.kind == EntryType::Regular { &content } else { b"" },
            mode: r.mode,
            owner: (r.owner, r.owner / 3),
            mtime: &format!("{}", r.mtime * 1_000_000),
            xattrs: if r.mtime == 2 { &[("user.x", b"value")] } else { &[] },
        });
    }
    l.done()
}

const ALL: &[EntryType] = &[
    EntryType::Regular,
    EntryType::Regular,
    EntryType::Directory,
    EntryType::Directory,
    EntryType::Symlink,
    EntryType::Symlink,
    EntryType::Link,
    EntryType::Fifo,
];
/// Few files: most of these names are parents of others.
const TREE: &[EntryType] = &[
    EntryType::Regular,
    EntryType::Directory,
    EntryType::Directory,
    EntryType::Directory,
    EntryType::Directory,
    EntryType::Directory,
];

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config(400))]
    #[test]
    fn a_layer_is_what_unpacking_it_gives(entries in proptest::collection::vec(random(
        "(/|\\./)?((a|b|c|\\.|\\.\\.)/){0,3}(a|b|c)", ALL, "/?((a|b|c|\\.|\\.\\.)/){0,2}(a|b|c|\\.\\.)"), 0..14))
    {
        let tar = layer(&entries);
        match (unpack(&tar), build(&tar)) {
            (Ok(unpacked), Ok(image)) => {
                if !image.fsck() { return Ok(()); }
                let Some(seen) = image.seen() else { return Ok(()) };
                compare(&seen, &tree(&unpacked.root()), |_| false);
            }
            (Err(theirs), Err(cocoon_erofs::Error::Layer(ours))) => {
                let same = discriminant(&theirs) == discriminant(&ours);
                // What a link replaces held its target: the kernel has no word for it, we have.
                let inside = theirs.to_string().contains("No such file") && ours.to_string().contains("hard link");
                prop_assert!(same || inside, "{theirs} / {ours}");
            }
            (theirs, ours) => prop_assert!(false, "{:?} / {:?}", theirs.map(|_| ()), ours.map(|i| i.built)),
        }
    }
}

proptest! {
    #![proptest_config(config(150))]
    /// Modes and owners too, where layers do not describe their directories.
    #[test]
    fn implied_directories_are_those_of_lower_layers(
        lower in proptest::collection::vec(random("((a|b)/){0,3}(a|b|c)", TREE, "a"), 0..14),
        upper in proptest::collection::vec(random("((a|b)/){0,3}(a|b|c)", TREE, "a"), 0..8),
    ) {
        if let Some((stacked, unpacked)) = stack(&layer(&lower), &layer(&upper), |i| (i.mode, i.owner.0, i.content)) {
            prop_assert_eq!(stacked, unpacked);
        }
    }

    #[test]
    fn stacked_layers_are_what_unpacking_them_gives(
        lower in proptest::collection::vec(random("((a|b)/){0,3}(a|b|c)", TREE, "a"), 0..14),
        upper in proptest::collection::vec(random("((a|b)/){0,3}(a|b|c|\\.wh\\.(a|b)|\\.wh\\.\\.wh\\.\\.opq)", TREE, "a"), 0..10),
    ) {
        let (low, up) = (layer(&lower), layer(&described(&upper)));
        if let Some((stacked, unpacked)) = stack(&low, &up, |i| (i.mode & 0o170_000, 0, i.content)) {
            prop_assert_eq!(stacked, unpacked);
        }
    }
}

/// The layer with an entry for each directory that its names imply, as layers made by builders have.
fn described(entries: &[Random]) -> Vec<Random> {
    let mut all: Vec<Random> = Vec::new();
    for e in entries {
        let parts: Vec<_> = e.name.split('/').collect();
        for n in 1..parts.len() {
            let name = parts[..n].join("/");
            all.push(Random { name, kind: EntryType::Directory, ..e.clone() });
        }
        let mut e = e.clone();
        if e.name.contains(".wh.") {
            e.kind = EntryType::Regular;
        }
        all.push(e);
    }
    all
}

/// What is shown by path: of both images stacked by overlayfs, and of both layers unpacked into one folder.
#[allow(clippy::type_complexity)]
fn stack(
    low: &[u8],
    up: &[u8],
    shown: impl Fn(common::Item) -> (u32, u32, Vec<u8>),
) -> Option<(BTreeMap<Vec<u8>, (u32, u32, Vec<u8>)>, BTreeMap<Vec<u8>, (u32, u32, Vec<u8>)>)> {
    let folder = tempfile::tempdir().unwrap();
    let plain = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), plain).unwrap();
    let root = File::open(folder.path()).unwrap();
    let mut budget = Budget::new(Limits::default());
    let options = UnpackOptions { preserve_owner: is_root() };
    for tar in [low, up] {
        if cocoon_image::unpack(tar, root.as_fd(), &options, &mut budget).is_err() {
            return None;
        }
    }
    let (lower, upper) = (build(low).unwrap(), build(up).unwrap());
    lower.fsck();
    upper.fsck();
    let (lower, upper) = (lower.mount()?, upper.mount()?);
    // The kernel does not look at the mark on a layer's root.
    let cut = tree(&upper.0)[&b""[..]].xattrs.contains_key(&b"trusted.overlay.opaque"[..]);
    let over = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let below = if cut { empty.path() } else { &lower.0 };
    // What would be the writable directory is one more layer here, for it cannot lie on an overlay itself.
    let front = tempfile::tempdir().unwrap();
    let layers = [upper.0.clone(), below.to_owned()];
    match cocoon_image::restore(&layers, front.path()) {
        Err(cocoon_image::Error::Unsafe { .. }) => return None,
        other => other.unwrap(),
    };
    let layers = format!("lowerdir={}:{}:{}", front.path().display(), upper.0.display(), below.display());
    let out = run("mount", &["-t", "overlay", "-o", &layers, "overlay", over.path().to_str().unwrap()])?;
    assert!(out.status.success(), "{}", text(&out));
    let over = common::Mounted::with(over);
    let plain = |root: &std::path::Path| tree(root).into_iter().map(|(p, i)| (p, shown(i))).collect();
    Some((plain(&over.0), plain(folder.path())))
}
