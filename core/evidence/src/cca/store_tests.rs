//! Lifecycle and reference values, and stores that are refused.

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::tests::{example, failed, json_vector};
use super::*;
use crate::{Error, Expectation};

const NOTHING: Expectation<'_> = Expectation { report_data: None, init_data_digest: None, now_unix: 0 };

/// The example's claims with another platform, unsigned: what fails beside its signature is what is asked for.
fn altered(alter: impl FnOnce(&mut Platform)) -> Option<(Evidence, Store)> {
    let (evidence, store) = example()?;
    let mut builder = TokenBuilder::new(&evidence.realm().public_key);
    builder.platform = evidence.platform().clone();
    builder.realm = evidence.realm().clone();
    alter(&mut builder.platform);
    let keep = |signature: &[u8]| Ok::<_, Error>(signature.to_vec());
    let evidence = builder
        .sign_with(|_| keep(&evidence.platform_signed.signature), |_| keep(&evidence.realm_signed.signature))
        .unwrap();
    Some((evidence, store))
}

type Alter = dyn Fn(&mut Vec<SwComponent>);

fn code_of(evidence: &Evidence, store: &Store, name: &str) -> Option<Code> {
    let verdict = verify(evidence, store, &Rules::default(), &NOTHING);
    assert!(failed(&verdict).contains(&"platform.signature"), "it was altered");
    verdict.checks.iter().find(|c| c.name == name).unwrap().code
}

#[test]
fn only_a_secured_platform_is_accepted() {
    let cases = [
        (0x0000, Some(Code::AttestTcbRevoked)),
        (0x10ff, Some(Code::AttestTcbRevoked)),
        (0x2000, Some(Code::AttestTcbRevoked)),
        (0x3000, None),
        (0x30ff, None),
        (0x4000, Some(Code::AttestDebugEnabled)),
        (0x40ff, Some(Code::AttestDebugEnabled)),
        (0x5001, Some(Code::AttestDebugEnabled)),
        (0x6000, Some(Code::AttestTcbRevoked)),
    ];
    for (lifecycle, code) in cases {
        let Some((evidence, store)) = altered(|p| p.lifecycle = lifecycle) else { return };
        assert_eq!(code_of(&evidence, &store, "platform.lifecycle"), code, "{lifecycle:#x}");
    }
    for undefined in [0x0100, 0x2fff, 0x3100, 0x7000, 0xffff] {
        assert_eq!(Lifecycle::of(undefined), None);
    }
}

#[test]
fn every_component_must_be_a_references_and_the_other_way_round() {
    let components = |alter: &Alter| {
        let (evidence, store) = altered(|p| alter(&mut p.sw_components))?;
        let verdict = verify(&evidence, &store, &Rules::default(), &NOTHING);
        let check = verdict.checks.into_iter().find(|c| c.name == "platform.sw-components").unwrap();
        Some((check.code, check.got))
    };
    let Some((code, got)) = components(&|_| ()) else { return };
    assert_eq!((code, got.as_str()), (None, "all 13"));
    assert_eq!(components(&|list| list.reverse()).unwrap().0, None);
    let unknown = Some(Code::AttestMeasurementUnknown);
    let cases: [&Alter; 7] = [
        &|list| list[8].measurement_value[0] ^= 1,
        &|list| list[8].signer_id[0] ^= 1,
        &|list| list[8].measurement_type = Some("RMN".to_owned()),
        &|list| list[8].measurement_type = None,
        &|list| drop(list.pop()),
        &|list| list.push(list[0].clone()),
        &|list| list[1] = list[0].clone(),
    ];
    for (i, case) in cases.iter().enumerate() {
        let (code, got) = components(case).unwrap();
        assert_eq!(code, unknown, "case {i}: {got}");
        assert!(got.len() < 250, "{got}");
    }
    assert_eq!(
        components(cases[0]).unwrap().1,
        "1 unknown (RMM a0fb50e6c86fae16…), 1 missing (RMM a1fb50e6c86fae16…)"
    );
    assert_eq!(components(cases[5]).unwrap().1, "14 components, some repeated");
    // Waiving reference values waives none that the store has.
    let (evidence, store) = altered(|p| cases[0](&mut p.sw_components)).unwrap();
    let rules = Rules { platform_references_optional: true, realm_references_ignored: true };
    assert!(failed(&verify(&evidence, &store, &rules, &NOTHING)).contains(&"platform.sw-components"));
}

#[test]
fn a_component_of_another_version_is_outdated() {
    let Some(mut references) = json_vector("rvstore.json") else { return };
    references["platform"][0]["sw-components"][8]["version"] = json!("2.0");
    let store = Store::from_json(&json!([]), &references).unwrap();
    let version = |version: Option<&str>, measurement: u8| {
        let alter = |p: &mut Platform| {
            p.sw_components[8].version = version.map(str::to_owned);
            p.sw_components[8].measurement_value[0] ^= measurement;
        };
        code_of(&altered(alter).unwrap().0, &store, "platform.sw-components")
    };
    assert_eq!(version(Some("2.0"), 0), None);
    assert_eq!(version(Some("1.9"), 1), Some(Code::AttestTcbOutdated));
    assert_eq!(version(Some("1.9"), 0), Some(Code::AttestTcbOutdated));
    assert_eq!(version(Some("2.0"), 1), Some(Code::AttestMeasurementUnknown));
    assert_eq!(version(None, 0), Some(Code::AttestMeasurementUnknown), "a stated version must be shown");
}

#[test]
fn configuration_and_components_must_be_of_one_state() {
    let Some(mut references) = json_vector("rvstore.json") else { return };
    let good = references["platform"][0].clone();
    let mut other = good.clone();
    other["platform-configuration"] = json!("00");
    let states = references["platform"].as_array_mut().unwrap();
    states.insert(0, other);
    let both = Store::from_json(&json!([]), &references).unwrap();
    let Some((evidence, _)) = altered(|_| ()) else { return };
    let check = |store: &Store, name| {
        let verdict = verify(&evidence, store, &Rules::default(), &NOTHING);
        verdict.checks.iter().find(|c| c.name == name).unwrap().code
    };
    assert_eq!(check(&both, "platform.config"), None, "the second state is its");
    assert_eq!(check(&both, "platform.sw-components"), None);
    // The right configuration with other components, and the other way round, are together no good state.
    references["platform"][1]["sw-components"][0]["signer-id"] = json!("00".repeat(32));
    let mixed = Store::from_json(&json!([]), &references).unwrap();
    let results = [check(&mixed, "platform.config"), check(&mixed, "platform.sw-components")];
    assert!(results.iter().any(Option::is_some), "{results:?}");
}

#[test]
fn realms_are_compared_where_the_store_has_any() {
    let (Some((evidence, _)), Some(references)) = (example(), json_vector("rvstore.json")) else { return };
    let anchors = json_vector("tastore.json").unwrap();
    let failures = |alter: &dyn Fn(&mut Value)| {
        let mut references = references.clone();
        alter(&mut references["realm"][0]);
        let store = Store::from_json(&anchors, &references).unwrap();
        failed(&verify(&evidence, &store, &Rules::default(), &NOTHING))
    };
    let none = Vec::<&str>::new();
    assert_eq!(failures(&|_| ()), none);
    let remove = |realm: &mut Value, name: &str| drop(realm.as_object_mut().unwrap().remove(name));
    assert_eq!(failures(&|realm| remove(realm, "extensible-measurements")), none);
    assert_eq!(failures(&|realm| remove(realm, "personalization-value")), none);
    let other = |name: &'static str, value: Value| failures(&move |realm| realm[name] = value.clone());
    let refused = ["realm.measurements"];
    assert_eq!(other("initial-measurement", json!("00".repeat(64))), refused);
    assert_eq!(other("rak-hash-algorithm", json!("sha-512")), refused);
    assert_eq!(other("personalization-value", json!("01".repeat(64))), refused);
    assert_eq!(
        other(
            "extensible-measurements",
            json!(["00".repeat(32), "00".repeat(64), "00".repeat(64), "00".repeat(64)])
        ),
        refused
    );
}

#[test]
fn a_store_that_is_not_of_its_form_is_refused() {
    let (Some(anchors), Some(references)) = (json_vector("tastore.json"), json_vector("rvstore.json")) else {
        return;
    };
    assert!(Store::from_json(&anchors, &references).is_ok());
    assert!(Store::from_json(&json!([]), &json!({})).is_ok());
    assert!(Store::from_json(&Value::Null, &references).is_err());
    assert!(Store::from_json(&anchors, &Value::Null).is_err());
    let anchor = |pointer: &str, value: Value| {
        let mut anchors = anchors.clone();
        match anchors.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                anchors.pointer_mut(parent).unwrap()[name] = value;
            }
        }
        Store::from_json(&anchors, &references).map(|_| ()).unwrap_err().to_string()
    };
    let private = json_vector("cpak-priv.json").unwrap();
    let error = anchor("/0/pkey", private.clone());
    assert!(error.contains("unknown field `d`") && !error.contains(private["d"].as_str().unwrap()));
    anchor("/0/pkey/x", json!("AAAA"));
    anchor("/0/pkey/y", private["x"].clone());
    anchor("/0/pkey/crv", json!("P-256"));
    anchor("/0/pkey/kty", json!("OKP"));
    anchor("/0/pkey/alg", json!("ES256"));
    anchor("/0/pkey/use", json!("enc"));
    anchor("/0/instance-id", json!("02".repeat(33)));
    anchor("/0/instance-id", json!("01".repeat(32)));
    anchor("/0/implementation-id", json!("zz"));
    anchor("/0/revoked", json!(true));
    assert!(Store::from_json(&json!([null]), &references).is_err());
    let twice = json!([anchors[0], anchors[0]]);
    assert!(Store::from_json(&twice, &references).is_err(), "two keys for one instance");
    let reference = |pointer: &str, value: Value| {
        let mut references = references.clone();
        *references.pointer_mut(pointer).unwrap() = value;
        assert!(Store::from_json(&anchors, &references).is_err(), "{pointer}");
    };
    reference("/platform/0/sw-components", json!([]));
    reference("/platform/0/sw-components/3/measurement-value", json!("00"));
    reference("/platform/0/sw-components/3/component-type", json!(7));
    reference("/platform/0/platform-configuration", json!(""));
    reference("/platform/0/implementation-id", json!("00"));
    reference("/platform", json!(vec![references["platform"][0].clone(); 65]));
    reference("/realm/0/rak-hash-algorithm", json!("md5"));
    reference("/realm/0/extensible-measurements", json!([]));
    reference("/realm/0/extensible-measurements", json!(vec!["00".repeat(32); 5]));
    reference("/realm/0/personalization-value", json!("00"));
    reference("/realm", json!(vec![references["realm"][0].clone(); 4097]));
    assert_eq!(
        format!("{:?}", Store::from_json(&anchors, &references).unwrap()),
        "Store(1 anchors, 1 platform and 1 realm states)"
    );
}
