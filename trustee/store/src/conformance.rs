//! What every store must do, run against each of them and against a tenant's view of each.

use std::sync::{Arc, Barrier};

use crate::postgres::testing;
use crate::{
    Change, Condition, Error, MAX_VALUE, MemoryStore, PostgresStore, PutMode, RedbStore, Store, TenantStore,
};

/// All of it. `stores` are handles on the same, empty state: as many as there may be replicas.
fn conforms(stores: &[&dyn Store]) {
    let store = stores[0];
    single_keys(store);
    lists(store);
    steps(store);
    conditions(store);
    snapshots(store);
    refusals(store);
    races(stores);
}

fn on_store_and_tenant(stores: &[Arc<dyn Store>]) {
    let views: Vec<_> = stores.iter().map(|s| TenantStore::new(s.clone(), "tenant-1").unwrap()).collect();
    conforms(&views.iter().map(|v| v as &dyn Store).collect::<Vec<_>>());
    // What the tenant wrote is no part of what the inner store's own namespaces hold.
    assert_eq!(stores[0].list("n", "", 10).unwrap(), Vec::<String>::new());
    crate::remove_all(stores[0].as_ref(), "tenant-1").unwrap();
    conforms(&stores.iter().map(|s| s.as_ref()).collect::<Vec<_>>());
}

#[test]
fn memory() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    assert!(!store.shared());
    on_store_and_tenant(&[store]);
}

#[test]
fn redb_exclusive() {
    let folder = tempfile::tempdir().unwrap();
    let store = RedbStore::open_exclusive(&folder.path().join("deep/er/e.redb")).unwrap();
    assert!(!store.shared());
    on_store_and_tenant(&[Arc::new(store)]);
}

#[test]
fn redb_shared() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(RedbStore::open_shared(&folder.path().join("s.redb")).unwrap()) as Arc<dyn Store>;
    assert!(open().shared());
    on_store_and_tenant(&[open(), open()]);
}

#[test]
fn postgres() {
    let Some(server) = testing::shared_server() else { return };
    let url = server.new_database();
    let open = || {
        let store = PostgresStore::open(&url, testing::options()).unwrap();
        Arc::new(store) as Arc<dyn Store>
    };
    assert!(open().shared());
    on_store_and_tenant(&[open(), open()]);
}

fn single_keys(store: &dyn Store) {
    assert_eq!(store.get("n", "k").unwrap(), None);
    assert!(matches!(store.put("n", "k", b"1", PutMode::Replace), Err(Error::Missing { .. })));
    store.put("n", "k", b"1", PutMode::Create).unwrap();
    match store.put("n", "k", b"2", PutMode::Create) {
        Err(Error::Exists { ns, key }) => assert_eq!((ns.as_str(), key.as_str()), ("n", "k")),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.get("n", "k").unwrap().as_deref(), Some(&b"1"[..]));
    store.put("n", "k", b"2", PutMode::Replace).unwrap();
    store.put("n", "k", b"3", PutMode::Upsert).unwrap();
    assert!(!store.put_if_absent("n", "k", b"4").unwrap());
    assert!(store.put_if_absent("n", "ka/1", b"4").unwrap());
    store.put("nk", "x", b"", PutMode::Upsert).unwrap();
    assert_eq!(store.take("n", "k").unwrap().as_deref(), Some(&b"3"[..]));
    assert_eq!(store.take("n", "k").unwrap(), None);
    assert!(store.delete("n", "ka/1").unwrap());
    assert!(!store.delete("n", "ka/1").unwrap());
    assert_eq!(store.get("nk", "x").unwrap().as_deref(), Some(&b""[..]));
    assert!(store.delete("nk", "x").unwrap());

    let longest = "ü".repeat(256);
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    store.put("n", &longest, &bytes, PutMode::Create).unwrap();
    assert_eq!(store.get("n", &longest).unwrap().unwrap(), bytes);
    assert_eq!(store.list("n", &longest, 2).unwrap(), std::slice::from_ref(&longest));
    store.delete("n", &longest).unwrap();
}

fn lists(store: &dyn Store) {
    // Byte order, which is neither a dictionary's nor that of UTF-16.
    let keys =
        ["A", "B", "Z/", "_", "a", "a b", "a/", "a/1", "a/b", "a0", "ab", "b", "é", "\u{ffff}", "\u{10000}"];
    for key in keys.iter().rev() {
        store.put("list", key, key.as_bytes(), PutMode::Create).unwrap();
    }
    store.put("list_", "a", b"", PutMode::Create).unwrap();
    assert_eq!(store.list("list", "", 100).unwrap(), keys);
    assert_eq!(store.list("list", "", 3).unwrap(), ["A", "B", "Z/"]);
    assert_eq!(store.list("list", "", 0).unwrap(), Vec::<String>::new());
    assert_eq!(store.list("list", "a/", 100).unwrap(), ["a/", "a/1", "a/b"]);
    assert_eq!(store.list("list", "zz", 100).unwrap(), Vec::<String>::new());
    assert_eq!(store.list("list", "\u{10000}", usize::MAX).unwrap(), ["\u{10000}"]);
    let pair = |key: &str| (key.to_owned(), key.as_bytes().to_vec());
    assert_eq!(store.scan("list", "a/", 2).unwrap(), [pair("a/"), pair("a/1")]);

    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let page = store.scan_from("list", "", &after, 4).unwrap();
        let Some((last, _)) = page.last() else { break };
        after.clone_from(last);
        pages.extend(page.into_iter().map(|(key, _)| key));
    }
    assert_eq!(pages, keys);
    let from = |prefix, after, limit| -> Vec<String> {
        let page = store.scan_from("list", prefix, after, limit).unwrap();
        page.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(from("a", "a/0 (absent)", 2), ["a/1", "a/b"]);
    assert_eq!(from("a", "A", 1), ["a"]);
    assert_eq!(from("a", "ab", 9), Vec::<String>::new());
    assert_eq!(from("a", "b", 9), Vec::<String>::new());
    assert_eq!(from("a/", "a", 9), ["a/", "a/1", "a/b"]);

    for key in keys {
        store.delete("list", key).unwrap();
    }
    store.delete("list_", "a").unwrap();
}

fn steps(store: &dyn Store) {
    let put = |key, value| Change::Put { ns: "n", key, value };
    // All or nothing: the second step is invalid, so the first must not stay.
    assert!(matches!(store.apply(&[put("a", b"1"), put("", b"")]), Err(Error::InvalidKey(_))));
    let large = vec![0; MAX_VALUE + 1];
    assert!(matches!(store.apply(&[put("a", b"1"), put("b", &large)]), Err(Error::ValueTooLarge(_))));
    assert_eq!(store.get("n", "a").unwrap(), None);

    store.apply(&[]).unwrap();
    store.apply(&[put("a", b"1"), put("b", b"1"), Change::Delete { ns: "n", key: "absent" }]).unwrap();
    let delete = |key| Change::Delete { ns: "n", key };
    store
        .apply(&[delete("a"), put("a", b"2"), put("b", b"2"), delete("b"), put("c", b"1"), put("c", b"2")])
        .unwrap();
    let pair = |key: &str| (key.to_owned(), b"2".to_vec());
    assert_eq!(store.scan("n", "", 9).unwrap(), [pair("a"), pair("c")]);

    let keys: Vec<_> = (0..150).map(|i| format!("many/{i:03}")).collect();
    store.apply(&keys.iter().map(|key| put(key, key.as_bytes())).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.list("n", "many/", 200).unwrap(), keys);
    store.apply(&keys.iter().map(|key| delete(key)).collect::<Vec<_>>()).unwrap();
    store.apply(&[delete("a"), delete("c")]).unwrap();
    assert_eq!(store.list("n", "", 9).unwrap(), Vec::<String>::new());
}

fn conditions(store: &dyn Store) {
    let is = |key, value| Condition { ns: "n", key, value };
    let put = |key, value| Change::Put { ns: "n", key, value };
    let (one, two): (Option<&[u8]>, Option<&[u8]>) = (Some(b"1"), Some(b"2"));
    store.put("n", "a", b"1", PutMode::Create).unwrap();
    for refused in [
        vec![is("a", None)],
        vec![is("a", two)],
        vec![is("a", Some(b""))],
        vec![is("b", Some(b""))],
        vec![is("a", one), is("b", one)],
        vec![is("b", None), is("a", two)],
        vec![is("a", one), is("a", None)],
    ] {
        assert!(!store.apply_if(&refused, &[put("a", b"x"), put("b", b"x"), put("c", b"x")]).unwrap());
        assert_eq!(store.scan("n", "", 9).unwrap(), [("a".to_owned(), b"1".to_vec())], "{refused:?}");
    }
    assert!(store.apply_if(&[is("a", one), is("b", None)], &[]).unwrap());
    assert_eq!(store.list("n", "", 9).unwrap(), ["a"], "a demanded absence leaves nothing behind");
    assert!(store.apply_if(&[is("a", one), is("b", None)], &[put("b", b"2"), put("c", b"3")]).unwrap());
    assert!(store.apply_if(&[is("b", two), is("d", None)], &[Change::Delete { ns: "n", key: "b" }]).unwrap());
    let gone = [Change::Delete { ns: "n", key: "x" }];
    assert!(store.apply_if(&[is("x", None)], &gone).unwrap());
    assert!(store.apply_if(&[is("a", one)], &[put("a", b"2"), put("a", b"")]).unwrap());
    assert!(store.apply_if(&[is("a", Some(b""))], &[]).unwrap());
    assert!(matches!(store.apply_if(&[is("", None)], &[]), Err(Error::InvalidKey(_))));
    assert_eq!(store.list("n", "", 9).unwrap(), ["a", "c"]);
    store.apply(&[Change::Delete { ns: "n", key: "a" }, Change::Delete { ns: "n", key: "c" }]).unwrap();
}

fn snapshots(store: &dyn Store) {
    let mut changes = Vec::new();
    let keys: Vec<_> = (0..200).map(|i| format!("{i:03}")).collect();
    for key in &keys {
        changes.push(Change::Put { ns: "snap_b", key, value: key.as_bytes() });
    }
    changes.push(Change::Put { ns: "snap", key: "z", value: b"first" });
    store.apply(&changes).unwrap();
    let mut seen = Vec::new();
    store
        .snapshot(&mut |r| {
            seen.push((r.ns, r.key, r.value));
            Ok(())
        })
        .unwrap();
    assert_eq!(seen.len(), 201);
    assert_eq!(seen[0], ("snap".to_owned(), "z".to_owned(), b"first".to_vec()));
    assert!(seen.is_sorted());
    assert_eq!(seen[200], ("snap_b".to_owned(), "199".to_owned(), b"199".to_vec()));

    let mut count = 0;
    let ended = store.snapshot(&mut |_| {
        count += 1;
        if count == 70 { Err(Error::Crypto) } else { Ok(()) }
    });
    assert!(matches!(ended, Err(Error::Crypto)) && count == 70);
    let deletes: Vec<_> = keys.iter().map(|key| Change::Delete { ns: "snap_b", key }).collect();
    store.apply(&deletes).unwrap();
    store.delete("snap", "z").unwrap();
}

fn refusals(store: &dyn Store) {
    let long = "x".repeat(513);
    for (ns, key) in [("", "k"), ("N", "k"), ("a\0b", "k"), ("n", ""), ("n", "a\0"), ("n", &long)] {
        assert!(matches!(store.get(ns, key), Err(Error::InvalidKey(_))), "{ns:?} {key:?}");
        assert!(matches!(store.put(ns, key, b"", PutMode::Upsert), Err(Error::InvalidKey(_))));
        assert!(matches!(store.put_if_absent(ns, key, b""), Err(Error::InvalidKey(_))));
        assert!(matches!(store.take(ns, key), Err(Error::InvalidKey(_))));
        assert!(matches!(store.delete(ns, key), Err(Error::InvalidKey(_))));
        assert!(matches!(store.apply(&[Change::Delete { ns, key }]), Err(Error::InvalidKey(_))));
        if !key.is_empty() {
            assert!(matches!(store.list(ns, key, 1), Err(Error::InvalidKey(_))));
            assert!(matches!(store.scan(ns, key, 1), Err(Error::InvalidKey(_))));
            assert!(matches!(store.scan_from(ns, "", key, 1), Err(Error::InvalidKey(_))));
        }
    }
    let large = vec![0; MAX_VALUE + 1];
    assert!(matches!(store.put("n", "l", &large, PutMode::Upsert), Err(Error::ValueTooLarge(_))));
    assert!(matches!(store.put_if_absent("n", "l", &large), Err(Error::ValueTooLarge(_))));
}

/// Runs `work` in `threads` threads at once, on the stores in turn, and gives what each said.
fn at_once<T: Send>(
    stores: &[&dyn Store],
    threads: usize,
    work: impl Fn(usize, &dyn Store) -> T + Sync,
) -> Vec<T> {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|i| {
                let (start, work, store) = (&start, &work, stores[i % stores.len()]);
                scope.spawn(move || {
                    start.wait();
                    work(i, store)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn races(stores: &[&dyn Store]) {
    let store = stores[0];
    let winners = |said: Vec<bool>| said.into_iter().filter(|won| *won).count();
    for round in 0..3 {
        let key = format!("race{round}");
        assert_eq!(winners(at_once(stores, 8, |_, s| s.put_if_absent("n", &key, b"v").unwrap())), 1);
        assert_eq!(winners(at_once(stores, 8, |_, s| s.take("n", &key).unwrap().is_some())), 1);
        assert_eq!(winners(at_once(stores, 8, |_, s| s.put("n", &key, b"v", PutMode::Create).is_ok())), 1);
        assert_eq!(winners(at_once(stores, 8, |_, s| s.delete("n", &key).unwrap())), 1);

        // Each demands that the other's key is absent and writes its own: never both.
        let said = at_once(stores, 2, |i, s| {
            let (own, other) = if i == 0 { ("left", "right") } else { ("right", "left") };
            let absent = [Condition { ns: "n", key: other, value: None }];
            s.apply_if(&absent, &[Change::Put { ns: "n", key: own, value: b"" }]).unwrap()
        });
        assert!(winners(said) == 1 && store.list("n", "", 9).unwrap().len() == 1);
        store
            .apply(&[Change::Delete { ns: "n", key: "left" }, Change::Delete { ns: "n", key: "right" }])
            .unwrap();
    }
    // A counter that is only ever raised from the value that was read.
    store.put("n", "count", b"0", PutMode::Create).unwrap();
    at_once(stores, 4, |i, s| {
        let mut raised = 0;
        while raised < 5 {
            let old = s.get("n", "count").unwrap().unwrap();
            let new = (std::str::from_utf8(&old).unwrap().parse::<u32>().unwrap() + 1).to_string();
            let same = [Condition { ns: "n", key: "count", value: Some(&old) }];
            let log = format!("log/{i}/{raised}");
            let changes = [
                Change::Put { ns: "n", key: "count", value: new.as_bytes() },
                Change::Put { ns: "n", key: &log, value: new.as_bytes() },
            ];
            raised += u32::from(s.apply_if(&same, &changes).unwrap());
        }
    });
    assert_eq!(store.get("n", "count").unwrap().unwrap(), b"20");
    let mut logged: Vec<_> = store.scan("n", "log/", 99).unwrap().into_iter().map(|(_, v)| v).collect();
    logged.sort();
    logged.dedup();
    assert_eq!(logged.len(), 20, "no two raised it to the same value");

    // Opposite orders of the same keys must not block each other for ever.
    at_once(stores, 4, |i, s| {
        for round in 0..5u8 {
            let value = [round];
            let mut changes: Vec<_> =
                ["p", "q", "r"].iter().map(|key| Change::Put { ns: "n", key, value: &value }).collect();
            if i % 2 == 0 {
                changes.reverse();
            }
            s.apply(&changes).unwrap();
        }
    });
    for key in store.list("n", "", 99).unwrap() {
        store.delete("n", &key).unwrap();
    }
}
