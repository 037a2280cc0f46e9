use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("s")).unwrap();
    (folder, store)
}

fn reopened(folder: &tempfile::TempDir, store: Store) -> Store {
    drop(store);
    Store::open(&folder.path().join("s")).unwrap()
}

fn make(store: &Store, kind: Kind, key: &str, parent: &str) -> Result<Snapshot, Error> {
    store.create(kind, key, parent, Labels::new(), None)
}

#[test]
fn a_layer_is_adopted_once_and_shared() {
    let (folder, store) = store();
    let base = store.adopt("sha256:a", "", Labels::new()).unwrap();
    assert_eq!((base.name.as_str(), base.kind), ("sha256:a", Kind::Committed));
    assert_eq!(store.adopt("sha256:a", "", Labels::new()).unwrap(), base);
    let next = store.adopt("sha256:b", "sha256:a", Labels::new()).unwrap();
    // The same layers above something that was unpacked in another way are another snapshot.
    make(&store, Kind::Active, "ns/1/extract-x sha256:a", "").unwrap();
    store.commit("ns/1/extract-x sha256:a", "ns/2/sha256:a", Labels::new()).unwrap();
    let other = store.adopt("sha256:b", "ns/2/sha256:a", Labels::new()).unwrap();
    assert!(other.name.starts_with("sha256:b@") && other.id != next.id);
    assert_eq!(store.adopt("sha256:b", "ns/2/sha256:a", Labels::new()).unwrap(), other);
    assert!(matches!(store.adopt("sha256:c", "sha256:x", Labels::new()), Err(Error::NotFound(_))));
    let all = store.list(|_| true);
    assert_eq!(all.len(), 4);
    assert_eq!(reopened(&folder, store).list(|_| true), all);
}

#[test]
fn states_are_containerds() {
    let (_folder, store) = store();
    store.adopt("sha256:a", "", Labels::new()).unwrap();
    let active = make(&store, Kind::Active, "c", "sha256:a").unwrap();
    assert!(matches!(make(&store, Kind::Active, "c", ""), Err(Error::AlreadyExists(_))));
    assert!(matches!(make(&store, Kind::View, "v", "nothing"), Err(Error::NotFound(_))));
    assert!(matches!(make(&store, Kind::View, "v", "c"), Err(Error::Invalid(_))));
    assert!(matches!(store.remove("sha256:a"), Err(Error::Precondition(_))));
    assert!(matches!(store.remove("nothing"), Err(Error::NotFound(_))));
    assert!(matches!(store.room("sha256:a"), Err(Error::Precondition(_))));
    assert!(matches!(store.commit("c", "sha256:a", Labels::new()), Err(Error::AlreadyExists(_))));
    assert!(matches!(store.commit("x", "y", Labels::new()), Err(Error::NotFound(_))));
    let view = make(&store, Kind::View, "v", "sha256:a").unwrap();
    assert!(matches!(store.commit("v", "y", Labels::new()), Err(Error::Precondition(_))));
    assert_ne!(store.room("c").unwrap().1, store.room("v").unwrap().1);
    store.commit("c", "layer", Labels::new()).unwrap();
    assert!(matches!(store.get("c"), Err(Error::NotFound(_))));
    assert_eq!(store.get("layer").unwrap().id, active.id);
    assert!(matches!(store.commit("layer", "again", Labels::new()), Err(Error::Precondition(_))));
    store.remove("layer").unwrap();
    assert!(matches!(store.remove("sha256:a"), Err(Error::Precondition(_))));
    store.remove("v").unwrap();
    store.remove("sha256:a").unwrap();
    assert!(view.id > active.id && store.list(|_| true).is_empty());
}

#[test]
fn what_was_written_is_gone_after_a_commit() {
    let (folder, store) = store();
    make(&store, Kind::Active, "extract-1", "").unwrap();
    let path = store.room("extract-1").unwrap().1;
    fs::create_dir_all(path.join("usr/bin")).unwrap();
    fs::write(path.join("usr/bin/secret"), vec![0; 100_000]).unwrap();
    let used = store.used("extract-1").unwrap();
    assert!(used.bytes >= 100_000 && used.inodes == 4, "{used:?}");
    store.commit("extract-1", "layer", Labels::new()).unwrap();
    assert_eq!(store.used("layer").unwrap(), Used::default());
    assert!(!path.exists());
    let s = folder.path().join("s");
    for empty in ["snapshots", "trash"] {
        assert_eq!(fs::read_dir(s.join(empty)).unwrap().count(), 0, "{empty}");
    }
}

#[test]
fn accounts_are_put_in_once() {
    let (folder, store) = store();
    let mut accounts = Accounts::default();
    accounts.add("web");
    store.create(Kind::Active, "c", "", Labels::new(), Some(&accounts)).unwrap();
    let (_, path, furnished) = store.room("c").unwrap();
    assert!(furnished && fs::read_to_string(path.join("etc/passwd")).unwrap().contains("\nweb:x:"));
    accounts.add("other");
    store.furnish("c", &accounts).unwrap();
    assert!(!fs::read_to_string(path.join("etc/passwd")).unwrap().contains("other"));
    // A container may have replaced anything, by a link out of its directory too.
    let outside = folder.path().join("outside");
    make(&store, Kind::Active, "d", "").unwrap();
    let path = store.room("d").unwrap().1;
    fs::create_dir(path.join("etc")).unwrap();
    std::os::unix::fs::symlink(&outside, path.join("etc/passwd")).unwrap();
    store.furnish("d", &accounts).unwrap();
    assert!(!outside.exists());
}

#[test]
fn bounds_hold() {
    let (_folder, store) = store();
    let label = |bytes: usize| Labels::from([("a".into(), "x".repeat(bytes - 1))]);
    let create = |key: &str, labels| store.create(Kind::Active, key, "", labels, None);
    create(&"k".repeat(MAX_NAME), label(MAX_LABEL)).unwrap();
    for (key, labels) in [
        (String::new(), Labels::new()),
        ("k".repeat(MAX_NAME + 1), Labels::new()),
        ("a\nb".into(), Labels::new()),
        ("a".into(), label(MAX_LABEL + 1)),
        ("a".into(), Labels::from([(String::new(), "x".into())])),
        ("a".into(), (0..20).map(|n| (n.to_string(), "x".repeat(4000))).collect()),
    ] {
        assert!(matches!(create(&key, labels), Err(Error::Invalid(_))), "{key}");
    }
    assert!(matches!(
        store.relabel(&"k".repeat(MAX_NAME), label(MAX_LABEL + 1), None),
        Err(Error::Invalid(_))
    ));
    // The largest that is allowed, all of it escaped, is read back.
    let worst: Labels = (0..15).map(|n| (format!("{n:02}"), "\u{1}".repeat(4000))).collect();
    create("worst", worst.clone()).unwrap();
    let again = reopened(&_folder, store);
    assert_eq!(again.get("worst").unwrap().labels, worst);
}

#[test]
fn labels_change_as_asked() {
    let (folder, store) = store();
    let of = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let made = store.create(Kind::Active, "c", "", of(&[("a", "1"), ("b", "2")]), None).unwrap();
    let only = ["b".to_owned(), "c".to_owned()];
    let changed = store.relabel("c", of(&[("c", "3"), ("d", "4")]), Some(&only)).unwrap();
    assert_eq!(changed.labels, of(&[("a", "1"), ("c", "3")]));
    assert_eq!(changed.created, made.created);
    let changed = store.relabel("c", of(&[("z", "9")]), None).unwrap();
    assert_eq!(changed.labels, of(&[("z", "9")]));
    assert!(matches!(store.relabel("x", Labels::new(), None), Err(Error::NotFound(_))));
    assert_eq!(reopened(&folder, store).get("c").unwrap(), changed);
}

#[test]
fn what_a_killed_process_left_is_made_good() {
    let (folder, store) = store();
    let kept = make(&store, Kind::Active, "kept", "").unwrap();
    let lost = make(&store, Kind::Active, "lost", "").unwrap();
    drop(store);
    let s = folder.path().join("s");
    // Between directory and record, between record's two names, between commit and clearing, and a bad block.
    fs::create_dir_all(s.join("snapshots/77/fs/etc")).unwrap();
    fs::write(s.join("records/78.new"), "{").unwrap();
    fs::create_dir_all(s.join("trash/5/fs")).unwrap();
    fs::remove_dir_all(s.join(format!("snapshots/{}", kept.id))).unwrap();
    fs::write(s.join(format!("records/{}.json", lost.id)), "{\"id\":").unwrap();
    fs::write(s.join("records/note.txt"), "mine").unwrap();
    let store = Store::open(&s).unwrap();
    assert_eq!(store.list(|_| true), std::slice::from_ref(&kept));
    assert!(store.room("kept").unwrap().1.is_dir());
    assert_eq!(fs::read_dir(s.join("snapshots")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(s.join("trash")).unwrap().count(), 0);
    assert!(!s.join("records/78.new").exists() && s.join("records/note.txt").exists());
    assert!(s.join(format!("records/{}.damaged", lost.id)).exists());
    // Numbers are not used again.
    assert_eq!(make(&store, Kind::Active, "new", "").unwrap().id, 78);
}

#[test]
fn one_process_serves_a_folder() {
    let (folder, store) = store();
    assert!(matches!(Store::open(&folder.path().join("s")), Err(Error::InUse(_))));
    drop(store);
    Store::open(&folder.path().join("s")).unwrap();
}

#[test]
fn many_at_once() {
    let (folder, store) = store();
    store.adopt("sha256:a", "", Labels::new()).unwrap();
    std::thread::scope(|scope| {
        for t in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20 {
                    let key = format!("{t}-{n}");
                    store.adopt("sha256:b", "sha256:a", Labels::new()).unwrap();
                    make(store, Kind::Active, &key, "sha256:b").unwrap();
                    let won = make(store, Kind::Active, &format!("all-{n}"), "sha256:a").is_ok();
                    store.clean().unwrap();
                    assert!(store.room(&key).unwrap().1.is_dir());
                    if n % 2 == 0 {
                        store.remove(&key).unwrap();
                    }
                    // One holds the key at a time; the first of them gets the name.
                    let done = |n| store.commit(&format!("all-{n}"), &format!("done-{n}"), Labels::new());
                    if won && done(n).is_err() {
                        store.remove(&format!("all-{n}")).unwrap();
                    }
                }
            });
        }
    });
    let count = |beginning: &str| store.list(|s| s.name.starts_with(beginning)).len();
    assert_eq!(count("done-"), 20);
    assert_eq!(count("sha256:b"), 1);
    let all = store.list(|_| true);
    assert_eq!(all.len(), 80 + 20 + 2);
    assert_eq!(reopened(&folder, store).list(|_| true), all);
}
