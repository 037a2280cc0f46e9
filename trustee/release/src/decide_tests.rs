//! Every refusal is tried; each changes one thing of a request that is granted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cocoon_store::{MemoryStore, Sealer, Store};
use serde_json::json;

use super::*;
use crate::Registration;

const NOW: u64 = 1_000;
const DIGEST: &str = "11223344556677889900aabbccddeeff11223344556677889900aabbccddeeff";

fn path(text: &str) -> ResourcePath {
    text.parse().unwrap()
}

fn registration() -> Registration {
    Registration {
        digest_hex: DIGEST.into(),
        name: "web".into(),
        secrets: BTreeMap::from([(path("default/secret/own"), Zeroizing::new(b"mine".to_vec()))]),
        allow: BTreeSet::from([path("default/image-key/1"), path("default/secret/gone")]),
        min_status: MinStatus::Affirming,
        accept_simulated: false,
        expires_unix: Some(NOW + 100),
    }
}

fn claims(status: &str, init_data: &str) -> Value {
    json!({"submods": {"cpu0": {
        "ear.status": status,
        "ear.veraison.annotated-evidence": {"init_data": init_data, "snp": {"init_data": init_data}},
    }}})
}

struct World {
    store: Arc<MemoryStore>,
    registry: Registry,
    policy: Option<Result<bool, String>>,
}

impl World {
    fn new(registration: &Registration) -> World {
        let store = Arc::new(MemoryStore::new());
        let registry = Registry::new(store.clone(), Arc::new(Sealer::ephemeral().unwrap()));
        registry.register(registration, NOW).unwrap();
        registry.put_resource(&path("default/image-key/1"), b"shared").unwrap();
        registry.put_resource(&path("default/image-key/2"), b"not allowed").unwrap();
        World { store, registry, policy: None }
    }

    fn ask_at(&self, claims: &Value, wanted: &str, now: u64) -> Result<Vec<u8>, Code> {
        let decision = decide(&self.registry, claims, &path(wanted), now, &|| self.policy.clone()).unwrap();
        let names: Vec<&str> = decision.steps.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, STEPS.map(|s| s.0), "the shape never changes");
        assert_eq!(decision.outcome.is_ok(), decision.steps.iter().all(|s| s.code.is_none()));
        assert_eq!(
            decision.outcome.is_ok(),
            decision.steps.last().unwrap().passed(),
            "a value was looked up"
        );
        decision.outcome.map(|r| r.value.to_vec()).map_err(|f| f.code)
    }

    fn ask(&self, claims: &Value, wanted: &str) -> Result<Vec<u8>, Code> {
        self.ask_at(claims, wanted, NOW)
    }
}

#[test]
fn a_registered_workload_gets_its_own_and_its_allowed_secrets() {
    let world = World::new(&registration());
    let good = claims("affirming", DIGEST);
    assert_eq!(world.ask(&good, "default/secret/own"), Ok(b"mine".to_vec()));
    assert_eq!(world.ask(&good, "default/image-key/1"), Ok(b"shared".to_vec()));
    assert_eq!(world.ask(&good, "default/secret/gone"), Err(Code::ReleaseSecretMissing));
}

#[test]
fn a_denied_path_and_an_unknown_one_look_the_same() {
    let world = World::new(&registration());
    let good = claims("affirming", DIGEST);
    assert_eq!(world.ask(&good, "default/image-key/2"), Err(Code::ReleaseDenied));
    assert_eq!(world.ask(&good, "no/such/thing"), Err(Code::ReleaseDenied));
}

#[test]
fn another_plan_gets_nothing_even_if_registered() {
    let world = World::new(&registration());
    let other_digest = DIGEST.replace("11", "77");
    let other = claims("affirming", &other_digest);
    assert_eq!(world.ask(&other, "default/secret/own"), Err(Code::ReleaseWorkloadUnknown));
    let mut second = registration();
    second.digest_hex = other_digest;
    second.secrets.clear();
    world.registry.register(&second, NOW).unwrap();
    assert_eq!(world.ask(&other, "default/secret/own"), Err(Code::ReleaseDenied));
    assert_eq!(world.ask(&other, "default/image-key/1"), Ok(b"shared".to_vec()));
}

#[test]
fn the_status_must_suffice_in_every_submodule() {
    let strict = World::new(&registration());
    let lenient = World::new(&Registration { min_status: MinStatus::Warning, ..registration() });
    let insufficient = Err(Code::ReleaseStatusInsufficient);
    for (status, lenient_ok) in
        [("warning", true), ("contraindicated", false), ("none", false), ("Affirming", false)]
    {
        let claims = claims(status, DIGEST);
        assert_eq!(strict.ask(&claims, "default/secret/own"), insufficient);
        assert_eq!(lenient.ask(&claims, "default/secret/own").is_ok(), lenient_ok, "{status}");
    }
    let mut mixed = claims("affirming", DIGEST);
    mixed["submods"]["gpu0"] = json!({"ear.status": "contraindicated"});
    assert_eq!(lenient.ask(&mixed, "default/secret/own"), insufficient);
    mixed["submods"]["gpu0"] = json!({});
    assert_eq!(lenient.ask(&mixed, "default/secret/own"), insufficient);
}

#[test]
fn simulated_evidence_is_refused_unless_the_registration_takes_it() {
    let strict = World::new(&registration());
    let lenient = World::new(&Registration { accept_simulated: true, ..registration() });
    for marker in [json!(true), json!("true"), json!(null), json!(0)] {
        let mut simulated = claims("affirming", DIGEST);
        simulated["submods"]["cpu0"]["ear.cocoon.simulated"] = marker;
        assert_eq!(strict.ask(&simulated, "default/secret/own"), Err(Code::AttestSimulatedRefused));
        assert!(lenient.ask(&simulated, "default/secret/own").is_ok());
    }
}

#[test]
fn init_data_that_no_tee_binds_counts_as_none() {
    let world = World::new(&registration());
    let mut unbound = claims("affirming", DIGEST);
    unbound["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["snp"] = json!({});
    let mut sample = claims("affirming", DIGEST);
    sample["submods"]["cpu0"]["ear.veraison.annotated-evidence"] =
        json!({"init_data": DIGEST, "sample": {"init_data": DIGEST}});
    let zero = claims("affirming", &"0".repeat(64));
    let upper = claims("affirming", &DIGEST.to_uppercase());
    for bad in [unbound, sample, zero, upper, json!({}), json!(null), json!({"submods": []})] {
        assert_eq!(world.ask(&bad, "default/secret/own"), Err(Code::ReleaseWorkloadUnknown), "{bad}");
    }
}

#[test]
fn an_expired_registration_is_none_and_is_swept_later() {
    let world = World::new(&registration());
    let good = claims("affirming", DIGEST);
    assert!(world.ask_at(&good, "default/secret/own", NOW + 99).is_ok());
    assert_eq!(world.ask_at(&good, "default/secret/own", NOW + 100), Err(Code::ReleaseWorkloadUnknown));
    let mut neighbour = registration();
    neighbour.digest_hex = format!("1f{}", "00".repeat(31));
    neighbour.expires_unix = None;
    world.registry.register(&neighbour, NOW + 200).unwrap();
    assert_eq!(world.registry.workload(DIGEST).unwrap(), None);
    assert_eq!(world.store.list("workload_secret", DIGEST, 9).unwrap(), Vec::<String>::new());
}

#[test]
fn registering_again_replaces_and_unregistering_removes_all_secrets() {
    let world = World::new(&registration());
    let good = claims("affirming", DIGEST);
    let mut again = registration();
    again.secrets = BTreeMap::from([(path("default/secret/new"), Zeroizing::new(b"new".to_vec()))]);
    world.registry.register(&again, NOW).unwrap();
    assert_eq!(world.ask(&good, "default/secret/own"), Err(Code::ReleaseDenied));
    assert_eq!(world.ask(&good, "default/secret/new"), Ok(b"new".to_vec()));
    assert_eq!(world.store.list("workload_secret", "", 9).unwrap().len(), 1);
    assert!(world.registry.unregister(DIGEST).unwrap());
    assert!(!world.registry.unregister(DIGEST).unwrap());
    assert_eq!(world.ask(&good, "default/secret/new"), Err(Code::ReleaseWorkloadUnknown));
    assert_eq!(world.store.list("workload_secret", "", 9).unwrap().len(), 0);
}

#[test]
fn secrets_are_sealed_for_their_workload() {
    let world = World::new(&registration());
    let key = world.store.list("workload_secret", "", 9).unwrap().remove(0);
    let sealed = world.store.get("workload_secret", &key).unwrap().unwrap();
    assert!(!sealed.windows(4).any(|w| w == b"mine"));
    // Somebody with the disk but not the key file moves a value to a workload of theirs.
    let mut thief = registration();
    thief.digest_hex = DIGEST.replace("11", "77");
    world.registry.register(&thief, NOW).unwrap();
    let moved = key.replace("11", "77");
    world.store.put("workload_secret", &moved, &sealed, cocoon_store::PutMode::Replace).unwrap();
    let claims = claims("affirming", &thief.digest_hex);
    assert!(matches!(
        decide(&world.registry, &claims, &path("default/secret/own"), NOW, &|| None),
        Err(Error::Store(cocoon_store::Error::Unsealable { .. }))
    ));
}

#[test]
fn longer_digests_are_bound_by_their_first_32_bytes() {
    let long = format!("{DIGEST}{}", "5a".repeat(16));
    let world = World::new(&Registration { digest_hex: long.to_uppercase(), ..registration() });
    assert_eq!(world.ask(&claims("affirming", DIGEST), "default/secret/own"), Ok(b"mine".to_vec()));
    assert_eq!(world.registry.workload(&long).unwrap().unwrap().digest_hex, long);
}

#[test]
fn registrations_out_of_bounds_are_refused() {
    let world = World::new(&registration());
    let base = registration;
    let large = Zeroizing::new(vec![0; crate::MAX_SECRET + 1]);
    for bad in [
        Registration { digest_hex: "zz".repeat(32), ..base() },
        Registration { digest_hex: "11".repeat(20), ..base() },
        Registration { digest_hex: "00".repeat(48), ..base() },
        Registration { name: String::new(), ..base() },
        Registration { name: "a\nb".into(), ..base() },
        Registration { expires_unix: Some(NOW), ..base() },
        Registration { allow: (0..300).map(|i| path(&format!("a/b/{i}"))).collect(), ..base() },
        Registration { secrets: BTreeMap::from([(path("a/b/c"), large.clone())]), ..base() },
    ] {
        assert!(world.registry.register(&bad, NOW).is_err());
    }
}

fn rule(id: &str, workload: &str, pattern: &str) -> Rule {
    Rule {
        id: id.into(),
        workload: workload.parse().unwrap(),
        path: pattern.parse().unwrap(),
        min_status: MinStatus::Affirming,
        accept_simulated: false,
        expires_unix: None,
        note: String::new(),
    }
}

#[test]
fn a_rule_releases_shared_secrets_to_the_workloads_it_names() {
    let world = World::new(&registration());
    let rules = world.registry.rules();
    let good = claims("affirming", DIGEST);
    let unregistered = claims("affirming", &DIGEST.replace("11", "77"));
    let no_plan = json!({"submods": {"cpu0": {"ear.status": "affirming"}}});
    let second = "default/image-key/2";
    let ask = |claims: &Value| world.ask(claims, second);
    assert_eq!(ask(&good), Err(Code::ReleaseDenied));
    rules.put(&rule("r", "name:web", "default/image-key/*")).unwrap();
    assert_eq!(ask(&good), Ok(b"not allowed".to_vec()));
    assert_eq!(
        world.ask_at(&good, second, NOW + 100),
        Err(Code::ReleaseWorkloadUnknown),
        "expired, so no name"
    );
    assert_eq!(ask(&unregistered), Err(Code::ReleaseWorkloadUnknown));
    assert_eq!(ask(&claims("warning", DIGEST)), Err(Code::ReleaseStatusInsufficient));
    rules.put(&rule("r", &format!("digest:{}", DIGEST.replace("11", "77")), "default/image-key/2")).unwrap();
    assert_eq!(ask(&unregistered), Ok(b"not allowed".to_vec()));
    assert_eq!(ask(&good), Err(Code::ReleaseDenied));
    assert_eq!(ask(&no_plan), Err(Code::ReleaseWorkloadUnknown));
    rules.put(&rule("r", "any", "default/*/*")).unwrap();
    assert_eq!(ask(&no_plan), Ok(b"not allowed".to_vec()));
    assert_eq!(
        world.ask(&unregistered, "default/secret/own"),
        Err(Code::ReleaseSecretMissing),
        "never another's own"
    );
    let mut simulated = no_plan.clone();
    simulated["submods"]["cpu0"]["ear.cocoon.simulated"] = json!(true);
    assert!(ask(&simulated).is_err());
    // Another issuer's token of evidence that anybody can write, without our mark.
    let mut foreign = no_plan.clone();
    foreign["submods"]["cpu0"]["ear.veraison.annotated-evidence"] = json!({"sample": {"svn": "1"}});
    assert!(ask(&foreign).is_err());
    rules.put(&Rule { accept_simulated: true, ..rule("s", "any", "default/image-key/2") }).unwrap();
    assert!(ask(&simulated).is_ok() && ask(&foreign).is_ok());
    rules.put(&Rule { expires_unix: Some(NOW), ..rule("s", "any", "default/image-key/2") }).unwrap();
    assert!(ask(&simulated).is_err());
    assert!(rules.delete("r").unwrap() && rules.delete("s").unwrap() && !rules.delete("r").unwrap());
    assert_eq!(ask(&no_plan), Err(Code::ReleaseWorkloadUnknown));
}

#[test]
fn the_resource_policy_decides_last_and_on_shared_secrets_only() {
    let mut world = World::new(&registration());
    let no_plan = json!({"submods": {"cpu0": {"ear.status": "contraindicated"}}});
    world.policy = Some(Ok(true));
    assert_eq!(world.ask(&no_plan, "default/image-key/2"), Ok(b"not allowed".to_vec()));
    assert_eq!(world.ask(&no_plan, "default/secret/own"), Err(Code::ReleaseSecretMissing));
    let good = claims("affirming", DIGEST);
    for policy in [Some(Ok(false)), Some(Err("it loops".to_owned())), None] {
        world.policy = policy;
        assert_eq!(world.ask(&no_plan, "default/image-key/2"), Err(Code::ReleaseWorkloadUnknown));
        assert_eq!(
            world.ask(&good, "default/secret/own"),
            Ok(b"mine".to_vec()),
            "the registration comes first"
        );
    }
}

#[test]
fn a_damaged_or_moved_rule_stops_decisions() {
    let world = World::new(&registration());
    let shared = world.store.clone();
    let put = |id: &str, text: &str| {
        shared.put("release_rule", id, text.as_bytes(), cocoon_store::PutMode::Upsert).unwrap();
    };
    put("x", &serde_json::to_string(&rule("y", "any", "default/*/*")).unwrap());
    let other = json!({});
    let asked = decide(&world.registry, &other, &path("default/image-key/2"), NOW, &|| None);
    assert!(matches!(asked, Err(Error::Record(_))));
}
