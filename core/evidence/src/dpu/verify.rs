//! Every rule that a device's evidence must meet, each a node of the verdict.

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::claims::claims;
use super::evidence::Evidence;
use super::tcb_info::TcbInfo;
use crate::expectation::padded;
use crate::x509::{self, Certificate, Curve, Hash, PublicKey, Scheme};
use crate::{Check, Expectation, Verdict};

const DICE: &str = "TCG DICE Attestation Architecture 1.1";
const VALIDITY: &str = "RFC 5280, 4.1.2.5";
const CHALLENGE: &str = "the challenge";
const SIGNATURE: &str = "report-data.signature";

/// Whom the caller trusts.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Roots that issue DeviceID certificates. None are embedded; without any, nothing verifies.
    pub roots: Vec<Certificate>,
    /// How old an alias certificate may be, in seconds since it became valid. Devices make it when they boot. Upstream's
    /// default is 3600.
    pub max_certificate_age_seconds: u64,
}

impl Default for Trust {
    /// Nobody; an hour.
    fn default() -> Self {
        Trust { roots: Vec::new(), max_certificate_age_seconds: 3600 }
    }
}

/// Verifies evidence: both certificates to a trusted root, their ages, the state of the device, and the alias key's
/// signature over the report data.
///
/// The verdict lists every check; claims are given only when all passed.
pub fn verify(evidence: &Evidence, trust: &Trust, expectation: &Expectation<'_>) -> Verdict {
    let now = expectation.now_unix;
    let (device, alias) = (&evidence.device_id, &evidence.alias);
    let path = x509::path(device, &[], &trust.roots).ok();
    // The root stands two above the alias certificate, with one authority between them.
    let root = path.as_ref().and_then(|path| path.root());
    let trusted = root.is_some_and(|root| root.path_length().is_none_or(|limit| limit >= 1));
    let mut checks = vec![
        Check::new(
            "device-id.chain",
            trusted,
            Code::AttestChainUntrusted,
            "issued by a trusted root",
            match (trust.roots.is_empty(), root) {
                (true, _) => "no root is configured".to_owned(),
                (_, Some(root)) => format!("issued by {:?}", root.subject()),
                (_, None) => format!("issued by {:?}", device.issuer()),
            },
            DICE,
        ),
        Check::new(
            "alias.chain",
            device.is_authority() && alias.is_issued_by(device),
            Code::AttestChainUntrusted,
            "issued by the device, which may issue",
            format!("issued by {:?}, the device is {:?}", alias.issuer(), device.subject()),
            DICE,
        ),
        on_p384("device-id.key", device),
        on_p384("alias.key", alias),
        valid("device-id.validity", device, now),
        valid("alias.validity", alias, now),
        age(alias, trust.max_certificate_age_seconds, now),
    ];
    checks.extend(root.map(|root| valid("root.validity", root, now)));
    checks.push(signature(evidence, expectation));
    checks.extend(state(evidence));
    if expectation.init_data_digest.is_some() {
        let code = Code::AttestInitdataMismatch;
        let got = "not bound by this TEE";
        checks.push(Check::new("report-data.init-data", false, code, "initdata bound by the TEE", got, DICE));
    }
    let mut verdict = Verdict { checks, claims: Value::Null, simulated: false };
    if verdict.ok() {
        let mut map = claims(evidence);
        let nonce = expectation.report_data.map(hex::encode);
        map.insert("session_nonce".to_owned(), json!(nonce));
        verdict.claims = Value::Object(map);
    }
    verdict
}

fn on_p384(name: &'static str, certificate: &Certificate) -> Check {
    let ok = matches!(certificate.key(), Ok(PublicKey::Ec(Curve::P384, _)));
    let got = if ok { "P-384" } else { "another kind of key" };
    Check::new(name, ok, Code::AttestKeyUntrusted, "P-384", got, DICE)
}

fn valid(name: &'static str, certificate: &Certificate, now: u64) -> Check {
    let validity = certificate.validity();
    let expected = format!("{:?} valid at {now}", certificate.subject());
    let got = format!("valid from {} until {}", validity.not_before, validity.not_after);
    Check::new(name, validity.contains(now), Code::AttestCertificateExpired, expected, got, VALIDITY)
}

fn age(alias: &Certificate, limit: u64, now: u64) -> Check {
    // One from the future has no age.
    let age = now.checked_sub(alias.validity().not_before);
    let ok = age.is_some_and(|age| age <= limit);
    let got = age.map_or("not yet valid".to_owned(), |age| format!("{age} seconds old"));
    let expected = format!("at most {limit} seconds old");
    Check::new("alias.age", ok, Code::AttestCertificateExpired, expected, got, "the verifier's configuration")
}

/// The attester signs report data padded to 64 bytes, upstream's verifier expects it as it is: either is a signature over
/// nothing but the challenge.
fn signature(evidence: &Evidence, expectation: &Expectation<'_>) -> Check {
    let code = Code::AttestReportDataMismatch;
    let expected = "the report data, signed by the alias key (ECDSA P-384 with SHA-384)";
    let Some(report_data) = expectation.report_data.filter(|data| !data.is_empty() && data.len() <= 64)
    else {
        let got = "no report data of 1 to 64 bytes that it could be over";
        return Check::new(SIGNATURE, false, code, expected, got, CHALLENGE);
    };
    let padded = padded::<64>(report_data);
    let schemes = [Scheme::EcdsaFixed(Hash::Sha384), Scheme::Ecdsa(Hash::Sha384)];
    let ok = evidence.alias.key().is_ok_and(|key| {
        schemes.iter().any(|scheme| {
            let signed = |message: &[u8]| key.verifies(*scheme, message, &evidence.report_data_signature);
            signed(report_data) || padded.is_some_and(|padded| signed(&padded))
        })
    });
    let got = if ok { "valid" } else { "not signed by it, or over something else" };
    Check::new(SIGNATURE, ok, code, expected, got, CHALLENGE)
}

/// Firmware must be measured, and the device in its normal state.
fn state(evidence: &Evidence) -> [Check; 2] {
    let infos = [&evidence.device_tcb, &evidence.alias_tcb];
    let infos: Vec<&TcbInfo> = infos.into_iter().flatten().collect();
    let fwids: usize = infos.iter().map(|info| info.fwids.len()).sum();
    let flags: Vec<&str> = infos.iter().flat_map(|info| info.flag_names()).collect();
    [
        Check::new(
            "tcb-info.measurements",
            fwids > 0,
            Code::AttestMeasurementUnknown,
            "at least one measurement of firmware",
            fwids.to_string(),
            DICE,
        ),
        Check::new(
            "tcb-info.flags",
            flags.is_empty(),
            Code::AttestDebugEnabled,
            "no operational flag",
            if flags.is_empty() { "none".to_owned() } else { flags.join(" ") },
            DICE,
        ),
    ]
}
