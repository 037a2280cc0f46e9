//! Verdicts on NVIDIA's devices, ours and those of a service, made one.
//!
//! Ours comes first. Where it refuses a device the service is not even asked: nobody may send it what he made up, under our
//! name. Where the service refuses a device, says nothing of it or speaks of another, the device is refused.

use cocoon_evidence::nvidia::{Device, Evidence};
use cocoon_evidence::{Check, Expectation, Verdict, Verified};
use cocoon_stage::Code;
use serde_json::Value;

use crate::RemoteVerifier;

/// Claims that both make and that are the service's in the end: it compared measurements with NVIDIA's manifests, and names
/// devices as policies know them. All others of ours stay.
const SERVICES: [&str; 3] = ["measres", "hwmodel", "ueid"];
const SOURCE: &str = "NVIDIA's remote attestation service, beside the verification here";

/// The devices with both verdicts.
pub(crate) fn verified(
    evidence: &Evidence,
    mut devices: Vec<Device>,
    remote: &dyn RemoteVerifier,
    expectation: &Expectation<'_>,
) -> Vec<Verified> {
    match (devices.iter().find_map(|device| device.verdict.failure()), expectation.report_data) {
        (Some(failure), _) => {
            // Those that are good here are not judged by half of what is asked of them.
            let reason: String = failure.reason.chars().take(200).collect();
            let all = "every device of the evidence verified here first";
            refuse_all(&mut devices, &check("nras.asked", failure.code, all, &reason));
        }
        (None, None) => {
            let code = Code::AttestReportDataMismatch;
            refuse_all(&mut devices, &check("nras.asked", code, "a challenge to ask with", "none"));
        }
        (None, Some(challenge)) => {
            let mut told = remote.verify(evidence, challenge, expectation.now_unix);
            for device in devices.iter_mut().filter(|device| device.index.is_some()) {
                let its = told.extract_if(.., |told| told.index == device.index).collect();
                join(device, its);
            }
            if devices.iter().any(|device| !device.verdict.ok()) {
                let code = Code::AttestEvidenceMalformed;
                let check = check("ppcie.remote", code, "every device verified", "not every one");
                refuse_all(devices.iter_mut().filter(|device| device.index.is_none()), &check);
            }
        }
    }
    let verified = |Device { class, verdict, .. }| Verified { class, verdict, init_data: None };
    devices.into_iter().map(verified).collect()
}

/// Adds what the service says of a device.
fn join(device: &mut Device, told: Vec<Device>) {
    let [told] = match <[Device; 1]>::try_from(told) {
        Ok(one) if one.iter().all(|one| one.class == device.class) => one,
        _ => {
            let code = Code::AttestEvidenceMalformed;
            return refuse(
                &mut device.verdict,
                check("nras.verdict", code, "one verdict on this device", "none, or several, or on another"),
            );
        }
    };
    let verdict = &mut device.verdict;
    let Verdict { checks, claims, simulated } = told.verdict;
    let silent = checks.is_empty();
    verdict.simulated |= simulated;
    verdict.checks.extend(checks);
    let mut claims = match claims {
        Value::Object(claims) if verdict.ok() && !silent => claims,
        // Never good for want of a check or of claims.
        _ if verdict.ok() => {
            let code = Code::AttestEvidenceMalformed;
            return refuse(verdict, check("nras.verdict", code, "checks and claims of this device", "none"));
        }
        _ => return verdict.claims = Value::Null,
    };
    // Of a switch no answer is known that shows what its id is.
    let (own, its) = (verdict.claims.get("ueid"), claims.get("ueid"));
    if device.class == "gpu" && (own.is_none() || own != its) {
        let shown = |id: Option<&Value>| {
            let text = id.and_then(Value::as_str).unwrap_or("none");
            text.chars().filter(char::is_ascii_graphic).take(100).collect::<String>()
        };
        let (own, its) = (shown(own), shown(its));
        return refuse(verdict, check("nras.ueid", Code::AttestEvidenceMalformed, &own, &its));
    }
    if let Value::Object(own) = std::mem::take(&mut verdict.claims) {
        for (name, value) in own {
            if !(SERVICES.contains(&name.as_str()) && claims.contains_key(&name)) {
                claims.insert(name, value);
            }
        }
    }
    verdict.claims = Value::Object(claims);
}

/// Refuses all that are good so far.
fn refuse_all<'a>(devices: impl IntoIterator<Item = &'a mut Device>, check: &Check) {
    for device in devices.into_iter().filter(|device| device.verdict.ok()) {
        refuse(&mut device.verdict, check.clone());
    }
}

fn refuse(verdict: &mut Verdict, check: Check) {
    verdict.checks.push(check);
    verdict.claims = Value::Null;
}

fn check(name: &'static str, code: Code, expected: &str, got: &str) -> Check {
    Check { name, expected: expected.into(), got: got.into(), source: SOURCE.into(), code: Some(code) }
}
