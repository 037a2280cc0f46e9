//! GPUs and DPUs of a test's own beside a simulated SNP guest.

use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use cocoon_evidence::x509::Certificate;
use cocoon_evidence::{Trust, dpu, nvidia};
use cocoon_policy::Kind;
use cocoon_protocol::{HashAlgorithm, b64, device_report_data};
use cocoon_trustee::{Limits, system_clock};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use serde_json::{Value, json};

use crate::guests::*;
use crate::support::*;

/// What an SNP guest with one more device gets; `device` makes evidence that carries this report data.
pub async fn beside(
    world: &World,
    kind: &str,
    device: &dyn Fn(&[u8]) -> Value,
) -> (Attester, Result<String, Reply>) {
    let mut guest = Attester::new(world, "snp", None).await;
    let nonce = guest.auth().await.unwrap();
    let data = device_report_data(HashAlgorithm::Sha384, &nonce, &guest.guest.key.public()).unwrap();
    let devices = json!({ kind: device(&data) }).to_string();
    let mut field = [0; 64];
    field[..48].copy_from_slice(&guest.report_data(&nonce, &devices));
    let own = evidence(world.processor, MEASUREMENT, [0; 32], POLICY, &field);
    let message = guest.message(&nonce, &own, &devices);
    let outcome = guest.answer(&message).await;
    (guest, outcome)
}

/// The code of a refusal.
pub fn denied(world: &World, (_, outcome): (Attester, Result<String, Reply>)) -> String {
    code(world, outcome)
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()
}

fn params(name: &str, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    params
}

/// TCG's DiceTcbInfo, or what NVIDIA puts in its place.
fn dice(content: Vec<u8>) -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1], content)
}

fn sign(key: &KeyPair, message: &[u8]) -> Vec<u8> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &key.serialize_der()).unwrap();
    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match (high, low) {
        (0, 0..128) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

/// A SHA-384 FWID.
fn fwid(byte: u8) -> Vec<u8> {
    let sha384 = tlv(6, &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02]);
    tlv(0x30, &[sha384, tlv(4, &[byte; 48])].concat())
}

/// A Hopper GPU below a root of its own.
struct Gpu {
    root: Certificate,
    chain: String,
    key: KeyPair,
}

impl Gpu {
    fn new() -> Gpu {
        let root_key = key();
        let root = params("SIMULATED Device Identity CA", true);
        let root_der = root.self_signed(&root_key).unwrap();
        let mut issuer = Issuer::new(root, root_key);
        let mut chain = String::new();
        let mut device = Vec::new();
        for name in ["NVIDIA Identity", "NVIDIA GH100 Provisioner ICA 1", "GH100 A01 GSP BROM"] {
            let (params, key) = (params(name, true), key());
            let certificate = params.signed_by(&key, &issuer).unwrap();
            chain = certificate.pem() + &chain;
            device = Certificate::parse(certificate.der()).unwrap().spki();
            issuer = Issuer::new(params, key);
        }
        let mut leaf = params("GH100 A01 GSP FMC LF", false);
        leaf.custom_extensions = vec![dice(tlv(0x30, &[tlv(2, &[1]), device, fwid(0x5f)].concat()))];
        let key = key();
        chain = leaf.signed_by(&key, &issuer).unwrap().pem() + &chain;
        Gpu { root: Certificate::parse(root_der.der()).unwrap(), chain, key }
    }

    fn trust(&self) -> Trust {
        let own = nvidia::Trust { device_roots: vec![self.root.clone()], ..nvidia::Trust::default() };
        Trust { nvidia: own, ..Trust::default() }
    }

    /// The SPDM request with the first 32 bytes of the report data as nonce, and the signed response.
    fn evidence(&self, report_data: &[u8]) -> Value {
        let mut report = [&[0x11, 0xe0, 1, 0xff], &report_data[..32], &[0]].concat();
        let record: Vec<u8> =
            (1..=40u8).flat_map(|index| [&[index, 1, 51, 0, 1, 48, 0][..], &[index; 48]].concat()).collect();
        report.extend([0x11, 0x60, 0, 0, 40]);
        report.extend(&u32::try_from(record.len()).unwrap().to_le_bytes()[..3]);
        report.extend(record);
        report.extend([9; 32]);
        let fields: [(u16, &[u8]); 8] = [
            (6, &[0x00, 0x9f, 0x00, 0x96, 1, 0, 0, 0]),
            (3, b"550.90.07\0"),
            (15, b"882\0"),
            (17, b"1010\0"),
            (18, b"0200\0"),
            (11, &[0xaa]),
            (20, &[0x5f; 48]),
            (35, b"GH100\0"),
        ];
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_le_bytes();
        let opaque: Vec<u8> = fields
            .iter()
            .flat_map(|(kind, value)| [&kind.to_le_bytes()[..], &length(value), value].concat())
            .collect();
        report.extend(length(&opaque));
        report.extend(opaque);
        let signature = sign(&self.key, &report);
        report.extend(signature);
        json!({"device_evidence_list": [{
            "arch": "HOPPER", "evidence": b64::std_encode(&report),
            "certificate": b64::std_encode(self.chain.as_bytes()),
        }]})
    }
}

#[tokio::test]
async fn a_gpu_beside_a_guest() {
    let gpu = Gpu::new();
    let trust = gpu.trust();
    let world = World::with(|config| config.live.trust = trust, Limits::default()).await;
    let device = |data: &[u8]| gpu.evidence(data);
    let refused = beside(&world, "nvidia", &device).await;
    assert_eq!(denied(&world, refused), "ATTEST-MEASUREMENT-UNKNOWN", "nothing was compared with manifests");
    // An owner who knows the firmware by himself says so, and of a simulated GPU under a name of its own.
    let policy = "package policy\nimport rego.v1\ndefault executables := 33\n\
                  executables := 3 if input.nvidia.fwid in query_reference_value(\"gpu_fwid\")\n\
                  trust_claims := {\"executables\": executables, \"hardware\": 2, \"configuration\": 2}";
    world.trustee.policies().put("default_gpu", Kind::Attestation, policy, "t", "", 1).unwrap();
    values(&world, &[("gpu_fwid", json!("5f".repeat(48)))]);
    let refused = beside(&world, "nvidia", &device).await;
    assert_eq!(denied(&world, refused), "ATTEST-MEASUREMENT-UNKNOWN");
    values(&world, &[("sim_gpu_fwid", json!("5f".repeat(48)))]);
    let (_, token) = beside(&world, "nvidia", &device).await;
    let claims = claims(&world, &token.unwrap());
    assert_eq!(claims["submods"].as_object().unwrap().keys().collect::<Vec<_>>(), ["cpu0", "gpu0"]);
    let of = &claims["submods"]["gpu0"];
    assert_eq!((&of["ear.status"], &of["ear.cocoon.simulated"]), (&json!("affirming"), &json!(true)));
    let said = &of["ear.veraison.annotated-evidence"];
    assert_eq!(
        (&said["nvidia"]["arch"], &said["nvidia"]["measres"]),
        (&json!("Hopper"), &json!("not-compared"))
    );
    // The same report again, for the next challenge.
    let stale = gpu.evidence(&[7; 48]);
    let refused = beside(&world, "nvidia", &|_: &[u8]| stale.clone()).await;
    assert_eq!(denied(&world, refused), "ATTEST-REPORT-DATA-MISMATCH");
    // One device shown twice is not two.
    let twice = |data: &[u8]| {
        let mut evidence = gpu.evidence(data);
        let list = evidence["device_evidence_list"].as_array_mut().unwrap();
        list.push(list[0].clone());
        evidence
    };
    let refused = beside(&world, "nvidia", &twice).await;
    assert_eq!(denied(&world, refused), "ATTEST-EVIDENCE-MALFORMED");
    world.stop().await;
    // Below NVIDIA's root there is no such GPU.
    let strict = World::new().await;
    let refused = beside(&strict, "nvidia", &device).await;
    let refused = denied(&strict, refused);
    assert!(["ATTEST-CHAIN-UNTRUSTED", "ATTEST-SIMULATED-REFUSED"].contains(&refused.as_str()), "{refused}");
    strict.stop().await;
}

/// A BlueField DPU whose alias key is so many seconds old.
struct Dpu {
    root: Certificate,
    device: Vec<u8>,
    alias: Vec<u8>,
    key: KeyPair,
}

impl Dpu {
    fn new(age: u64) -> Dpu {
        let root_key = key();
        let root = params("DPU Root", true);
        let root_der = root.self_signed(&root_key).unwrap();
        let root = Issuer::new(root, root_key);
        let mut device = params("bluefield3", true);
        let fwids = tlv(0xa6, &[fwid(0xaa), fwid(0xbb)].concat());
        let info = [tlv(0x82, b"1.2"), tlv(0x83, &[3]), fwids].concat();
        device.custom_extensions = vec![dice(tlv(0x30, &info))];
        let device_key = key();
        let device_der = device.signed_by(&device_key, &root).unwrap().der().to_vec();
        let device = Issuer::new(device, device_key);
        let mut alias = params("alias", false);
        alias.not_before = (UNIX_EPOCH + Duration::from_secs(system_clock()() - age)).into();
        let key = key();
        let alias = alias.signed_by(&key, &device).unwrap().der().to_vec();
        Dpu { root: Certificate::parse(root_der.der()).unwrap(), device: device_der, alias, key }
    }

    fn trust(&self) -> Trust {
        let own = dpu::Trust { roots: vec![self.root.clone()], max_certificate_age_seconds: 3600 };
        Trust { dpu: own, ..Trust::default() }
    }

    fn evidence(&self, report_data: &[u8]) -> Value {
        let mut message = report_data.to_vec();
        message.resize(64, 0);
        json!({"version": 1, "devices": [{
            "architecture": "bluefield3",
            "alias_cert": b64::std_encode(&self.alias),
            "device_id_cert": b64::std_encode(&self.device),
            "report_data_signature": b64::std_encode(&sign(&self.key, &message)),
        }]})
    }
}

#[tokio::test]
async fn a_dpu_beside_a_guest() {
    let dpu = Dpu::new(60);
    let trust = dpu.trust();
    let world = World::with(|config| config.live.trust = trust, Limits::default()).await;
    let device = |data: &[u8]| dpu.evidence(data);
    let refused = beside(&world, "nvidia-dpu", &device).await;
    assert_eq!(denied(&world, refused), "ATTEST-MEASUREMENT-UNKNOWN");
    // Every layer must be known.
    values(&world, &[("dpu_device_class", json!("bluefield3")), ("dpu_fwids", json!("aa".repeat(48)))]);
    let refused = beside(&world, "nvidia-dpu", &device).await;
    assert_eq!(denied(&world, refused), "ATTEST-MEASUREMENT-UNKNOWN");
    let both = vec![json!("aa".repeat(48)), json!("bb".repeat(48))];
    world.trustee.put_reference_values("test", &[("dpu_fwids".to_owned(), both)].into(), None).unwrap();
    let (_, token) = beside(&world, "nvidiadpu", &device).await;
    let claims = claims(&world, &token.unwrap());
    let of = &claims["submods"]["nvidia-dpu0"];
    assert_eq!(of["ear.status"], "affirming", "{claims}");
    let said = &of["ear.veraison.annotated-evidence"]["nvidia-dpu"];
    assert_eq!((&said["device_class"], &said["firmware_layers_count"]), (&json!("bluefield3"), &json!(2)));
    let stale = dpu.evidence(&[7; 48]);
    let refused = beside(&world, "nvidia-dpu", &|_: &[u8]| stale.clone()).await;
    assert_eq!(denied(&world, refused), "ATTEST-REPORT-DATA-MISMATCH");
    let stranger = Dpu::new(60);
    let refused = beside(&world, "nvidia-dpu", &|data: &[u8]| stranger.evidence(data)).await;
    assert_eq!(denied(&world, refused), "ATTEST-CHAIN-UNTRUSTED");
    world.stop().await;

    let old = Dpu::new(3700);
    let trust = old.trust();
    let world = World::with(|config| config.live.trust = trust, Limits::default()).await;
    let refused = beside(&world, "nvidia-dpu", &|data: &[u8]| old.evidence(data)).await;
    assert_eq!(denied(&world, refused), "ATTEST-CERTIFICATE-EXPIRED");
    world.stop().await;
    // Nobody's root is trusted unless an operator names it.
    let bare = World::new().await;
    assert_eq!(denied(&bare, beside(&bare, "nvidia-dpu", &device).await), "ATTEST-CHAIN-UNTRUSTED");
    bare.stop().await;
}
