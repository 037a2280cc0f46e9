//! Answers of NVIDIA's remote service, signed with test keys.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::super::nras::{Answer, ISSUER, Jwks, Request, group, requests, verify};
use super::devices::Vendor;
use super::*;

const CHALLENGE: [u8; 32] = [0x42; 32];

struct Service {
    key: EcdsaKeyPair,
    overall: Value,
    /// Names and claims.
    devices: Vec<(String, Value)>,
    header: Value,
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Service {
    fn new(class: &str, count: usize) -> Self {
        let common = json!({ "iss": ISSUER, "eat_nonce": hex::encode(CHALLENGE), "nbf": NOW - 5, "iat": NOW - 5, "exp": NOW + 3600 });
        let mut overall = common.clone();
        overall["x-nvidia-overall-att-result"] = json!(true);
        let device = |n: usize| {
            let mut claims = common.clone();
            claims["ueid"] = json!(n.to_string());
            claims["measres"] = json!("success");
            claims[format!("x-nvidia-{class}-attestation-report-nonce-match")] = json!(true);
            claims[format!("x-nvidia-{class}-attestation-report-signature-verified")] = json!(true);
            (format!("{}-{n}", class.to_uppercase()), claims)
        };
        Service {
            key: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            overall,
            devices: (0..count).map(device).collect(),
            header: json!({ "kid": "k1", "alg": "ES384" }),
        }
    }

    fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({ "keys": [
            { "kty": "RSA", "kid": "k0", "n": "AQAB", "e": "AQAB" },
            { "kty": "EC", "crv": "P-384", "kid": "k1", "alg": "ES384", "use": "sig",
              "x": base64url(&point[1..49]), "y": base64url(&point[49..]) },
        ] })
    }

    fn token(&self, claims: &Value) -> String {
        let signed = format!("{}.{}", base64url(self.header.to_string()), base64url(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64url(signature))
    }

    fn answer(&self) -> Value {
        let tokens: Vec<(String, String)> =
            self.devices.iter().map(|(name, claims)| (name.clone(), self.token(claims))).collect();
        let mut overall = self.overall.clone();
        if overall.get("submods").is_none() {
            let digest =
                |token: &str| json!(["DIGEST", ["SHA-256", hex::encode(digest(&SHA256, token.as_bytes()))]]);
            overall["submods"] = tokens.iter().map(|(name, token)| (name.clone(), digest(token))).collect();
        }
        let devices: Value = tokens.into_iter().map(|(name, token)| (name, json!(token))).collect();
        json!([["JWT", self.token(&overall)], devices])
    }
}

/// Requests for evidence of own devices.
fn asked(devices: &[Architecture]) -> Vec<Request> {
    let vendor = Vendor::new();
    let devices = devices.iter().map(|a| vendor.device(*a).evidence(&CHALLENGE)).collect();
    requests(&Evidence { devices }, &[&CHALLENGE[..], &[1; 16]].concat()).unwrap()
}

fn ask(service: &Service, answer: &Value, request: &Request) -> Vec<Device> {
    let jwks = Jwks::parse(service.jwks().to_string().as_bytes()).unwrap();
    let answer = Answer::parse(answer.to_string().as_bytes()).unwrap();
    assert_eq!(answer.key_ids(), ["k1"]);
    verify(request, &answer, &jwks, ISSUER, NOW)
}

#[test]
fn all_devices_of_an_architecture_are_one_request() {
    let (hopper, switch) = (Architecture::Hopper, Architecture::Ls10);
    let all = asked(&[hopper, switch, hopper]);
    let [gpus, switches] = all.as_slice() else { panic!() };
    assert_eq!((gpus.endpoint, &gpus.devices, gpus.nonce), ("gpu", &vec![0, 2], CHALLENGE));
    assert_eq!((switches.endpoint, &switches.devices), ("switch", &vec![1]));
    let body = &gpus.body;
    assert_eq!(body["nonce"], hex::encode(CHALLENGE));
    assert_eq!((&body["arch"], &body["claims_version"]), (&json!("HOPPER"), &json!("3.0")));
    let list = body["evidence_list"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    let report = STANDARD.decode(list[1]["evidence"].as_str().unwrap()).unwrap();
    assert!(Report::parse(&report, hopper).is_ok());
    assert!(STANDARD.decode(list[1]["certificate"].as_str().unwrap()).unwrap().starts_with(b"-----BEGIN"));
    assert!(requests(&Evidence { devices: Vec::new() }, &[]).is_err());
}

#[test]
fn an_answer_gives_each_devices_claims() {
    let request = &asked(&[Architecture::Hopper; 2])[0];
    let mut service = Service::new("gpu", 2);
    service.devices[1].1["measres"] = json!("fail");
    service.overall["x-nvidia-overall-att-result"] = json!(false);
    let devices = ask(&service, &service.answer(), request);
    assert_eq!(
        devices.iter().map(|d| (d.class, d.index)).collect::<Vec<_>>(),
        [("gpu", Some(0)), ("gpu", Some(1))]
    );
    for (device, (_, claims)) in devices.iter().zip(&service.devices) {
        assert_eq!(failed(&device.verdict), []);
        let mut expected = claims.clone();
        expected["x-nvidia-overall-att-result"] = json!(false);
        assert_eq!(device.verdict.claims, expected);
    }
}

type Change = fn(&mut Service);

#[test]
fn each_doubt_is_refused() {
    let overall: [(&str, Change, &str); 8] = [
        ("other issuer", |s| s.overall["iss"] = json!("https://evil"), "overall.issuer"),
        ("expired", |s| s.overall["exp"] = json!(NOW), "overall.dates"),
        ("no expiry", |s| s.overall["exp"] = json!("never"), "overall.dates"),
        ("not yet", |s| s.overall["nbf"] = json!(NOW + 61), "overall.dates"),
        ("other challenge", |s| s.overall["eat_nonce"] = json!("00"), "overall.nonce"),
        ("no challenge", |s| s.overall["eat_nonce"] = Value::Null, "overall.nonce"),
        (
            "other digest",
            |s| s.overall["submods"] = json!({ "GPU-0": ["DIGEST", ["SHA-256", "00"]] }),
            "token.digest",
        ),
        (
            "other hash",
            |s| s.overall["submods"] = json!({ "GPU-0": ["DIGEST", ["MD5", "00"]] }),
            "token.digest",
        ),
    ];
    let device: [(&str, Change, &str); 6] = [
        ("other issuer", |s| s.devices[0].1["iss"] = json!("x"), "token.issuer"),
        ("expired", |s| s.devices[0].1["exp"] = json!(NOW), "token.dates"),
        ("other challenge", |s| s.devices[0].1["eat_nonce"] = json!("00"), "token.nonce"),
        (
            "nonce",
            |s| s.devices[0].1["x-nvidia-gpu-attestation-report-nonce-match"] = json!(false),
            "report.nonce",
        ),
        (
            "nonce as text",
            |s| s.devices[0].1["x-nvidia-gpu-attestation-report-nonce-match"] = json!("true"),
            "report.nonce",
        ),
        (
            "signature",
            |s| s.devices[0].1["x-nvidia-gpu-attestation-report-signature-verified"] = Value::Null,
            "report.signature",
        ),
    ];
    let request = &asked(&[Architecture::Hopper])[0];
    for (what, change, expected) in overall.into_iter().chain(device) {
        let mut service = Service::new("gpu", 1);
        change(&mut service);
        let devices = ask(&service, &service.answer(), request);
        assert_eq!(names(&devices[0].verdict), [expected], "{what}");
    }
    for name in ["GPU-1", "GPU", "GPU-x", ""] {
        let mut service = Service::new("gpu", 1);
        service.devices[0].0 = name.to_owned();
        let devices = ask(&service, &service.answer(), request);
        assert_eq!(names(&devices[0].verdict), ["nras.devices", "token.signature"], "{name}");
    }
    // Tokens of another service, and of this one in another answer.
    let (service, other) = (Service::new("gpu", 1), Service::new("gpu", 1));
    let devices = ask(&service, &other.answer(), request);
    assert_eq!(names(&devices[0].verdict), ["overall.signature", "token.signature"]);
    let mut mixed = service.answer();
    mixed[1] = other.answer()[1].clone();
    assert_eq!(names(&ask(&service, &mixed, request)[0].verdict), ["token.signature", "token.digest"]);
    let mut earlier = service.answer();
    earlier[1] =
        Service { devices: vec![("GPU-0".into(), json!({ "ueid": "9" }))], ..service }.answer()[1].clone();
    let service = Service::new("gpu", 1);
    assert!(!ask(&service, &earlier, request)[0].verdict.ok());
}

#[test]
fn as_many_devices_as_were_asked_for_and_none_twice() {
    let request = &asked(&[Architecture::Hopper; 2])[0];
    for count in [1, 3] {
        let service = Service::new("gpu", count);
        for device in ask(&service, &service.answer(), request) {
            assert!(names(&device.verdict).contains(&"nras.devices"));
        }
    }
    // Two tokens for one place.
    let mut service = Service::new("gpu", 2);
    service.devices[1].0 = "GPU-00".into();
    let devices = ask(&service, &service.answer(), request);
    assert_eq!(names(&devices[0].verdict), ["nras.devices"]);
    assert_eq!(names(&devices[1].verdict), ["nras.devices", "token.signature"]);
    // A token of the service that was left out of the answer.
    let mut service = Service::new("gpu", 2);
    let whole = service.answer();
    let digest = |n: usize| {
        let token = whole[1][format!("GPU-{n}")].as_str().unwrap();
        json!(["DIGEST", ["SHA-256", hex::encode(digest(&SHA256, token.as_bytes()))]])
    };
    service.overall["submods"] = json!({ "GPU-0": digest(0), "GPU-1": digest(1) });
    let part = json!([["JWT", service.token(&service.overall)], { "GPU-0": whole[1]["GPU-0"] }]);
    let one = &asked(&[Architecture::Hopper])[0];
    assert_eq!(names(&ask(&service, &part, one)[0].verdict), ["token.digest"]);
    let mut service = Service::new("gpu", 2);
    service.devices[1].1["ueid"] = json!("0");
    for device in ask(&service, &service.answer(), request) {
        assert_eq!(names(&device.verdict), ["device.unique"]);
    }
    service.devices[1].1["ueid"] = Value::Null;
    assert_eq!(names(&ask(&service, &service.answer(), request)[1].verdict), ["device.unique"]);
}

#[test]
fn a_full_machine_is_a_group() {
    let all = asked(&[[Architecture::Hopper; 8].as_slice(), &[Architecture::Ls10; 4]].concat());
    let (gpus, switches) = (Service::new("gpu", 8), Service::new("switch", 4));
    let mut devices = ask(&gpus, &gpus.answer(), &all[0]);
    assert_eq!(group(&devices), None);
    devices.extend(ask(&switches, &switches.answer(), &all[1]));
    let verdict = group(&devices).unwrap().verdict;
    assert_eq!(verdict.claims, json!({ "switch_count": 4, "gpu_count": 8 }));
    devices[3].verdict.checks.clear();
    assert!(!group(&devices).unwrap().verdict.ok());
}

#[test]
fn answers_of_another_shape_are_refused() {
    let mut service = Service::new("gpu", 1);
    let good = service.answer();
    let token = good[0][1].as_str().unwrap().to_owned();
    for bad in [
        json!({}),
        json!([]),
        json!([["JWT", token], {}]),
        json!([["EAT", token], good[1]]),
        json!([["JWT", token, token], good[1]]),
        json!([["JWT", token], { "GPU-0": 1 }]),
        json!([["JWT", "a.b"], good[1]]),
        json!([["JWT", format!("{token}.x")], good[1]]),
        json!([["JWT", token], good[1], 1]),
    ] {
        assert!(Answer::parse(bad.to_string().as_bytes()).is_err(), "{bad}");
    }
    for header in [
        json!({ "alg": "none", "kid": "k1" }),
        json!({ "alg": "HS384", "kid": "k1" }),
        json!({ "alg": "ES384" }),
        json!({ "alg": "ES384", "kid": "k1", "crit": ["b64"] }),
        json!([]),
    ] {
        service.header = header;
        assert!(Answer::parse(service.answer().to_string().as_bytes()).is_err());
    }
    let keys = service.jwks()["keys"].clone();
    for bad in [
        json!({}),
        json!({ "keys": [] }),
        json!({ "keys": [keys[0]] }),
        json!({ "keys": [keys[1], keys[1]] }),
        json!({ "keys": vec![&keys[0]; 65] }),
        json!({ "keys": [{ "kty": "EC", "crv": "P-384", "kid": "k", "x": "AA", "y": "AA" }] }),
    ] {
        assert!(Jwks::parse(bad.to_string().as_bytes()).is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_altered_answer_never_verifies(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let service = Service::new("gpu", 1);
        let request = Request {
            architecture: Architecture::Hopper, endpoint: "gpu", devices: vec![0], nonce: CHALLENGE, body: Value::Null,
        };
        let mut text = service.answer().to_string().into_bytes();
        let at = at.index(text.len());
        prop_assume!(text[at] != byte);
        text[at] = byte;
        let jwks = Jwks::parse(service.jwks().to_string().as_bytes()).unwrap();
        if let Ok(answer) = Answer::parse(&text) {
            prop_assert!(!verify(&request, &answer, &jwks, ISSUER, NOW)[0].verdict.ok());
        }
    }
}
