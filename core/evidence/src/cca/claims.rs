//! Claims of a token, under the names and types that CoCo's policies read, and more.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::evidence::Evidence;
use super::realm::Realm;
use super::token::{Lifecycle, Platform, SwComponent, hash_name};

/// The claims of a token: `realm` and `platform` under Arm's names (bytes are standard base64), and `report_data` (the
/// realm's challenge) and `init_data` (its personalization value) as lower-case hex.
///
/// Upstream's local verifier gives of these the challenge, measurements, hash algorithm and personalization value of the
/// realm, and the two ids of the platform; the others are ours. It says nothing of whether the token is genuine;
/// [`super::verify`] does and adds `simulated`.
pub fn claims(evidence: &Evidence) -> Value {
    let (platform, realm) = (evidence.platform(), evidence.realm());
    json!({
        "realm": realm_claims(realm),
        "platform": platform_claims(platform),
        "report_data": hex::encode(realm.challenge),
        "init_data": hex::encode(realm.personalization_value),
    })
}

fn realm_claims(realm: &Realm) -> Value {
    let extensible: Vec<Value> = realm.extensible_measurements.iter().map(|m| bytes(m)).collect();
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
    if let Some(profile) = realm.profile.name() {
        put("cca-realm-profile", json!(profile));
    }
    put("cca-realm-challenge", bytes(&realm.challenge));
    put("cca-realm-personalization-value", bytes(&realm.personalization_value));
    put("cca-realm-initial-measurement", bytes(&realm.initial_measurement));
    put("cca-realm-extensible-measurements", Value::Array(extensible));
    put("cca-realm-hash-algo-id", json!(hash_name(realm.hash)));
    put("cca-realm-public-key", bytes(&realm.public_key));
    put("cca-realm-public-key-hash-algo-id", json!(hash_name(realm.public_key_hash)));
    Value::Object(map)
}

fn platform_claims(platform: &Platform) -> Value {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
    put("cca-platform-profile", json!(platform.profile.name()));
    put("cca-platform-implementation-id", bytes(&platform.implementation_id));
    put("cca-platform-instance-id", bytes(&platform.instance_id));
    put("cca-platform-challenge", bytes(&platform.challenge));
    put("cca-platform-config", bytes(&platform.config));
    put("cca-platform-lifecycle", json!(platform.lifecycle));
    let state = Lifecycle::of(platform.lifecycle).map(Lifecycle::name);
    put("cca-platform-lifecycle-state", json!(state));
    put("cca-platform-sw-components", platform.sw_components.iter().map(component).collect());
    if let Some(service) = &platform.verification_service {
        put("cca-platform-service-indicator", json!(service));
    }
    put("cca-platform-hash-algo-id", json!(hash_name(platform.hash)));
    Value::Object(map)
}

fn component(component: &SwComponent) -> Value {
    let mut map = Map::new();
    let texts = [
        ("measurement-type", &component.measurement_type),
        ("version", &component.version),
        ("hash-algo-id", &component.hash_algo_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            map.insert(name.to_owned(), json!(text));
        }
    }
    map.insert("measurement-value".to_owned(), bytes(&component.measurement_value));
    map.insert("signer-id".to_owned(), bytes(&component.signer_id));
    Value::Object(map)
}

fn bytes(bytes: &[u8]) -> Value {
    Value::String(STANDARD.encode(bytes))
}
