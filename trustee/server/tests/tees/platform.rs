//! An Intel platform of a test's own: root, PCK authority, PCK certificate, quoting enclave, and the collateral for it. What
//! it vouches for is simulated.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use cocoon_evidence::collateral::{Collateral, Document, IntelTee, Need, PckCa};
use cocoon_evidence::x509::Certificate;
use cocoon_evidence::{Trust, dcap};
use cocoon_trustee::{CollateralSource, Gathered};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};

use crate::support::sha256;

const FMSPC: [u8; 6] = [1, 2, 3, 4, 5, 6];
const FROM: &str = "2025-01-01T00:00:00Z";
const UNTIL: &str = "2040-01-01T00:00:00Z";

/// Documents at hand; of what is missing it says so.
pub struct Shelf(pub Collateral);

impl CollateralSource for Shelf {
    fn gather(&self, needs: &[Need], _: u64, _: std::time::Duration) -> Gathered {
        // As a source does that fetches: on a thread that serves others this would panic.
        tokio::runtime::Handle::current().block_on(tokio::task::yield_now());
        let mut found = Gathered::default();
        for need in needs {
            match self.0.get(need) {
                Some(document) => found.collateral.insert(need.clone(), Arc::new(document.clone())),
                None => found.notes.push((need.to_string(), "not on the shelf".to_owned())),
            }
        }
        found
    }
}

/// A machine that is up to date.
pub struct Platform {
    root: Certificate,
    chain: String,
    pck: EcdsaKeyPair,
    collateral: Collateral,
}

impl Platform {
    pub fn new() -> Platform {
        let key = || KeyPair::generate().unwrap();
        let root = params("SIMULATED Intel SGX Root CA", 1, true);
        let root_key = key();
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(root, root_key);
        let ca = params("Intel SGX PCK Platform CA", 2, true);
        let ca_key = key();
        let ca_pem = ca.signed_by(&ca_key, &root).unwrap().pem();
        let ca = Issuer::new(ca, ca_key);
        let mut pck = params("Intel SGX PCK Certificate", 3, false);
        let oid = [1, 2, 840, 113_741, 1, 13, 1];
        pck.custom_extensions = vec![CustomExtension::from_oid_content(&oid, extension())];
        let pck_key = key();
        let pck_pem = pck.signed_by(&pck_key, &ca).unwrap().pem();
        let signer_key = key();
        let signer_pem =
            params("Intel SGX TCB Signing", 4, false).signed_by(&signer_key, &root).unwrap().pem();
        let (signer, signers) = (fixed(&signer_key), format!("{signer_pem}{root_pem}"));

        let mut collateral = Collateral::none();
        let mut put = |need, body: Vec<u8>, issuer_chain: &str| {
            collateral.insert(need, Arc::new(Document { body, issuer_chain: issuer_chain.to_owned() }));
        };
        put(Need::IntelRootCrl, crl(&root), "");
        put(Need::IntelPckCrl { ca: PckCa::Platform }, crl(&ca), &format!("{ca_pem}{root_pem}"));
        for tee in [IntelTee::Sgx, IntelTee::Tdx] {
            let need = Need::IntelTcbInfo { tee, fmspc: hex::encode(FMSPC) };
            put(need, signed("tcbInfo", &tcb_info(tee), &signer), &signers);
            put(Need::IntelQeIdentity { tee }, signed("enclaveIdentity", &identity(tee), &signer), &signers);
        }
        let root = Certificate::parse(root_pem.as_bytes()).unwrap();
        Platform { root, chain: format!("{pck_pem}{ca_pem}{root_pem}"), pck: fixed(&pck_key), collateral }
    }

    /// Trust in this platform's root beside Intel's.
    pub fn trust(&self) -> Trust {
        let roots = dcap::Roots { intel: true, extra: vec![self.root.clone()] };
        Trust { dcap: Arc::new(dcap::Trust { roots, ..dcap::Trust::default() }), ..Trust::default() }
    }

    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::new(Shelf(self.collateral.clone()))
    }

    /// A quote of a TD (584 bytes) or of an enclave (384).
    pub fn quote(&self, body: &[u8]) -> Vec<u8> {
        let tdx = body.len() == 584;
        let mut out = Vec::new();
        out.extend(if tdx { 4_u16 } else { 3 }.to_le_bytes());
        out.extend(2_u16.to_le_bytes());
        out.extend(if tdx { 0x81_u32 } else { 0 }.to_le_bytes());
        out.extend([0; 4]);
        out.extend(dcap::INTEL_QE);
        out.extend([7; 20]);
        out.extend(body);
        let key = fixed(&KeyPair::generate().unwrap());
        let (signature, point) = (sign(&key, &out), &key.public_key().as_ref()[1..]);
        let auth = [9; 32];
        let mut vouched = [0; 64];
        vouched[..32].copy_from_slice(&sha256(&[point, &auth].concat()));
        let mut qe = enclave(&vouched);
        qe[48] = 0x11;
        qe[128..160].fill(0xab);
        qe[256] = 2;
        qe[258] = 4;
        let mut certified = [&qe[..], &sign(&self.pck, &qe), &32_u16.to_le_bytes(), &auth].concat();
        certified.extend(5_u16.to_le_bytes());
        certified.extend(length(self.chain.as_bytes()));
        certified.extend(self.chain.as_bytes());
        let mut data = [&signature, point].concat();
        if tdx {
            data.extend(6_u16.to_le_bytes());
            data.extend(length(&certified));
        }
        data.extend(certified);
        out.extend(length(&data));
        out.extend(data);
        out
    }
}

/// A TD's report with these 64 bytes of report data and 48 of MRCONFIGID.
pub fn td(report_data: &[u8], config_id: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 584];
    body[..3].copy_from_slice(&[6, 1, 3]);
    body[123] = 0x10; // SEPT_VE_DISABLE
    body[136..184].fill(0xd0);
    body[184..184 + config_id.len()].copy_from_slice(config_id);
    [328, 376, 424, 472].into_iter().zip(1u8..).for_each(|(at, n)| body[at..at + 48].fill(n));
    body[520..520 + report_data.len()].copy_from_slice(report_data);
    body
}

/// The TD's report as its paravisor gets it from the module, which only the quoting enclave can check.
pub fn td_report(body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 1184];
    out[0] = 0x81;
    out[128..192].copy_from_slice(&body[520..584]);
    out[256..264].fill(0xff);
    out[264..384].copy_from_slice(&body[..120]);
    out[512..912].copy_from_slice(&body[120..520]);
    out
}

/// An enclave's report.
pub fn enclave(report_data: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 384];
    body[48] = 5;
    body[64..96].fill(0xe1);
    body[128..160].fill(0x51);
    body[320..320 + report_data.len()].copy_from_slice(report_data);
    body
}

/// An enclave with key separation, whose CONFIGID means something.
pub fn configured(report_data: &[u8], config_id: &[u8]) -> Vec<u8> {
    let mut body = enclave(report_data);
    body[48] |= 0x80;
    body[192..192 + config_id.len()].copy_from_slice(config_id);
    body
}

fn tcb_info(tee: IntelTee) -> Value {
    let tdx = tee == IntelTee::Tdx;
    let components = |first: [u8; 3], rest: u8| -> Vec<Value> {
        first.into_iter().chain([rest; 13]).map(|svn| json!({ "svn": svn })).collect()
    };
    let mut tcb = json!({ "sgxtcbcomponents": components([5; 3], 5), "pcesvn": 10 });
    let mut info = json!({
        "id": if tdx { "TDX" } else { "SGX" }, "version": 3, "issueDate": FROM, "nextUpdate": UNTIL,
        "fmspc": hex::encode_upper(FMSPC), "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 17,
    });
    if tdx {
        tcb["tdxtcbcomponents"] = json!(components([5, 0, 3], 0));
        let module = json!({ "mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "FF".repeat(8) });
        let mut identity = module.clone();
        identity["id"] = json!("TDX_01");
        identity["tcbLevels"] =
            json!([{ "tcb": { "isvsvn": 6 }, "tcbDate": FROM, "tcbStatus": "UpToDate", "advisoryIDs": [] }]);
        info["tdxModule"] = module;
        info["tdxModuleIdentities"] = json!([identity]);
    }
    info["tcbLevels"] = json!([{ "tcb": tcb, "tcbDate": FROM, "tcbStatus": "UpToDate", "advisoryIDs": [] }]);
    info
}

fn identity(tee: IntelTee) -> Value {
    json!({
        "id": if tee == IntelTee::Tdx { "TD_QE" } else { "QE" }, "version": 2, "issueDate": FROM,
        "nextUpdate": UNTIL, "tcbEvaluationDataNumber": 17, "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF", "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000", "mrsigner": "AB".repeat(32), "isvprodid": 2,
        "tcbLevels": [{ "tcb": { "isvsvn": 4 }, "tcbDate": FROM, "tcbStatus": "UpToDate", "advisoryIDs": [] }],
    })
}

/// The SGX extension of the PCK certificate.
fn extension() -> Vec<u8> {
    let mut tcb = Vec::new();
    for n in 1..=16 {
        tcb.extend(part(&[2, n], &tlv(2, &[5])));
    }
    tcb.extend(part(&[2, 17], &tlv(2, &[10])));
    tcb.extend(part(&[2, 18], &tlv(4, &[5; 16])));
    let flags =
        [part(&[7, 1], &tlv(1, &[255])), part(&[7, 2], &tlv(1, &[0])), part(&[7, 3], &tlv(1, &[255]))];
    let parts = [
        part(&[1], &tlv(4, &[0x11; 16])),
        part(&[2], &tlv(0x30, &tcb)),
        part(&[3], &tlv(4, &[0, 0])),
        part(&[4], &tlv(4, &FMSPC)),
        part(&[5], &tlv(10, &[1])),
        part(&[6], &tlv(4, &[0x22; 16])),
        part(&[7], &tlv(0x30, &flags.concat())),
    ];
    tlv(0x30, &parts.concat())
}

/// DER of a tag, a length and a content.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header = match (high, low) {
        (0, 0..128) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [header, content.to_vec()].concat()
}

fn part(arcs: &[u8], value: &[u8]) -> Vec<u8> {
    let oid = [b"\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01", arcs].concat();
    tlv(0x30, &[tlv(6, &oid), value.to_vec()].concat())
}

fn params(name: &str, serial: u64, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    }
    params
}

fn crl(issuer: &Issuer<'_, KeyPair>) -> Vec<u8> {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(2040, 1, 1),
        crl_number: SerialNumber::from(3_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).unwrap().der().to_vec()
}

fn signed(name: &str, body: &Value, key: &EcdsaKeyPair) -> Vec<u8> {
    let body = body.to_string();
    let signature = hex::encode(sign(key, body.as_bytes()));
    format!(r#"{{"{name}":{body},"signature":"{signature}"}}"#).into_bytes()
}

fn fixed(key: &KeyPair) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap()
}

fn sign(key: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}
