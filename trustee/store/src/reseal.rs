//! Sealing anew what an older key sealed.

use crate::{Change, Condition, Error, Sealer, Store};

/// Records read at once.
const PAGE: usize = 64;

/// What [`reseal`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values that are now sealed with the current key.
    pub changed: u64,
    /// Values that were so before.
    pub current: u64,
    /// Values that no known key opens; they are left as they are.
    pub unsealable: u64,
    /// Places (`namespace/key`) of the first 100 of those.
    pub unsealable_places: Vec<String>,
}

/// Seals every value of `namespaces` that only a previous key of `sealer` opens with its current key. Safe while
/// others use the store: a value that changes meanwhile is looked at again. May be repeated after an interruption.
pub fn reseal(store: &dyn Store, namespaces: &[&str], sealer: &Sealer) -> Result<Resealed, Error> {
    let mut done = Resealed::default();
    for ns in namespaces {
        let mut after = String::new();
        loop {
            let page = store.scan_from(ns, "", &after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (key, value) in page {
                one(store, ns, &key, value, sealer, &mut done)?;
            }
        }
    }
    Ok(done)
}

fn one(
    store: &dyn Store,
    ns: &str,
    key: &str,
    value: Vec<u8>,
    sealer: &Sealer,
    done: &mut Resealed,
) -> Result<(), Error> {
    let mut found = Some(value);
    while let Some(value) = found {
        if sealer.is_current(ns, key, &value) {
            done.current += 1;
            return Ok(());
        }
        let Ok(plain) = sealer.open(ns, key, &value) else {
            done.unsealable += 1;
            if done.unsealable_places.len() < 100 {
                done.unsealable_places.push(format!("{ns}/{key}"));
            }
            return Ok(());
        };
        let sealed = sealer.seal(ns, key, &plain)?;
        let unchanged = [Condition { ns, key, value: Some(&value) }];
        if store.apply_if(&unchanged, &[Change::Put { ns, key, value: &sealed }])? {
            done.changed += 1;
            return Ok(());
        }
        found = store.get(ns, key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStore, PutMode};

    #[test]
    fn every_value_ends_under_the_current_key_and_foreign_ones_are_named() {
        let store = MemoryStore::new();
        let (old, new) = ([1; 32], [2; 32]);
        let sealer = |key: &[u8; 32]| Sealer::from_key(key).unwrap();
        for i in 0..150 {
            let key = format!("{i:03}");
            let with = if i % 3 == 0 { sealer(&new) } else { sealer(&old) };
            let sealed = with.seal("secret", &key, key.as_bytes()).unwrap();
            store.put("secret", &key, &sealed, PutMode::Create).unwrap();
        }
        let foreign = Sealer::ephemeral().unwrap().seal("secret", "x", b"x").unwrap();
        store.put("secret", "x", &foreign, PutMode::Create).unwrap();
        store.put("plain", "p", b"not sealed", PutMode::Create).unwrap();

        let both = Sealer::with_previous(sealer(&new), vec![sealer(&old)]);
        let first = reseal(&store, &["secret"], &both).unwrap();
        assert_eq!((first.changed, first.current, first.unsealable), (100, 50, 1));
        assert_eq!(first.unsealable_places, ["secret/x"]);
        let second = reseal(&store, &["secret"], &both).unwrap();
        assert_eq!((second.changed, second.current), (0, 150));
        for (key, sealed) in store.scan("secret", "", 150).unwrap() {
            assert_eq!(sealer(&new).open("secret", &key, &sealed).unwrap().as_slice(), key.as_bytes());
        }
        assert_eq!(store.get("secret", "x").unwrap().unwrap(), foreign);
        assert_eq!(store.get("plain", "p").unwrap().unwrap(), b"not sealed");
    }
}
