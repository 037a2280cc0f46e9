//! Versions in a store: what is kept, races, caches, damage.

use std::sync::Arc;
use std::time::Duration;

use cocoon_store::{Change, Condition, Error as StoreError, MemoryStore, PutMode, Record, Store};
use serde_json::json;

use crate::{Error, Kind, MAX_VERSIONS, Policies, RESOURCE_POLICY_ID, resource_sample};

fn text(hardware: i8) -> String {
    format!("package policy\ntrust_claims := {{\"hardware\": {hardware}}}\n")
}

fn hardware(policies: &Policies, id: &str) -> Option<i8> {
    let compiled = policies.active(id, Kind::Attestation).unwrap()?;
    Some(compiled.attestation(&json!({}), &|_| Ok(None)).unwrap().vector.hardware)
}

fn fresh() -> (Arc<dyn Store>, Policies) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    (store.clone(), Policies::new(store))
}

fn put(policies: &Policies, id: &str, hardware: i8) -> u64 {
    policies.put(id, Kind::Attestation, &text(hardware), "alice", "why", 7).unwrap().version
}

#[test]
fn versions_come_and_go() {
    let (_, policies) = fresh();
    assert_eq!(hardware(&policies, "default_cpu"), None);
    assert_eq!(put(&policies, "default_cpu", 2), 1);
    assert_eq!(put(&policies, "default_cpu", 3), 2);
    assert_eq!(put(&policies, "default_cpu", 3), 2);
    assert_eq!(hardware(&policies, "default_cpu"), Some(3));
    let rolled = policies.activate("default_cpu", 1).unwrap();
    assert!(rolled.active && rolled.version == 1 && rolled.author == "alice" && rolled.created_unix == 7);
    assert_eq!(hardware(&policies, "default_cpu"), Some(2));
    // A text that is known becomes the one in force again, as the version it was.
    assert_eq!(put(&policies, "default_cpu", 3), 2);
    let history = policies.history("default_cpu").unwrap();
    assert_eq!(history.iter().map(|v| (v.version, v.active)).collect::<Vec<_>>(), [(2, true), (1, false)]);
    assert_eq!(policies.get("default_cpu", 1).unwrap().unwrap().1, text(2));
    assert_eq!(policies.get("default_cpu", 9).unwrap(), None);
    assert!(matches!(policies.activate("default_cpu", 9), Err(Error::Missing(_))));
    put(&policies, "mine_gpu", 4);
    assert_eq!(
        policies.list().unwrap().iter().map(|v| v.id.as_str()).collect::<Vec<_>>(),
        ["default_cpu", "mine_gpu"]
    );
    assert!(policies.delete("default_cpu").unwrap());
    assert!(!policies.delete("default_cpu").unwrap());
    assert_eq!(hardware(&policies, "default_cpu"), None);
    assert!(policies.history("default_cpu").unwrap().is_empty());
    assert_eq!(put(&policies, "default_cpu", 5), 1);
    assert_eq!(hardware(&policies, "default_cpu"), Some(5));
}

#[test]
fn what_is_wrong_is_not_stored() {
    let (store, policies) = fresh();
    let put = |id: &str, kind, text: &str, author: &str| policies.put(id, kind, text, author, "", 0);
    for id in ["", "a/b", "ä", "a b", &"x".repeat(65), RESOURCE_POLICY_ID] {
        assert!(matches!(put(id, Kind::Attestation, &text(2), "a"), Err(Error::Id(_))), "{id}");
    }
    let allow = resource_sample("default").unwrap();
    assert!(matches!(put("other", Kind::Resource, allow, "a"), Err(Error::Id(_))));
    assert!(matches!(put("a", Kind::Attestation, allow, "a"), Err(Error::Invalid(_))));
    assert!(matches!(put("a", Kind::Attestation, &text(2), ""), Err(Error::Label(_))));
    assert!(matches!(put("a", Kind::Attestation, &text(2), "a\u{1b}"), Err(Error::Label(_))));
    let hostile = "package policy\ntrust_claims := {\"hardware\": http.send({})}";
    assert!(matches!(put("a", Kind::Attestation, hostile, "a"), Err(Error::Builtin(_))));
    store.snapshot(&mut |record: Record| panic!("{}/{}", record.ns, record.key)).unwrap();
}

#[test]
fn old_versions_go_but_never_the_one_in_force() {
    let (store, policies) = fresh();
    put(&policies, "a", 1);
    for n in 2..=100 {
        policies.put("a", Kind::Attestation, &format!("{}# {n}", text(1)), "a", "", 0).unwrap();
    }
    policies.activate("a", 1).unwrap();
    // Every new version is put into force, so version 1 may go once it no longer is.
    policies.put("a", Kind::Attestation, &text(9), "a", "", 0).unwrap();
    let history = policies.history("a").unwrap();
    assert_eq!(history.len(), MAX_VERSIONS);
    assert_eq!((history[0].version, history[0].active, history[99].version), (101, true, 2));
    assert_eq!(store.list("policy_text", "a/", 1000).unwrap().len(), MAX_VERSIONS);
}

#[test]
fn two_administrators_lose_nothing() {
    let (_, policies) = fresh();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let policies = policies.clone();
            scope.spawn(move || {
                for n in 0..15 {
                    let text = format!("{}# {thread} {n}", text(2));
                    policies.put("a", Kind::Attestation, &text, "a", "", 0).unwrap();
                }
            });
        }
    });
    let history = policies.history("a").unwrap();
    assert_eq!(history.len(), 30);
    for version in &history {
        assert!(policies.get("a", version.version).unwrap().is_some());
    }
    assert_eq!(history.iter().filter(|v| v.active).count(), 1);
}

/// A store that says that others use it too.
struct Shared(Arc<dyn Store>);

impl Store for Shared {
    fn get(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(ns, key)
    }
    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Result<(), StoreError> {
        self.0.put(ns, key, value, mode)
    }
    fn delete(&self, ns: &str, key: &str) -> Result<bool, StoreError> {
        self.0.delete(ns, key)
    }
    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        self.0.list(ns, prefix, limit)
    }
    fn scan(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.0.scan(ns, prefix, limit)
    }
    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.0.scan_from(ns, prefix, after, limit)
    }
    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.take(ns, key)
    }
    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, StoreError> {
        self.0.put_if_absent(ns, key, value)
    }
    fn apply_if(&self, conditions: &[Condition<'_>], changes: &[Change<'_>]) -> Result<bool, StoreError> {
        self.0.apply_if(conditions, changes)
    }
    fn snapshot(&self, each: &mut dyn FnMut(Record) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.0.snapshot(each)
    }
    fn shared(&self) -> bool {
        true
    }
}

#[test]
fn a_shared_store_is_looked_at_again_and_an_own_one_is_not() {
    let (store, policies) = fresh();
    let shared: Arc<dyn Store> = Arc::new(Shared(store.clone()));
    let strict = Policies::with_recheck(shared.clone(), Duration::ZERO);
    let patient = Policies::with_recheck(shared, Duration::from_secs(3600));
    put(&policies, "a", 2);
    assert_eq!(hardware(&policies, "a"), Some(2));
    assert_eq!((hardware(&strict, "a"), hardware(&patient, "a")), (Some(2), Some(2)));
    let again = |p: &Policies| p.active("a", Kind::Attestation).unwrap().unwrap();
    assert!(Arc::ptr_eq(&again(&strict), &again(&strict)), "an unchanged policy is not compiled again");
    // Somebody else changes it.
    put(&patient, "a", 3);
    assert_eq!((hardware(&strict, "a"), hardware(&patient, "a")), (Some(3), Some(3)));
    assert_eq!(hardware(&policies, "a"), Some(2), "nobody else changes a store of our own");
    strict.delete("a").unwrap();
    assert_eq!((hardware(&strict, "a"), hardware(&patient, "a")), (None, Some(3)));
}

#[test]
fn damaged_policies_are_refused() {
    let (store, policies) = fresh();
    put(&policies, "a", 2);
    let key = store.list("policy_text", "a/", 10).unwrap().remove(0);
    store.put("policy_text", &key, text(31).as_bytes(), PutMode::Replace).unwrap();
    let policies = Policies::new(store.clone());
    assert!(matches!(policies.active("a", Kind::Attestation), Err(Error::Damaged(_))));
    assert!(matches!(policies.get("a", 1), Err(Error::Damaged(_))));
    assert!(matches!(policies.activate("a", 1), Err(Error::Damaged(_))));
    assert!(matches!(policies.attestation("a", "x"), Ok(None)));
    for record in ["policy_active", "policy_index"] {
        store.put(record, "a", b"{}", PutMode::Replace).unwrap();
    }
    assert!(matches!(policies.active("a", Kind::Attestation), Err(Error::Damaged(_))));
    assert!(matches!(policies.history("a"), Err(Error::Damaged(_))));
}

#[test]
fn built_in_policies_stand_in() {
    let (_, policies) = fresh();
    for class in ["cpu", "gpu", "switch", "ppcie", "dcu", "nvidia-dpu"] {
        assert!(policies.attestation("default", class).unwrap().is_some(), "{class}");
    }
    assert!(policies.attestation("default", "toaster").unwrap().is_none());
    assert!(policies.attestation("mine", "cpu").unwrap().is_none());
    let ask = || policies.resource().unwrap().resource(&json!({"plugin": "resource"}), &json!({})).unwrap();
    assert!(!ask());
    policies
        .put(RESOURCE_POLICY_ID, Kind::Resource, resource_sample("allow_all").unwrap(), "a", "", 0)
        .unwrap();
    assert!(ask());
    assert!(matches!(policies.active(RESOURCE_POLICY_ID, Kind::Attestation), Err(Error::Id(_))));
    policies.delete(RESOURCE_POLICY_ID).unwrap();
    assert!(!ask());
}
