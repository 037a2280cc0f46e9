//! The example token of CoCo's tests against its own stores, and tokens of our own made with its private keys and with
//! fresh ones. None comes from a production platform: there is no public one.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cocoon_stage::Code;
use serde_json::Value;

use super::cbor::Encoder;
use super::*;
pub(super) use crate::testing::vector;
use crate::x509::Hash;
use crate::{Error, Expectation, Verdict};

pub(super) fn json_vector(name: &str) -> Option<Value> {
    vector(name).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

/// The example token and its stores.
pub(super) fn example() -> Option<(Evidence, Store)> {
    let evidence = Evidence::parse(vector("cca-example-token.cbor")?).unwrap();
    let store = Store::from_json(&json_vector("tastore.json")?, &json_vector("rvstore.json")?).unwrap();
    Some((evidence, store))
}

pub(super) fn expecting(report_data: &[u8]) -> Expectation<'_> {
    Expectation { report_data: Some(report_data), init_data_digest: None, now_unix: 0 }
}

pub(super) fn failed(verdict: &Verdict) -> Vec<&'static str> {
    assert_eq!(verdict.ok(), !verdict.claims.is_null());
    verdict.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}

/// A private key of the vectors, or a fresh one.
struct Key(EcdsaKeyPair);

impl Key {
    fn of_vector(name: &str) -> Option<Self> {
        let jwk = json_vector(name)?;
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        let point = [vec![4], part("x"), part("y")].concat();
        let algorithm = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        Some(Key(EcdsaKeyPair::from_private_key_and_public_key(algorithm, &part("d"), &point).unwrap()))
    }

    fn fresh(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        Key(EcdsaKeyPair::generate(algorithm).unwrap())
    }

    fn point(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
    }

    /// The public key as a COSE_Key.
    fn cose(&self, curve: i64, algorithm: i64) -> Vec<u8> {
        let (x, y) = self.point()[1..].split_at((self.point().len() - 1) / 2);
        let mut e = Encoder::default();
        e.map(5).int(1).int(2).int(3).int(algorithm).int(-1).int(curve).int(-2).bytes(x).int(-3).bytes(y);
        e.into_bytes()
    }
}

/// A builder with the example's claims, and its two keys.
fn maker() -> Option<(TokenBuilder, Key, Key, Store)> {
    let (evidence, store) = example()?;
    let rak = Key::of_vector("rak-priv.json")?;
    let mut builder = TokenBuilder::new(rak.point());
    builder.platform = evidence.platform().clone();
    builder.realm = evidence.realm().clone();
    Some((builder, Key::of_vector("cpak-priv.json")?, rak, store))
}

/// The example's challenge.
pub(super) const CHALLENGE: &str = "57e979ae2618de0c1ab73144c440d741cf9236dc9d52ed190053382a4d190252\
                                    f9f0370403c35dcb155fb4362d73c66d5b0494bf939315d3dc52b8cdc8b85a96";

#[test]
fn the_example_verifies_with_its_stores() {
    let Some((evidence, store)) = example() else { return };
    let report_data = hex::decode(CHALLENGE).unwrap();
    let expectation =
        Expectation { report_data: Some(&report_data), init_data_digest: Some(&[0; 32]), now_unix: 0 };
    let verdict = verify(&evidence, &store, &Rules::default(), &expectation);
    assert_eq!(failed(&verdict), Vec::<&str>::new());
    assert!(!verdict.simulated);
    let names: Vec<_> = verdict.checks.iter().map(|c| c.name).collect();
    assert_eq!(
        names,
        [
            "platform.trust-anchor",
            "platform.signature",
            "realm.signature",
            "realm.key-binding",
            "realm.challenge",
            "realm.personalization-value",
            "platform.lifecycle",
            "platform.sw-components",
            "platform.config",
            "realm.measurements",
        ]
    );
    let claims = &verdict.claims;
    assert_eq!(claims["platform"]["cca-platform-lifecycle"], 0x3003);
    assert_eq!(claims["platform"]["cca-platform-lifecycle-state"], "secured");
    assert_eq!(claims["platform"]["cca-platform-sw-components"].as_array().unwrap().len(), 13);
    assert_eq!(claims["platform"]["cca-platform-sw-components"][8]["measurement-type"], "RMM");
    assert_eq!(claims["platform"]["cca-platform-config"], STANDARD.encode([0xcf; 4]));
    assert_eq!(claims["realm"]["cca-realm-hash-algo-id"], "sha-512");
    assert_eq!(claims["realm"]["cca-realm-public-key-hash-algo-id"], "sha-256");
    let initial = claims["realm"]["cca-realm-initial-measurement"].as_str().unwrap();
    assert!(hex::encode(STANDARD.decode(initial).unwrap()).starts_with("ae87fbf7"));
    assert_eq!(claims["report_data"], CHALLENGE);
    assert_eq!(claims["init_data"], "00".repeat(64));
    assert_eq!(claims["simulated"], false);
}

/// Every claim of upstream's fixture has its name, place and type here.
#[test]
fn claims_have_upstreams_names() {
    let (Some((evidence, _)), Some(theirs)) = (example(), json_vector("cca-claims.json")) else { return };
    let ours = claims(&evidence);
    fn same_shape(ours: &Value, theirs: &Value, at: &str) {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                for (name, value) in theirs {
                    // The example's components have no version; the fixture's has.
                    let Some(mine) = ours.get(name) else { panic!("no {at}/{name}") };
                    same_shape(mine, value, &format!("{at}/{name}"));
                }
            }
            (Value::Array(ours), Value::Array(theirs)) => {
                assert!(!ours.is_empty() && !theirs.is_empty(), "{at}");
                if at != "/platform/cca-platform-sw-components" {
                    assert_eq!(ours.len(), theirs.len(), "{at}");
                    same_shape(&ours[0], &theirs[0], at);
                }
            }
            (Value::String(_), Value::String(_)) | (Value::Number(_), Value::Number(_)) => {}
            _ => panic!("{at} has another type"),
        }
    }
    same_shape(&ours, &theirs, "");
    let component = &ours["platform"]["cca-platform-sw-components"][0];
    assert!(component["measurement-type"].is_string() && component["measurement-value"].is_string());
    assert!(component["signer-id"].is_string() && component.get("version").is_none());
    assert_eq!(component["hash-algo-id"], "sha-256");
}

#[test]
fn the_example_in_any_other_light_is_refused() {
    let Some((evidence, store)) = example() else { return };
    let report_data = hex::decode(CHALLENGE).unwrap();
    let right = expecting(&report_data);
    let refuse = |store: &Store, expectation: &Expectation<'_>, code, names: &[&str]| {
        let verdict = verify(&evidence, store, &Rules::default(), expectation);
        assert_eq!(failed(&verdict), names);
        assert_eq!(verdict.failure().unwrap().code, code);
    };
    let longer = [report_data.as_slice(), &[0]].concat();
    let wrong: [&[u8]; 4] = [&[], &report_data[..63], &[7; 64], &longer];
    for other in wrong {
        refuse(&store, &expecting(other), Code::AttestReportDataMismatch, &["realm.challenge"]);
        // An initdata digest must be the whole value, zero-padded; the example has zeros.
        let init_data_digest = Some(if other.len() == 63 { &[0, 1][..] } else { other });
        let expectation = Expectation { init_data_digest, ..right };
        refuse(&store, &expectation, Code::AttestInitdataMismatch, &["realm.personalization-value"]);
    }
    let (anchors, references) = (json_vector("tastore.json").unwrap(), json_vector("rvstore.json").unwrap());
    let nothing = ["platform.trust-anchor", "platform.signature", "platform.sw-components"];
    refuse(&Store::empty(), &right, Code::AttestChainUntrusted, &nothing);
    let verdict = verify(&evidence, &Store::empty(), &Rules::default(), &right);
    assert_eq!(verdict.checks[0].got, "no trust anchor for this implementation");

    // The right key, but for another instance or implementation.
    for (member, got) in [("instance-id", "instance"), ("implementation-id", "implementation")] {
        let mut other = anchors.clone();
        let id = other[0][member].as_str().unwrap().replace("00", "01");
        other[0][member] = Value::String(id);
        let store = Store::from_json(&other, &references).unwrap();
        refuse(&store, &right, Code::AttestChainUntrusted, &["platform.trust-anchor", "platform.signature"]);
        let verdict = verify(&evidence, &store, &Rules::default(), &right);
        assert_eq!(verdict.checks[0].got, format!("no trust anchor for this {got}"));
    }
    // Another platform's key for this instance.
    let mut other = anchors.clone();
    let jwk = json_vector("rak-priv.json").unwrap();
    for part in ["x", "y"] {
        other[0]["pkey"][part] = jwk[part].clone();
    }
    let store = Store::from_json(&other, &references).unwrap();
    refuse(&store, &right, Code::AttestSignatureInvalid, &["platform.signature"]);
}

#[test]
fn without_reference_values_a_platform_passes_only_where_that_is_allowed() {
    let Some((evidence, _)) = example() else { return };
    let (anchors, none) = (json_vector("tastore.json").unwrap(), serde_json::json!({}));
    let store = Store::from_json(&anchors, &none).unwrap();
    let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: 0 };
    let verdict = verify(&evidence, &store, &Rules::default(), &expectation);
    assert_eq!(failed(&verdict), ["platform.sw-components"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestMeasurementUnknown);
    let rules = Rules { platform_references_optional: true, ..Rules::default() };
    assert_eq!(failed(&verify(&evidence, &store, &rules, &expectation)), Vec::<&str>::new());
}

#[test]
fn json_is_the_tokens_bytes() {
    let Some((evidence, _)) = example() else { return };
    let json = evidence.to_json();
    assert_eq!(json["token"].as_array().unwrap().len(), 2234);
    assert_eq!(Evidence::from_json(&json).unwrap(), evidence);
    let bad = |json: Value| assert!(Evidence::from_json(&json).is_err(), "{json}");
    bad(serde_json::json!({}));
    bad(serde_json::json!([]));
    bad(serde_json::json!({ "token": null }));
    bad(serde_json::json!({ "token": STANDARD.encode(evidence.token()) }));
    bad(serde_json::json!({ "token": [217, 256] }));
    bad(serde_json::json!({ "token": [217, -1] }));
    bad(serde_json::json!({ "token": [217, 1.0] }));
    bad(serde_json::json!({ "token": vec![0; MAX_TOKEN + 1] }));
}

/// Our encoder writes the example byte for byte, so it is no weaker a witness than the one that made the example.
#[test]
fn the_example_rebuilt_is_the_example() {
    let Some((builder, _, _, _)) = maker() else { return };
    let (evidence, _) = example().unwrap();
    let keep = |signed: &super::cose::Signed, message: &[u8]| {
        assert_eq!(signed.message, message);
        Ok::<_, Error>(signed.signature.clone())
    };
    let rebuilt = builder
        .sign_with(|m| keep(&evidence.platform_signed, m), |m| keep(&evidence.realm_signed, m))
        .unwrap();
    assert!(rebuilt == evidence);
    assert_eq!(builder.clone().bind().platform.challenge, builder.platform.challenge);
}

#[test]
fn own_tokens_for_other_challenges_verify() {
    let Some((mut builder, cpak, rak, store)) = maker() else { return };
    builder.realm.challenge = [0x5a; 64];
    builder.realm.personalization_value = std::array::from_fn(|i| if i < 48 { 0xa5 } else { 0 });
    let evidence = builder.sign_with(|m| cpak.sign(m), |m| rak.sign(m)).unwrap();
    let digest = [0xa5; 48];
    let expectation =
        Expectation { report_data: Some(&[0x5a; 64]), init_data_digest: Some(&digest), now_unix: 0 };
    let verdict = verify(&evidence, &store, &Rules::default(), &expectation);
    assert_eq!(failed(&verdict), Vec::<&str>::new());
    assert_eq!(verdict.claims["init_data"], "a5".repeat(48) + &"00".repeat(16));
    // A part of the digest, or with something behind it, is not the digest.
    for other in [&digest[..47], &[0xa5; 49], &[[0xa5; 48].as_slice(), &[1; 16]].concat()] {
        let expectation = Expectation { init_data_digest: Some(other), ..expectation };
        let verdict = verify(&evidence, &store, &Rules::default(), &expectation);
        assert_eq!(failed(&verdict), ["realm.personalization-value"]);
    }
    // The store's realm has zeros as its personalization value, which holds where no initdata was presented.
    let expectation = Expectation { init_data_digest: None, ..expectation };
    let verdict = verify(&evidence, &store, &Rules::default(), &expectation);
    assert_eq!(failed(&verdict), ["realm.measurements"]);
    let rules = Rules { realm_references_ignored: true, ..Rules::default() };
    assert_eq!(failed(&verify(&evidence, &store, &rules, &expectation)), Vec::<&str>::new());
}

#[test]
fn a_realm_key_that_the_platform_does_not_vouch_for_is_refused() {
    let Some((mut builder, cpak, rak, store)) = maker() else { return };
    let thief = Key::fresh(&signature::ECDSA_P384_SHA384_FIXED_SIGNING);
    let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: 0 };
    let fails = |evidence: &Evidence, names: &[&str]| {
        let verdict = verify(evidence, &store, &Rules::default(), &expectation);
        assert_eq!(failed(&verdict), names);
        verdict.failure().unwrap().code
    };
    // A realm token by another key than the one it names.
    let evidence = builder.sign_with(|m| cpak.sign(m), |m| thief.sign(m)).unwrap();
    assert_eq!(fails(&evidence, &["realm.signature"]), Code::AttestSignatureInvalid);
    // One that names the thief's key.
    builder.realm.public_key = thief.point().to_vec();
    let evidence = builder.sign_with(|m| cpak.sign(m), |m| thief.sign(m)).unwrap();
    assert_eq!(fails(&evidence, &["realm.key-binding"]), Code::AttestKeyUntrusted);
    // And a platform token by which the thief vouches for himself.
    let bound = builder.clone().bind();
    let evidence = bound.sign_with(|m| thief.sign(m), |m| thief.sign(m)).unwrap();
    assert_eq!(fails(&evidence, &["platform.signature"]), Code::AttestSignatureInvalid);
    // The tokens swapped: each signed by the other's key.
    builder.realm.public_key = rak.point().to_vec();
    let evidence = builder.sign_with(|m| rak.sign(m), |m| cpak.sign(m)).unwrap();
    fails(&evidence, &["platform.signature", "realm.signature"]);
    // The right key, but hashed otherwise than the realm token says.
    builder.realm.public_key_hash = Hash::Sha384;
    let evidence = builder.sign_with(|m| cpak.sign(m), |m| rak.sign(m)).unwrap();
    fails(&evidence, &["realm.key-binding", "realm.measurements"]);
    // A point that is not on the curve.
    builder.realm.public_key_hash = Hash::Sha256;
    builder.realm.public_key[96] ^= 1;
    let evidence = builder.bind().sign_with(|m| cpak.sign(m), |m| rak.sign(m)).unwrap();
    fails(&evidence, &["realm.signature"]);
}

#[test]
fn realm_keys_on_every_curve_verify_as_cose_keys() {
    let Some((mut builder, cpak, _, store)) = maker() else { return };
    builder.realm.profile = RealmProfile::Realm1;
    builder.platform.profile = PlatformProfile::Platform1;
    let curves = [
        (&signature::ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::Es256, 1),
        (&signature::ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::Es384, 2),
        (&signature::ECDSA_P521_SHA512_FIXED_SIGNING, Algorithm::Es512, 3),
    ];
    let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: 0 };
    for (signing, algorithm, curve) in curves {
        let rak = Key::fresh(signing);
        builder.realm.public_key = rak.cose(curve, algorithm.id());
        builder.realm_algorithm = algorithm;
        let bound = builder.clone().bind();
        let evidence = bound.sign_with(|m| cpak.sign(m), |m| rak.sign(m)).unwrap();
        let verdict = verify(&evidence, &store, &Rules::default(), &expectation);
        assert_eq!(failed(&verdict), Vec::<&str>::new());
        assert_eq!(verdict.claims["realm"]["cca-realm-profile"], "tag:arm.com,2023:realm#1.0.0");
        // Key, header and signature must be of one algorithm.
        let mut other = bound.clone();
        other.realm_algorithm = if curve == 1 { Algorithm::Es384 } else { Algorithm::Es256 };
        let evidence = other.sign_with(|m| cpak.sign(m), |m| rak.sign(m)).unwrap();
        let verdict = verify(&evidence, &store, &Rules::default(), &expectation);
        assert_eq!(failed(&verdict), ["realm.signature"]);
        // The same for the platform's.
        let mut other = bound.clone();
        other.platform_algorithm = Algorithm::Es512;
        let evidence = other.sign_with(|m| cpak.sign(m), |m| rak.sign(m)).unwrap();
        let verdict = verify(&evidence, &store, &Rules::default(), &expectation);
        assert_eq!(failed(&verdict), ["platform.signature"]);
    }
}
