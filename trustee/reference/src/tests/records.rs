//! Records: put, list, delete, look up; what the store holds from before.

use cocoon_store::{Change, Condition, PutMode, Record, Store};

use super::*;
use crate::store::NAMESPACE;

#[test]
fn sources_add_up_and_replace_only_themselves() {
    let references = fresh();
    references
        .put(&[value("m", "a", json!(["11"])), value("m", "b", json!(["22"])), value("mm", "a", json!([3]))])
        .unwrap();
    assert_eq!(references.accepted("m", 0).unwrap(), [json!("11"), json!("22")]);
    references.put(&[value("m", "a", json!(["33"]))]).unwrap();
    assert_eq!(references.accepted("m", 0).unwrap(), [json!("33"), json!("22")]);
    let versions: Vec<u64> = references.list().unwrap().iter().map(|r| r.version).collect();
    assert_eq!(versions, [2, 1, 1]);
    assert_eq!(references.delete("m", Some("b")).unwrap(), 1);
    assert_eq!(references.delete("m", None).unwrap(), 1);
    assert!(references.accepted("m", 0).unwrap().is_empty());
    assert_eq!(references.accepted("mm", 0).unwrap(), [json!(3)]);
    references.put(&[value("m", "a", json!([1]))]).unwrap();
    assert_eq!(references.list().unwrap()[0].version, 1);
}

#[test]
fn sets_stand_side_by_side() {
    let references = fresh();
    let in_set = |set: &str, v: Value| ReferenceValue { set: set.into(), ..value("m", "a", v) };
    references.put(&[value("m", "a", json!([1])), in_set("x", json!([2])), in_set("y", json!([3]))]).unwrap();
    assert_eq!(references.accepted("m", 0).unwrap(), [json!(1), json!(2), json!(3)]);
    assert!(references.accepted("m#a", 0).unwrap().is_empty(), "no way to another name's records");
    assert_eq!(references.delete("m#a", None).unwrap(), 0);
    assert_eq!(references.set_records("x", None).unwrap().len(), 1);
    assert_eq!(references.delete_set("x").unwrap(), 1);
    assert_eq!(references.delete("m", Some("a")).unwrap(), 2);
}

#[test]
fn names_of_the_field() {
    let references = fresh();
    for name in ["rvps:///ns/x:tag", EXAMPLE_NAME, "NVIDIA_Corporation.GPU.measurement_12"] {
        references.put(&[value(name, "a", json!([1]))]).unwrap();
        assert_eq!(references.lookup(name, 0).unwrap(), Some(json!([1])), "{name}");
    }
}

#[test]
fn expired_values_do_not_count() {
    let references = fresh();
    references.put(&[ReferenceValue { expires_unix: Some(100), ..value("m", "a", json!(["11"])) }]).unwrap();
    assert_eq!(references.accepted("m", 99).unwrap().len(), 1);
    assert_eq!(references.accepted("m", 100).unwrap().len(), 0);
    assert!(references.lookup("m", 99).unwrap().is_some());
    assert_eq!(references.lookup("m", 100).unwrap(), None);
}

#[test]
fn look_ups_give_what_was_registered() {
    let references = fresh();
    assert_eq!(references.lookup("m", 0).unwrap(), None);
    let single = ReferenceValue { single: true, ..value("m", "a", json!([{"svn": [1]}])) };
    references.put(&[single, value("list", "a", json!([7])), value("none", "a", json!([]))]).unwrap();
    assert_eq!(references.lookup("m", 0).unwrap(), Some(json!({"svn": [1]})));
    assert_eq!(references.lookup("list", 0).unwrap(), Some(json!([7])));
    assert_eq!(references.lookup("none", 0).unwrap(), Some(json!([])));
    references.put(&[value("m", "b", json!([2, {"svn": [1]}]))]).unwrap();
    assert_eq!(references.lookup("m", 0).unwrap(), Some(json!([{"svn": [1]}, 2])));
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn out_of_bounds_records_are_refused() {
    let references = fresh();
    for bad in [
        value("", "a", json!([])),
        value("a#b", "a", json!([])),
        value("a\n", "a", json!([])),
        value("a", "", json!([])),
        value("a", "b", json!([null])),
        value("a", "b", json!(["x".repeat(4095)])),
        value("a", "b", json!([nested(9)])),
        ReferenceValue { values: vec![json!(1); 1025], ..value("a", "b", json!([])) },
        ReferenceValue { single: true, ..value("a", "b", json!([1, 2])) },
        ReferenceValue { set: "x#y".into(), ..value("a", "b", json!([1])) },
        ReferenceValue { set: "x".repeat(101), ..value("a", "b", json!([1])) },
    ] {
        let outcome = references.put(&[value("fine", "a", json!([1])), bad]);
        assert_eq!(kind(&outcome), "value");
    }
    assert!(references.list().unwrap().is_empty(), "all or none");
    let fits = ReferenceValue {
        set: "s".repeat(100),
        ..value(&"n".repeat(200), &"o".repeat(200), json!([nested(8), "x".repeat(4094)]))
    };
    references.put(std::slice::from_ref(&fits)).unwrap();
    assert_eq!(references.list().unwrap(), [fits]);
}

#[test]
fn records_of_before_count_and_moved_ones_are_noticed() {
    let store = Arc::new(MemoryStore::new());
    let old = br#"{"name":"sim_m","values":["11"],"source":"a","registered_unix":5}"#;
    store.put(NAMESPACE, "sim_m#a", old, PutMode::Create).unwrap();
    store.put(NAMESPACE, "snp_m#a", old, PutMode::Create).unwrap();
    let references = ReferenceValues::new(store);
    assert_eq!(references.accepted("sim_m", 0).unwrap(), [json!("11")]);
    assert!(matches!(references.accepted("snp_m", 0), Err(Error::Record(_))));
    assert!(matches!(references.list(), Err(Error::Record(_))));
    references.put(&[value("sim_m", "a", json!(["22"]))]).unwrap();
    assert_eq!(references.accepted("sim_m", 0).unwrap(), [json!("22")]);
}

#[test]
fn many_records_are_listed() {
    let references = fresh();
    let many: Vec<_> = (0..999).map(|i| value(&format!("m{i}"), "a", json!([i]))).collect();
    references.put(&many).unwrap();
    references.put(&(0..501).map(|i| value(&format!("n{i}"), "a", json!([i]))).collect::<Vec<_>>()).unwrap();
    assert_eq!(references.list().unwrap().len(), 1500);
}

/// A store that others share, and where somebody else changes a record before each of the first changes.
struct Shared {
    inner: MemoryStore,
    disturb: std::sync::atomic::AtomicUsize,
}

impl Store for Shared {
    fn get(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, cocoon_store::Error> {
        self.inner.get(ns, key)
    }
    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Result<(), cocoon_store::Error> {
        self.inner.put(ns, key, value, mode)
    }
    fn delete(&self, ns: &str, key: &str) -> Result<bool, cocoon_store::Error> {
        self.inner.delete(ns, key)
    }
    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<String>, cocoon_store::Error> {
        self.inner.list(ns, prefix, limit)
    }
    fn scan(
        &self,
        ns: &str,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, cocoon_store::Error> {
        self.inner.scan(ns, prefix, limit)
    }
    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, cocoon_store::Error> {
        self.inner.scan_from(ns, prefix, after, limit)
    }
    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, cocoon_store::Error> {
        self.inner.take(ns, key)
    }
    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, cocoon_store::Error> {
        self.inner.put_if_absent(ns, key, value)
    }
    fn apply_if(
        &self,
        conditions: &[Condition<'_>],
        changes: &[Change<'_>],
    ) -> Result<bool, cocoon_store::Error> {
        use std::sync::atomic::Ordering::SeqCst;
        let left = self.disturb.load(SeqCst);
        if left > 0 {
            self.disturb.store(left - 1, SeqCst);
            let other = ReferenceValue { version: 40 + left as u64, ..value("m", "a", json!([0])) };
            let json = serde_json::to_vec(&other).unwrap();
            self.inner.put(NAMESPACE, "m#a", &json, PutMode::Upsert)?;
        }
        self.inner.apply_if(conditions, changes)
    }
    fn snapshot(
        &self,
        each: &mut dyn FnMut(Record) -> Result<(), cocoon_store::Error>,
    ) -> Result<(), cocoon_store::Error> {
        self.inner.snapshot(each)
    }
    fn shared(&self) -> bool {
        true
    }
}

#[test]
fn others_changes_are_seen_and_not_overwritten() {
    let store = Arc::new(Shared { inner: MemoryStore::new(), disturb: 3.into() });
    let references = ReferenceValues::new(store.clone());
    let other = ReferenceValues::new(store.clone());
    references.put(&[value("m", "a", json!([1]))]).unwrap();
    assert_eq!(references.list().unwrap()[0].version, 42, "one more than the last of the others'");
    other.put(&[value("m", "b", json!([2]))]).unwrap();
    assert_eq!(references.accepted("m", 0).unwrap(), [json!(1), json!(2)]);
    store.disturb.store(1000, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(references.put(&[value("m", "a", json!([9]))]), Err(Error::Busy)));
}
