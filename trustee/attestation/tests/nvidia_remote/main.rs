//! NVIDIA's devices with its remote attestation service: a real report of a Hopper GPU, and own devices with test keys.
#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

/// The factory of own devices of the verifier's tests.
#[path = "../../../../core/evidence/src/nvidia/tests/devices.rs"]
mod devices;
mod machine;
mod service;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_attestation::{
    Appraisal, AppraisalRequest, Appraiser, Binding, Config, Item, NoCollateral, RemoteVerifier,
};
use cocoon_collateral::{Endpoint, Nras, Times};
use cocoon_evidence::nvidia::{Architecture, Device, DeviceEvidence, Evidence, Trust};
use cocoon_evidence::x509;
use cocoon_policy::Policies;
use cocoon_protocol::Tee;
use cocoon_protocol::token::Status;
use cocoon_reference::{ReferenceValue, ReferenceValues};
use cocoon_stage::Code;
use cocoon_store::MemoryStore;
use serde_json::{Value, json};
use service::{Bundle, Mood, Service};

/// 2026-06-01.
const NOW: u64 = 1_780_272_000;
const NONCE: &str = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";
const KEYS: &str = "/.well-known/jwks.json";
const GPU: &str = "/v4/attest/gpu";
const SWITCH: &str = "/v4/attest/switch";

struct Asking {
    nras: Nras,
    runtime: tokio::runtime::Runtime,
}

impl RemoteVerifier for Asking {
    fn verify(&self, evidence: &Evidence, report_data: &[u8], now_unix: u64) -> Vec<Device> {
        let budget = Duration::from_secs(5);
        self.runtime.block_on(self.nras.verify(evidence, report_data, now_unix, budget))
    }
}

/// An appraiser that asks a service, and the service's time.
struct World {
    appraiser: Appraiser,
    references: ReferenceValues,
    seconds: Arc<AtomicU64>,
}

fn world(url: &str, trust: Trust) -> World {
    let seconds = Arc::new(AtomicU64::new(NOW));
    let hands = seconds.clone();
    let times = Times {
        connect: Duration::from_secs(1),
        idle: Duration::from_millis(700),
        total: Duration::from_millis(2500),
    };
    let clock = Arc::new(move || hands.load(Ordering::SeqCst) * 1000);
    let nras = Nras::new(&Endpoint::new(url), times, clock).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    appraiser(Some(Arc::new(Asking { nras, runtime })), trust, seconds)
}

fn appraiser(remote: Option<Arc<dyn RemoteVerifier>>, nvidia: Trust, seconds: Arc<AtomicU64>) -> World {
    let store = Arc::new(MemoryStore::new());
    let references = ReferenceValues::new(store.clone());
    let config = Config {
        trust: cocoon_evidence::Trust { nvidia, ..cocoon_evidence::Trust::default() },
        collateral: Arc::new(NoCollateral),
        nvidia_remote: remote,
        issue_contraindicated: false,
    };
    let appraiser = Appraiser::new(config, references.clone(), Arc::new(Policies::new(store)));
    World { appraiser, references, seconds }
}

impl World {
    fn register(&self, name: &str, value: &str) {
        let record = ReferenceValue {
            name: name.into(),
            values: vec![json!(value)],
            source: "test".into(),
            ..ReferenceValue::default()
        };
        self.references.put(&[record]).unwrap();
    }

    fn appraise(&self, evidence: &Value, report_data: Option<&[u8]>) -> Appraisal {
        let item = Item {
            tee: Tee::Nvidia,
            evidence,
            report_data,
            init_data: Binding::None,
            runtime_data: None,
            activated: None,
        };
        let now_unix = NOW;
        let request = AppraisalRequest { items: vec![item], policy_id: "default", now_unix };
        self.appraiser.appraise(&request).unwrap()
    }
}

fn code(appraisal: &Appraisal) -> Option<Code> {
    appraisal.outcome.as_ref().err().map(|failure| failure.code)
}

/// The first failed check: its name, code and what was got.
fn first_failed(appraisal: &Appraisal) -> (&'static str, Code, String) {
    let failed = appraisal.checks.iter().find_map(|c| Some((c.name, c.code?, c.got.clone())));
    failed.expect("a failed check")
}

/// Real evidence of a Hopper GPU, or `None` (and a note) where the vectors are not at hand.
fn hopper() -> Option<Value> {
    let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors"));
    let folder = std::env::var_os("COCOON_VECTORS").map_or(default, PathBuf::from).join("nvidia");
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let files = read("hopperAttestationReport.txt").zip(read("hopper_cert_chain_case1.txt"));
    let Some((report, chain)) = files else {
        println!("skipped: no vectors in {}", folder.display());
        return None;
    };
    Some(json!({ "device_evidence_list": [{
        "arch": "HOPPER", "uuid": "GPU-1",
        "evidence": String::from_utf8(report).unwrap().trim(), "certificate": STANDARD.encode(chain),
    }] }))
}

fn nonce() -> Vec<u8> {
    hex::decode(NONCE).unwrap()
}

fn hopper_world(service: &Service) -> World {
    let world = world(&service.url, Trust::default());
    world.register("allowed_driver_versions", "550.90.07");
    world.register("allowed_vbios_versions", "96.00.9F.00.01");
    world
}

#[test]
fn a_real_gpu_that_the_service_knows_is_affirmed() {
    let Some(evidence) = hopper() else { return };
    let service = Service::start();
    let world = hopper_world(&service);
    let appraisal = world.appraise(&evidence, Some(&nonce()));
    let submods = appraisal.outcome.unwrap();
    assert_eq!(submods.keys().collect::<Vec<_>>(), ["gpu0"]);
    let (gpu, vector) = (&submods["gpu0"], submods["gpu0"].vector);
    assert_eq!((vector.executables, vector.hardware, vector.configuration), (3, 2, 2));
    assert_eq!(gpu.status, Status::Affirming);
    assert!(!appraisal.simulated);
    // Both verdicts are told.
    for name in ["certificates.chain", "report.fwid", "overall.signature", "token.digest", "nras.devices"] {
        assert!(appraisal.checks.iter().any(|check| check.name == name), "{name}");
    }
    // And both claims.
    let claims = &gpu.annotated_evidence["nvidia"];
    assert_eq!((&claims["arch"], &claims["nonce"]), (&json!("Hopper"), &json!(NONCE)));
    assert!(claims["measurements"].is_object() && claims["config"].is_object());
    assert_eq!((&claims["measres"], &claims["dbgstat"]), (&json!("success"), &json!("disabled")));
    assert_eq!(claims["hwmodel"], "as the service names it");
    assert_eq!(claims["x-nvidia-gpu-attestation-report-nonce-match"], true);
    assert_eq!(claims["x-nvidia-overall-att-result"], true);
    assert_eq!(service.asked(), [GPU, KEYS]);
    let body = &service.bodies()[0];
    assert_eq!((&body["nonce"], &body["arch"]), (&json!(NONCE), &json!("HOPPER")));
    // Keys are kept.
    assert_eq!(code(&world.appraise(&evidence, Some(&nonce()))), None);
    assert_eq!(service.asked(), [GPU]);
    // What NVIDIA found is for policies to judge.
    service.state().alter = |bundle| bundle.devices[0].1["measres"] = json!("fail");
    assert_eq!(code(&world.appraise(&evidence, Some(&nonce()))), Some(Code::AttestMeasurementUnknown));
    service.state().alter = |bundle| bundle.devices[0].1["secboot"] = json!(false);
    let open = world.appraise(&evidence, Some(&nonce())).outcome.unwrap();
    assert_eq!((open["gpu0"].vector.configuration, open["gpu0"].status), (36, Status::Warning));
    // Without the service no more is known of what it runs than before.
    let alone = appraiser(None, Trust::default(), Arc::default());
    assert_eq!(code(&alone.appraise(&evidence, Some(&nonce()))), Some(Code::AttestMeasurementUnknown));
}

#[test]
fn what_does_not_verify_here_is_not_sent() {
    let Some(evidence) = hopper() else { return };
    let service = Service::start();
    let world = hopper_world(&service);
    let refused = world.appraise(&evidence, Some(&[7; 32]));
    assert_eq!(code(&refused), Some(Code::AttestReportDataMismatch));
    let mut other = evidence.clone();
    let list = other["device_evidence_list"].as_array_mut().unwrap();
    list.push(list[0].clone());
    assert_eq!(code(&world.appraise(&other, Some(&nonce()))), Some(Code::AttestEvidenceMalformed));
    // The service cannot be asked without a challenge.
    let refused = world.appraise(&evidence, None);
    assert_eq!(first_failed(&refused).0, "nras.asked");
    assert_eq!(code(&refused), Some(Code::AttestReportDataMismatch));
    assert_eq!(service.asked(), [""; 0]);
}

#[test]
fn a_wrong_answer_has_its_reason() {
    let Some(evidence) = hopper() else { return };
    let service = Service::start();
    let world = hopper_world(&service);
    type Case = (&'static str, fn(&mut Bundle), &'static str, Code);
    let cases: [Case; 9] = [
        (
            "nonce of the answer",
            |b| b.overall["eat_nonce"] = json!("00"),
            "overall.nonce",
            Code::AttestReportDataMismatch,
        ),
        (
            "nonce of the device",
            |b| b.devices[0].1["eat_nonce"] = json!("00"),
            "token.nonce",
            Code::AttestReportDataMismatch,
        ),
        (
            "nonce of the report",
            |b| b.devices[0].1["x-nvidia-gpu-attestation-report-nonce-match"] = json!(false),
            "report.nonce",
            Code::AttestReportDataMismatch,
        ),
        ("expired", |b| b.overall["exp"] = json!(NOW), "overall.dates", Code::AttestCertificateExpired),
        ("issuer", |b| b.overall["iss"] = json!("https://h"), "overall.issuer", Code::AttestChainUntrusted),
        ("another place", |b| b.devices[0].0 = "GPU-1".into(), "nras.devices", Code::AttestEvidenceMalformed),
        (
            "one more",
            |b| {
                let mut more = b.devices[0].clone();
                (more.0, more.1["ueid"]) = ("GPU-1".into(), json!("1"));
                b.devices.push(more);
            },
            "nras.devices",
            Code::AttestEvidenceMalformed,
        ),
        (
            "another device",
            |b| b.devices[0].1["ueid"] = json!("1"),
            "nras.ueid",
            Code::AttestEvidenceMalformed,
        ),
        ("none", |b| b.devices.clear(), "nras.answer", Code::AttestCollateralInvalid),
    ];
    for (what, alter, name, expected) in cases {
        service.state().alter = alter;
        let refused = world.appraise(&evidence, Some(&nonce()));
        let (check, check_code, got) = first_failed(&refused);
        assert_eq!((check, check_code, code(&refused)), (name, expected, Some(expected)), "{what}: {got}");
        service.state().alter = |_| {};
        assert_eq!(code(&world.appraise(&evidence, Some(&nonce()))), None, "after: {what}");
    }
}

#[test]
fn no_answer_is_no_token() {
    let Some(evidence) = hopper() else { return };
    let service = Service::start();
    let world = hopper_world(&service);
    let (missing, invalid) = (Code::AttestCollateralMissing, Code::AttestCollateralInvalid);
    for (mood, expected, words) in [
        (Mood::Hang, missing, "cannot be reached"),
        (Mood::Status(500, "", ""), missing, "status 500"),
        (Mood::Endless, invalid, "wrong answer"),
        (Mood::Status(302, "location: http://127.0.0.1:1/\r\n", ""), invalid, "a redirect"),
        (Mood::Status(400, "", "{\"message\": \"bad\u{7} nonce\"}"), invalid, "bad? nonce"),
        (Mood::Status(404, "", ""), invalid, "status 404"),
        (Mood::Raw(""), invalid, "NRAS answer"),
        (Mood::Raw("[[\"JWT\",\"a.b.c\"],{\"GPU-0\":\"a.b.c\"}]"), invalid, "NRAS token"),
    ] {
        service.state().mood = mood;
        let refused = world.appraise(&evidence, Some(&nonce()));
        let (check, check_code, got) = first_failed(&refused);
        assert_eq!((check, check_code, code(&refused)), ("nras.answer", expected, Some(expected)), "{got}");
        assert!(got.contains(words), "{words}: {got}");
    }
    service.state().mood = Mood::Forged;
    let refused = world.appraise(&evidence, Some(&nonce()));
    assert_eq!(first_failed(&refused).0, "overall.signature");
    assert_eq!(code(&refused), Some(Code::AttestSignatureInvalid));
    // It asked for patience, and is left alone for so long.
    service.state().mood = Mood::Status(429, "retry-after: 30\r\n", "");
    for hits in [1, 0] {
        service.asked();
        let refused = world.appraise(&evidence, Some(&nonce()));
        assert_eq!((code(&refused), service.asked().len()), (Some(missing), hits));
        assert!(first_failed(&refused).2.contains("30 s"));
    }
    service.state().mood = Mood::Honest;
    world.seconds.fetch_add(31, Ordering::SeqCst);
    assert_eq!(code(&world.appraise(&evidence, Some(&nonce()))), None);
    // Nobody is there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = self::world(&format!("http://{closed}"), Trust::default());
    let refused = world.appraise(&evidence, Some(&nonce()));
    assert_eq!((first_failed(&refused).0, code(&refused)), ("nras.answer", Some(missing)));
}

#[test]
fn keys_are_fetched_again_when_they_change() {
    let Some(evidence) = hopper() else { return };
    let service = Service::start();
    let world = hopper_world(&service);
    let appraise = || code(&world.appraise(&evidence, Some(&nonce())));
    let later = |seconds| world.seconds.fetch_add(seconds, Ordering::SeqCst);
    service.state().keys = false;
    assert_eq!(
        (appraise(), service.asked()),
        (Some(Code::AttestCollateralMissing), vec![GPU.into(), KEYS.into()])
    );
    assert_eq!((appraise(), service.asked()), (Some(Code::AttestCollateralMissing), vec![GPU.into()]));
    service.state().keys = true;
    later(6);
    assert_eq!((appraise(), service.asked()), (None, vec![GPU.into(), KEYS.into()]));
    service.rotate("two");
    // A moment ago there was no such key: no flood of requests for keys.
    assert_eq!((appraise(), service.asked()), (Some(Code::AttestSignatureInvalid), vec![GPU.into()]));
    later(61);
    assert_eq!((appraise(), service.asked()), (None, vec![GPU.into(), KEYS.into()]));
    // A key of the same id with other bytes.
    service.rotate("two");
    assert_eq!((appraise(), service.asked()), (Some(Code::AttestSignatureInvalid), vec![GPU.into()]));
    later(6 * 3600);
    assert_eq!((appraise(), service.asked()), (None, vec![GPU.into(), KEYS.into()]));
    // Keys that are over are not used, even if no others can be had.
    service.state().keys = false;
    later(6 * 3600);
    assert_eq!(appraise(), Some(Code::AttestCollateralMissing));
}

#[test]
fn only_safe_addresses_are_asked() {
    for url in ["http://nras.example", "https://u:p@nras.example", "https://nras.example/?x", "nras"] {
        assert!(Nras::new(&Endpoint::new(url), Nras::TIMES, Arc::new(|| 0)).is_err(), "{url}");
    }
    assert!(Nras::new(&Endpoint::new(Nras::URL), Nras::TIMES, Arc::new(|| 0)).is_ok());
}
