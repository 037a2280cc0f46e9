//! Several devices in one evidence, of a vendor of our own.

use std::sync::Mutex;

use cocoon_evidence::{Check, Verdict};

use super::devices::{OwnDevice, Vendor};
use super::*;

const CHALLENGE: [u8; 32] = [0x42; 32];

fn evidence(devices: &[OwnDevice]) -> Value {
    Evidence { devices: devices.iter().map(|device| device.evidence(&CHALLENGE)).collect() }.to_json()
}

/// Eight GPUs and four switches, all connected.
fn machine(vendor: &Vendor) -> Vec<OwnDevice> {
    let pdi = |n: u8| [n, 2, 3, 4, 5, 6, 7, 8];
    let switches: Vec<u8> = (1..=4).flat_map(|n| pdi(n).into_iter().rev().collect::<Vec<_>>()).collect();
    let gpus: Vec<u8> = (11..=18).flat_map(pdi).chain([0; 64]).collect();
    let device = |n: u8| {
        let mut device = vendor.device(if n < 8 { Architecture::Hopper } else { Architecture::Ls10 });
        if n < 8 {
            device.set(22, &switches);
        } else {
            device.set(22, &pdi(n - 7));
            device.set(26, &gpus);
        }
        device
    };
    (0..12).map(device).collect()
}

fn own_world(service: &Service, vendor: &Vendor) -> World {
    let world = world(&service.url, vendor.trust());
    // Of simulated devices other reference values are asked for.
    world.register("sim_allowed_driver_versions", "550.90.07");
    world.register("sim_allowed_vbios_versions", "96.00.9F.00.01");
    world.register("sim_allowed_switch_bios_versions", "96.10.55.00.01");
    world
}

#[test]
fn a_whole_machine_is_two_requests_at_once() {
    let (service, vendor) = (Service::start(), Vendor::new());
    let world = own_world(&service, &vendor);
    let devices = machine(&vendor);
    service.state().mood = Mood::Both;
    let appraisal = world.appraise(&evidence(&devices), Some(&CHALLENGE));
    assert!(appraisal.simulated);
    let submods = appraisal.outcome.unwrap();
    let mut names: Vec<String> = (0..8).map(|n| format!("gpu{n}")).collect();
    names.push("ppcie0".into());
    names.extend((0..4).map(|n| format!("switch{n}")));
    assert_eq!(submods.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(submods.values().all(|submod| submod.status == Status::Affirming));
    assert!(submods.values().all(|submod| submod.vector.configuration == 2));
    let mut asked = service.asked();
    asked.sort();
    assert_eq!(asked, [KEYS, GPU, SWITCH], "the keys once");
    let mut counts: Vec<_> =
        service.bodies().iter().map(|body| body["evidence_list"].as_array().unwrap().len()).collect();
    counts.sort();
    assert_eq!(counts, [4, 8]);

    // One bad device is the guest's fault.
    service.state().mood = Mood::Honest;
    service.state().alter = |bundle| {
        if bundle.devices.len() == 4 {
            bundle.devices[2].1["x-nvidia-switch-attestation-report-signature-verified"] = json!(false);
        }
    };
    let refused = world.appraise(&evidence(&devices), Some(&CHALLENGE));
    assert_eq!(code(&refused), Some(Code::AttestSignatureInvalid));
    let failed: Vec<_> = refused.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect();
    assert_eq!(failed, ["report.signature", "ppcie.remote"]);
    service.state().alter = |_| {};
    service.state().switches = Some(Mood::Status(503, "", ""));
    let refused = world.appraise(&evidence(&devices), Some(&CHALLENGE));
    assert_eq!(code(&refused), Some(Code::AttestCollateralMissing));
    // A device missing in the answer is missed by all of that request.
    service.state().switches = None;
    service.state().alter = |bundle| bundle.devices.truncate(7);
    let refused = world.appraise(&evidence(&devices), Some(&CHALLENGE));
    assert_eq!(first_failed(&refused).0, "nras.devices");
    // Exchanged devices are not those that were asked about.
    service.state().alter = |bundle| {
        if bundle.devices.len() == 8 {
            let (one, two) = (bundle.devices[0].1["ueid"].take(), bundle.devices[1].1["ueid"].take());
            (bundle.devices[0].1["ueid"], bundle.devices[1].1["ueid"]) = (two, one);
        }
    };
    let refused = world.appraise(&evidence(&devices), Some(&CHALLENGE));
    assert_eq!(first_failed(&refused).0, "nras.ueid");
}

#[test]
fn kinds_of_devices_are_counted_each_on_its_own() {
    let (service, vendor) = (Service::start(), Vendor::new());
    let world = own_world(&service, &vendor);
    let kinds = [Architecture::Hopper, Architecture::Ls10, Architecture::Blackwell, Architecture::Hopper];
    let devices = kinds.map(|architecture| vendor.device(architecture));
    let submods = world.appraise(&evidence(&devices), Some(&CHALLENGE)).outcome.unwrap();
    assert_eq!(submods.keys().collect::<Vec<_>>(), ["gpu0", "gpu1", "gpu2", "switch0"]);
    assert_eq!(submods["gpu1"].annotated_evidence["nvidia"]["arch"], "Blackwell");
    assert_eq!(service.bodies().len(), 3, "one request for each architecture");
    // Verified here comes first: a device below another root is refused, and nobody is asked.
    service.asked();
    let foreign = [vendor.device(Architecture::Hopper), Vendor::new().device(Architecture::Hopper)];
    let refused = world.appraise(&evidence(&foreign), Some(&CHALLENGE));
    assert_eq!((code(&refused), service.asked().len()), (Some(Code::AttestChainUntrusted), 0));
    assert_eq!(first_failed(&refused).0, "nras.asked", "of the good device");
    assert!(first_failed(&refused).2.starts_with("certificates.chain"), "the reason is the other's");
}

/// Says what it was told to say.
struct Says(Mutex<Vec<Device>>);

impl RemoteVerifier for Says {
    fn verify(&self, _: &Evidence, _: &[u8], _: u64) -> Vec<Device> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn silence_and_strange_verdicts_are_refusals() {
    let vendor = Vendor::new();
    let evidence = evidence(&[vendor.device(Architecture::Ls10)]);
    let check = |code| Check {
        name: "said",
        expected: String::new(),
        got: String::new(),
        source: String::new(),
        code,
    };
    let says = |class, index, checks: Vec<Check>, claims| {
        let verdict = Verdict { checks, claims, simulated: false };
        Device { class, index, verdict }
    };
    let good = || says("switch", Some(0), vec![check(None)], json!({ "measres": "success" }));
    let malformed = Code::AttestEvidenceMalformed;
    for (what, told, expected) in [
        ("nothing", vec![], malformed),
        ("twice", vec![good(), good()], malformed),
        ("another place", vec![Device { index: Some(1), ..good() }], malformed),
        ("no place", vec![Device { index: None, ..good() }], malformed),
        ("another class", vec![Device { class: "gpu", ..good() }], malformed),
        ("no checks", vec![says("switch", Some(0), vec![], json!({}))], malformed),
        ("no claims", vec![says("switch", Some(0), vec![check(None)], Value::Null)], malformed),
        (
            "refused, with claims",
            vec![says("switch", Some(0), vec![check(Some(Code::AttestRevoked))], json!({}))],
            Code::AttestRevoked,
        ),
    ] {
        let remote = Arc::new(Says(Mutex::new(told)));
        let refused =
            appraiser(Some(remote), vendor.trust(), Arc::default()).appraise(&evidence, Some(&CHALLENGE));
        assert_eq!(code(&refused), Some(expected), "{what}");
        assert!(refused.checks.iter().any(|check| check.code == Some(expected)), "{what}");
    }
    // And a good one is judged by the policy.
    let remote = Arc::new(Says(Mutex::new(vec![good()])));
    let judged =
        appraiser(Some(remote), vendor.trust(), Arc::default()).appraise(&evidence, Some(&CHALLENGE));
    assert_eq!(first_failed(&judged).0, "appraisal.policy");
}
