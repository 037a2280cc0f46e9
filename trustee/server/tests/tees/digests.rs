//! Which initdata a decision takes for bound, kind by kind. Tokens as the verifiers word them.

use std::sync::Arc;

use cocoon_release::{Registry, decide};
use cocoon_store::{MemoryStore, Sealer};
use serde_json::{Value, json};

use crate::guests::OWN;
use crate::support::*;

fn registry(digest: &str) -> Registry {
    let registry = Registry::new(Arc::new(MemoryStore::new()), Arc::new(Sealer::ephemeral().unwrap()));
    let plan = init_data("x");
    let record = cocoon_trustee::Registration {
        digest_hex: digest.to_owned(),
        accept_simulated: false,
        ..registration(&plan)
    };
    registry.register(&record, 1).unwrap();
    registry
}

/// The step that decided against a guest with these claims, or `None` where the secret is released.
fn refused(registry: &Registry, tee: &str, claims: Value) -> Option<String> {
    let mut evidence = json!({ tee: claims });
    evidence["init_data"] = claims["init_data"].clone();
    let token = json!({"submods": {"cpu0": {
        "ear.status": "affirming", "ear.veraison.annotated-evidence": evidence,
    }}});
    let decision = decide(registry, &token, &path(OWN), 2, &|| None).unwrap();
    assert_eq!(decision.outcome.is_ok(), decision.steps.iter().all(|step| step.code.is_none()));
    decision.steps.into_iter().find(|step| step.code.is_some()).map(|step| step.name)
}

#[test]
fn fields_that_hold_a_digest() {
    let digest = "5a".repeat(32);
    let registry = registry(&digest);
    for (tee, length) in [("snp", 32), ("tdx", 48), ("sgx", 64), ("cca", 64)] {
        let field = |start: &str| json!({"init_data": format!("{start:0<width$}", width = 2 * length)});
        assert_eq!(refused(&registry, tee, field(&digest)), None, "{tee}");
        assert_eq!(refused(&registry, tee, field(&"5b".repeat(32))).unwrap(), "release.workload", "{tee}");
        assert_eq!(refused(&registry, tee, field("")).unwrap(), "release.init_data", "{tee}: zeros");
        if length > 32 {
            let longer = field(&"5a".repeat(48));
            assert_eq!(refused(&registry, tee, longer).unwrap(), "release.init_data", "{tee}: 48 bytes");
            let last = json!({"init_data": format!("{digest}{}1", "0".repeat(2 * length - 65))});
            assert_eq!(refused(&registry, tee, last).unwrap(), "release.init_data", "{tee}: padding");
        }
        for short in [&digest[..62], &digest.to_uppercase(), ""] {
            let claims = json!({"init_data": short});
            assert_eq!(refused(&registry, tee, claims).unwrap(), "release.init_data", "{tee} {short}");
        }
    }
}

#[test]
fn a_registration_of_48_bytes_is_no_field_of_48_bytes() {
    let digest = "5a".repeat(48);
    let registry = registry(&digest);
    for tee in ["tdx", "sgx", "cca"] {
        let claims = json!({"init_data": format!("{digest:0<128}")});
        assert_eq!(refused(&registry, tee, claims).unwrap(), "release.init_data", "{tee}");
    }
    // HOST_DATA has 32 bytes, and a longer digest is cut down to them on both sides.
    assert_eq!(refused(&registry, "snp", json!({"init_data": "5a".repeat(32)})), None);
}

#[test]
fn registers_are_not_digests() {
    let (digest, register) = ("5a".repeat(32), "77".repeat(32));
    let registry = registry(&digest);
    for tee in ["az-snp-vtpm", "az-tdx-vtpm", "tpm"] {
        let proven = |digest: &str| json!({"init_data": register, "init_data_digest": digest});
        assert_eq!(refused(&registry, tee, proven(&digest)), None, "{tee}");
        assert_eq!(refused(&registry, tee, proven(&"5b".repeat(32))).unwrap(), "release.workload", "{tee}");
        assert_eq!(refused(&registry, tee, proven(&"5a".repeat(48))).unwrap(), "release.init_data", "{tee}");
        for bare in [&register, &digest] {
            let claims = json!({ "init_data": bare });
            assert_eq!(refused(&registry, tee, claims).unwrap(), "release.init_data", "{tee}");
        }
    }
}

#[test]
fn kinds_that_bind_nothing() {
    let digest = "5a".repeat(32);
    let registry = registry(&digest);
    let kinds = cocoon_protocol::Tee::ALL.iter().map(|tee| tee.name());
    let binding = ["snp", "tdx", "sgx", "cca", "az-snp-vtpm", "az-tdx-vtpm", "tpm"];
    for tee in kinds.filter(|tee| !binding.contains(tee)) {
        let claims = json!({"init_data": digest, "init_data_digest": digest});
        assert_eq!(refused(&registry, tee, claims).unwrap(), "release.init_data", "{tee}");
    }
    // Nor does a field's name in the place of a register's, nor two kinds in one guest.
    let claims = json!({"init_data": "77".repeat(32), "init_data_digest": digest});
    assert_eq!(refused(&registry, "tdx", claims).unwrap(), "release.workload");
}
