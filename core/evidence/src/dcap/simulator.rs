//! A platform of our own for tests: root, PCK authority, PCK certificate, quoting enclave, and collateral for it.
//!
//! Everything can be set otherwise before it is built, so that tests can have what no real platform shows.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use der::Encode as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};

use super::quote::INTEL_QE;
use super::rules::{Rules, Trust};
use super::{Cache, Roots};
use crate::collateral::{Collateral, Document, IntelTee, Need, PckCa};
use crate::x509::Certificate;

pub(crate) const FMSPC: [u8; 6] = [1, 2, 3, 4, 5, 6];
const SERIALS: [u64; 3] = [0x1001, 0x1002, 0x1003];

/// What a rogue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rogue {
    /// Nothing.
    Honest,
    /// The certificate that signs the JSON may issue certificates.
    SignerIsAuthority,
    /// It is issued by the PCK authority instead of the root.
    SignerUnderAuthority,
    /// It has another name.
    SignerNamedOtherwise,
    /// The PCK certificate's own key and name sign the JSON.
    PckSignsJson,
    /// The quote is signed by a key that the quoting enclave does not vouch for.
    OtherAttestationKey,
    /// The quoting enclave's report is signed by another key than the PCK certificate's.
    OtherPckKey,
    /// Another key of the same names signs the revocation lists.
    OtherCrlKey,
    /// The PCK certificate has another name.
    PckNamedOtherwise,
    /// The PCK certificate may issue certificates.
    PckIsAuthority,
}

/// What to build.
#[derive(Clone)]
pub(crate) struct Plan {
    pub tee: IntelTee,
    pub version: u16,
    pub components: [u8; 16],
    pub pce_svn: u16,
    pub pce_id: [u8; 2],
    /// The report, without a descriptor.
    pub body: Vec<u8>,
    pub qe_isv_svn: u16,
    pub qe_flags: u8,
    pub tcb_info: Value,
    pub identity: Value,
    pub revoke_pck: bool,
    pub revoke_authority: bool,
    pub revoke_signer: bool,
    pub rogue: Rogue,
}

/// What was built.
pub(crate) struct Platform {
    pub quote: Vec<u8>,
    pub collateral: Collateral,
    pub trust: Trust,
}

pub(crate) fn level(components: u8, pce: u16, tdx: Option<[u8; 3]>, status: &str, date: &str) -> Value {
    let list = |first: [u8; 3], rest: u8| -> Vec<Value> {
        first.into_iter().chain([rest; 13]).map(|svn| json!({ "svn": svn })).collect()
    };
    let mut tcb = json!({ "sgxtcbcomponents": list([components; 3], components), "pcesvn": pce });
    if let Some(tdx) = tdx {
        tcb["tdxtcbcomponents"] = json!(list(tdx, 0));
    }
    json!({ "tcb": tcb, "tcbDate": date, "tcbStatus": status, "advisoryIDs": [format!("SIM-{status}")] })
}

pub(crate) fn svn_level(svn: u16, status: &str) -> Value {
    json!({ "tcb": { "isvsvn": svn }, "tcbDate": "2024-03-01T00:00:00Z", "tcbStatus": status,
        "advisoryIDs": [format!("SIM-PART-{status}")] })
}

impl Plan {
    /// An honest platform that is up to date.
    pub fn new(tee: IntelTee) -> Self {
        let tdx = tee == IntelTee::Tdx;
        let module = json!({ "mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "FF".repeat(8) });
        let mut tcb_info = json!({
            "id": if tdx { "TDX" } else { "SGX" }, "version": 3, "issueDate": "2025-06-01T00:00:00Z",
            "nextUpdate": "2025-07-01T00:00:00Z", "fmspc": hex::encode_upper(FMSPC), "pceId": "0000",
            "tcbType": 0, "tcbEvaluationDataNumber": 17,
            "tcbLevels": [
                level(5, 10, tdx.then_some([5, 0, 3]), "UpToDate", "2025-01-01T00:00:00Z"),
                level(4, 9, tdx.then_some([4, 0, 2]), "OutOfDate", "2024-01-01T00:00:00Z"),
                level(1, 1, tdx.then_some([1, 0, 1]), "Revoked", "2020-01-01T00:00:00Z"),
            ],
        });
        if tdx {
            let identity = |id: &str| {
                let mut identity = module.clone();
                identity["id"] = json!(id);
                identity["tcbLevels"] =
                    json!([svn_level(6, "UpToDate"), svn_level(4, "OutOfDate"), svn_level(2, "Revoked")]);
                identity
            };
            tcb_info["tdxModule"] = module.clone();
            tcb_info["tdxModuleIdentities"] = json!([identity("TDX_01"), identity("TDX_03")]);
        }
        let identity = json!({
            "id": if tdx { "TD_QE" } else { "QE" }, "version": 2, "issueDate": "2025-06-01T00:00:00Z",
            "nextUpdate": "2025-07-01T00:00:00Z", "tcbEvaluationDataNumber": 17, "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF", "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000", "mrsigner": "AB".repeat(32), "isvprodid": 2,
            "tcbLevels": [svn_level(4, "UpToDate"), svn_level(3, "OutOfDate"), svn_level(2, "Revoked")],
        });
        Plan {
            tee,
            version: if tdx { 4 } else { 3 },
            components: [5; 16],
            pce_svn: 10,
            pce_id: [0, 0],
            body: if tdx { td([6, 1, 3]) } else { enclave(5, [0; 64]) },
            qe_isv_svn: 4,
            qe_flags: 0x11,
            tcb_info,
            identity,
            revoke_pck: false,
            revoke_authority: false,
            revoke_signer: false,
            rogue: Rogue::Honest,
        }
    }

    /// Makes keys, certificates, collateral and a quote.
    pub fn build(&self) -> Platform {
        let is = |rogue| self.rogue == rogue;
        let root = params("SIMULATED Intel SGX Root CA", 1, true, None);
        let root_key = KeyPair::generate().unwrap();
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(root, root_key);
        let ca = params("Intel SGX PCK Platform CA", SERIALS[0], true, None);
        let ca_key = KeyPair::generate().unwrap();
        let ca_pem = ca.signed_by(&ca_key, &root).unwrap().pem();
        let ca = Issuer::new(ca, ca_key);

        let name =
            if is(Rogue::PckNamedOtherwise) { "A PCK Certificate" } else { "Intel SGX PCK Certificate" };
        let pck_key = KeyPair::generate().unwrap();
        let pck = params(name, SERIALS[1], is(Rogue::PckIsAuthority), Some(self.extension()));
        let pck_pem = pck.signed_by(&pck_key, &ca).unwrap().pem();

        let signer_key = KeyPair::generate().unwrap();
        let signer_name =
            if is(Rogue::SignerNamedOtherwise) { "Intel SGX Signing" } else { "Intel SGX TCB Signing" };
        let signer = params(signer_name, SERIALS[2], is(Rogue::SignerIsAuthority), None);
        let under = if is(Rogue::SignerUnderAuthority) { &ca } else { &root };
        let (mut signer_pem, mut json_key) =
            (signer.signed_by(&signer_key, under).unwrap().pem(), fixed(&signer_key));
        if is(Rogue::PckSignsJson) {
            (signer_pem, json_key) = (pck_pem.clone(), fixed(&pck_key));
        }
        if is(Rogue::PckSignsJson) || is(Rogue::SignerUnderAuthority) {
            signer_pem.push_str(&ca_pem);
        }
        let signer_chain = format!("{signer_pem}{root_pem}");

        let mut collateral = Collateral::none();
        let mut put = |need, body: Vec<u8>, issuer_chain: String| {
            collateral.insert(need, Arc::new(Document { body, issuer_chain }));
        };
        let rogue_key = KeyPair::generate().unwrap();
        let rogue_root = Issuer::new(params("SIMULATED Intel SGX Root CA", 1, true, None), rogue_key);
        let by = if is(Rogue::OtherCrlKey) { &rogue_root } else { &root };
        let serials = [(self.revoke_authority, SERIALS[0]), (self.revoke_signer, SERIALS[2])];
        put(Need::IntelRootCrl, crl(by, &serials), String::new());
        let body = crl(&ca, &[(self.revoke_pck, SERIALS[1])]);
        put(Need::IntelPckCrl { ca: PckCa::Platform }, body, format!("{ca_pem}{root_pem}"));
        let need = Need::IntelTcbInfo { tee: self.tee, fmspc: hex::encode(FMSPC) };
        put(need, signed("tcbInfo", &self.tcb_info, &json_key), signer_chain.clone());
        let need = Need::IntelQeIdentity { tee: self.tee };
        put(need, signed("enclaveIdentity", &self.identity, &json_key), signer_chain);

        let chain = format!("{pck_pem}{ca_pem}{root_pem}");
        let other = KeyPair::generate().unwrap();
        let qe_key = fixed(if is(Rogue::OtherPckKey) { &other } else { &pck_key });
        let root = Certificate::parse(root_pem.as_bytes()).unwrap();
        let roots = Roots { intel: true, extra: vec![root] };
        let trust = Trust { roots, rules: Rules::default(), cache: Cache::new(0, 0) };
        Platform { quote: self.quote(chain.as_bytes(), &qe_key), collateral, trust }
    }

    fn quote(&self, chain: &[u8], qe_key: &EcdsaKeyPair) -> Vec<u8> {
        let tdx = self.tee == IntelTee::Tdx;
        let mut out = Vec::new();
        out.extend(self.version.to_le_bytes());
        out.extend(2_u16.to_le_bytes());
        out.extend(if tdx { 0x81_u32 } else { 0 }.to_le_bytes());
        out.extend([0; 4]);
        out.extend(INTEL_QE);
        out.extend([7; 20]);
        if self.version == 5 {
            let kind = match self.body.len() {
                384 => 1_u16,
                584 => 2,
                _ => 3,
            };
            out.extend(kind.to_le_bytes());
            out.extend(length(&self.body));
        }
        out.extend(&self.body);
        let (key, other) = (fixed(&KeyPair::generate().unwrap()), fixed(&KeyPair::generate().unwrap()));
        let signature = sign(&key, &out);
        let point = key.public_key().as_ref()[1..].to_vec();
        let auth = [9; 32];
        let vouched = if self.rogue == Rogue::OtherAttestationKey {
            other.public_key().as_ref()[1..].to_vec()
        } else {
            point.clone()
        };
        let mut report_data = [0; 64];
        report_data[..32].copy_from_slice(digest(&SHA256, &[&vouched[..], &auth].concat()).as_ref());
        let mut qe = enclave(self.qe_flags, report_data);
        qe[128..160].fill(0xab);
        qe[256..258].copy_from_slice(&2_u16.to_le_bytes());
        qe[258..260].copy_from_slice(&self.qe_isv_svn.to_le_bytes());
        let mut certified = [&qe[..], &sign(qe_key, &qe), &32_u16.to_le_bytes(), &auth].concat();
        certified.extend(5_u16.to_le_bytes());
        certified.extend(length(chain));
        certified.extend(chain);
        let mut data = [signature, point].concat();
        if self.version > 3 {
            data.extend(6_u16.to_le_bytes());
            data.extend(length(&certified));
        }
        data.extend(certified);
        out.extend(length(&data));
        out.extend(data);
        out
    }

    /// The SGX extension of the PCK certificate.
    fn extension(&self) -> Vec<u8> {
        let mut tcb = Vec::new();
        for (n, svn) in (1_u8..).zip(self.components) {
            tcb.extend(part(&[2, n], &svn.to_der().unwrap()));
        }
        tcb.extend(part(&[2, 17], &self.pce_svn.to_der().unwrap()));
        tcb.extend(part(&[2, 18], &tlv(4, &self.components)));
        let flags =
            [part(&[7, 1], &tlv(1, &[255])), part(&[7, 2], &tlv(1, &[0])), part(&[7, 3], &tlv(1, &[255]))];
        let parts = [
            part(&[1], &tlv(4, &[0x11; 16])),
            part(&[2], &tlv(0x30, &tcb)),
            part(&[3], &tlv(4, &self.pce_id)),
            part(&[4], &tlv(4, &FMSPC)),
            part(&[5], &tlv(10, &[1])),
            part(&[6], &tlv(4, &[0x22; 16])),
            part(&[7], &tlv(0x30, &flags.concat())),
        ];
        tlv(0x30, &parts.concat())
    }
}

/// A TD's report as of TDX 1.0 with the first security versions of its module.
pub(crate) fn td(svn: [u8; 3]) -> Vec<u8> {
    let mut body = vec![0; 584];
    body[..3].copy_from_slice(&svn);
    body[123] = 0x10; // SEPT_VE_DISABLE
    body[136..184].fill(0xd0);
    body
}

/// An enclave's report.
pub(crate) fn enclave(flags: u8, report_data: [u8; 64]) -> Vec<u8> {
    let mut body = vec![0; 384];
    body[48] = flags;
    body[320..].copy_from_slice(&report_data);
    body
}

/// DER of a tag, a length and a content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header = match length {
        [0, low] if low < 128 => vec![tag, low],
        [high, low] => vec![tag, 0x82, high, low],
    };
    // Lengths between 128 and 255 have a shorter form.
    let header = if matches!(header[..], [_, 0x82, 0, _]) { vec![tag, 0x81, length[1]] } else { header };
    [header, content.to_vec()].concat()
}

/// One part of the SGX extension.
pub(crate) fn part(arcs: &[u8], value: &[u8]) -> Vec<u8> {
    let oid = [b"\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01", arcs].concat();
    tlv(0x30, &[tlv(6, &oid), value.to_vec()].concat())
}

fn params(name: &str, serial: u64, authority: bool, extension: Option<Vec<u8>>) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2026, 1, 1);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    }
    let oid = [1, 2, 840, 113_741, 1, 13, 1];
    params.custom_extensions =
        extension.map(|content| CustomExtension::from_oid_content(&oid, content)).into_iter().collect();
    params
}

fn crl(issuer: &Issuer<'_, KeyPair>, serials: &[(bool, u64)]) -> Vec<u8> {
    let revoked = |(_, serial): &(bool, u64)| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2025, 5, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 6, 1),
        next_update: date_time_ymd(2025, 7, 1),
        crl_number: SerialNumber::from(3_u64),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().filter(|(revoke, _)| *revoke).map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().to_vec()
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
