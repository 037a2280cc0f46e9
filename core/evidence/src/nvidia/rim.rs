//! Reference manifests: whether NVIDIA signed them, and whether a report measures what they list.

use std::collections::BTreeMap;

use cocoon_rim::{Algorithm, Document, Manifest};
use cocoon_stage::Code;

use super::collateral::{Part, Trust, Wanted, wanted};
use super::evidence::{DeviceEvidence, Evidence};
use crate::collateral::{Collateral, Need};
use crate::x509::{Certificate, Hash, Scheme, path};
use crate::{Check, Error};

const RIM: &str = "TCG PC Client RIM; NVIDIA's manifests for drivers and firmware";
const COMPARE: &str = "NVIDIA Attestation SDK, comparison of measurements";
/// The manifest's index of NVDEC0's measurement, which means nothing where that engine is off.
const NVDEC0: u16 = 35;

/// Why a manifest does not count.
struct Refusal {
    code: Code,
    reason: String,
}

/// Manifests by id. `None`: not at hand.
pub(super) struct References(BTreeMap<String, Option<Result<Manifest, Refusal>>>);

impl References {
    /// Reads and checks each manifest that the evidence calls for, once.
    pub(super) fn read(evidence: &Evidence, trust: &Trust, collateral: &Collateral, now_unix: u64) -> Self {
        let mut read = BTreeMap::new();
        for id in evidence.devices.iter().flat_map(wanted).filter_map(|wanted| wanted.id) {
            read.entry(id.clone()).or_insert_with(|| {
                let document = collateral.get(&Need::NvidiaRim { id });
                document.map(|document| verified(&document.body, &trust.rim_roots, now_unix))
            });
        }
        References(read)
    }

    fn get(&self, wanted: &Wanted) -> Option<&Result<Manifest, Refusal>> {
        self.0.get(wanted.id.as_ref()?)?.as_ref()
    }
}

/// The content of a manifest that one of the roots stands behind now.
fn verified(body: &[u8], roots: &[Certificate], now_unix: u64) -> Result<Manifest, Refusal> {
    let refusal = |code, reason: String| Refusal { code, reason };
    let invalid = |reason: String| Refusal { code: Code::AttestCollateralInvalid, reason };
    let document = Document::parse(body).map_err(|e| invalid(e.to_string()))?;
    let signature = document.signature().map_err(|e| invalid(e.to_string()))?;
    let signature = signature.ok_or_else(|| invalid("it is not signed".to_owned()))?;
    let parsed: Result<Vec<Certificate>, Error> =
        signature.certificates.iter().map(|der| Certificate::parse(der)).collect();
    let certificates = parsed.map_err(|e| invalid(e.to_string()))?;
    let (signer, others) =
        certificates.split_first().ok_or_else(|| invalid("it names no signer".to_owned()))?;
    let scheme = match signature.algorithm {
        Algorithm::EcdsaSha256 => Scheme::EcdsaFixed(Hash::Sha256),
        Algorithm::EcdsaSha384 => Scheme::EcdsaFixed(Hash::Sha384),
        Algorithm::RsaSha256 => Scheme::RsaPkcs1(Hash::Sha256),
        Algorithm::RsaSha384 => Scheme::RsaPkcs1(Hash::Sha384),
    };
    let key = signer.key().map_err(|e| invalid(e.to_string()))?;
    if !key.verifies(scheme, &signature.signed, &signature.value) {
        return Err(refusal(Code::AttestSignatureInvalid, "its signature is not its signer's".to_owned()));
    }
    let path = path(signer, others, roots);
    let path = path.map_err(|e| refusal(Code::AttestChainUntrusted, e.to_string()))?;
    if path.certificates.len() < 2 || signer.is_authority() {
        return Err(refusal(Code::AttestChainUntrusted, "an authority signed it itself".to_owned()));
    }
    if let Some(expired) = path.expired(now_unix) {
        let reason = format!("{} is not valid now", expired.subject());
        return Err(refusal(Code::AttestCertificateExpired, reason));
    }
    document.manifest().map_err(|e| invalid(e.to_string()))
}

/// What came of the comparison.
pub(super) struct Outcome {
    /// Whether all manifests were at hand, good, and equal.
    pub compared: bool,
    /// Ids of the manifests that were compared.
    pub ids: Vec<String>,
}

/// Checks the manifests of a device and compares what they list with its report.
pub(super) fn compare(
    device: &DeviceEvidence,
    references: &References,
    trust: &Trust,
    checks: &mut Vec<Check>,
) -> Outcome {
    let mut good: Vec<(Part, &Manifest)> = Vec::new();
    let mut outcome = Outcome { compared: true, ids: Vec::new() };
    for wanted in wanted(device) {
        let name = match wanted.part {
            Part::Driver => "rim.driver",
            Part::Firmware => "rim.firmware",
        };
        let expected =
            wanted.id.clone().unwrap_or_else(|| "an id, which the report does not tell".to_owned());
        let mut push = |code: Option<Code>, got: String| {
            let code_or_any = code.unwrap_or(Code::AttestCollateralInvalid);
            checks.push(Check::new(name, code.is_none(), code_or_any, expected.clone(), got, RIM));
        };
        match references.get(&wanted) {
            None => {
                outcome.compared = false;
                if trust.require_rims {
                    push(Some(Code::AttestCollateralMissing), "not at hand".to_owned());
                }
            }
            Some(Err(refusal)) => {
                outcome.compared = false;
                push(Some(refusal.code), refusal.reason.clone());
            }
            Some(Ok(manifest)) => match misfit(&wanted, manifest) {
                Some(reason) => {
                    outcome.compared = false;
                    push(Some(Code::AttestCollateralInvalid), reason.to_owned());
                }
                None => {
                    push(None, "signed, valid now, of this version".to_owned());
                    outcome.ids.extend(wanted.id.clone());
                    good.push((wanted.part, manifest));
                }
            },
        }
    }
    if !good.is_empty() {
        outcome.compared &= measurements(device, &good, checks);
    }
    outcome
}

/// Why a good manifest is not the one for this device.
fn misfit(wanted: &Wanted, manifest: &Manifest) -> Option<&'static str> {
    let version = manifest.colloquial_version.as_deref().unwrap_or_default();
    if !version.eq_ignore_ascii_case(&wanted.version) {
        return Some("a manifest of another version");
    }
    if wanted.product.is_some() && manifest.product != wanted.product {
        return Some("a manifest of another product");
    }
    let active = manifest.measurements.iter().filter(|m| m.active != Some(false));
    if active.clone().next().is_none() {
        return Some("a manifest that lists nothing to compare");
    }
    let complete = |m: &cocoon_rim::Measurement| {
        let numbered = (0u16..).zip(&m.hashes).all(|(number, hash)| hash.number == number);
        numbered && !m.hashes.is_empty() && m.alternatives.is_none_or(|n| usize::from(n) == m.hashes.len())
    };
    if !active.clone().all(complete) {
        return Some("a manifest with other values than it counts");
    }
    None
}

/// Whether each active measurement of the manifests is the report's.
fn measurements(device: &DeviceEvidence, good: &[(Part, &Manifest)], checks: &mut Vec<Check>) -> bool {
    let mut listed = BTreeMap::new();
    let mut twice = Vec::new();
    for (part, manifest) in good {
        for measurement in manifest.measurements.iter().filter(|m| m.active != Some(false)) {
            if listed.insert(measurement.index, (*part, measurement)).is_some() {
                twice.push(measurement.index.to_string());
            }
        }
    }
    checks.push(Check::new(
        "rim.indexes",
        twice.is_empty(),
        Code::AttestCollateralInvalid,
        "each measurement listed once",
        if twice.is_empty() { "each once".to_owned() } else { format!("twice: {}", short(&twice)) },
        COMPARE,
    ));
    let mut different = Vec::new();
    for (index, (_, reference)) in &listed {
        if *index == NVDEC0 && device.architecture.is_gpu() && device.report.opaque.nvdec0_disabled {
            continue;
        }
        let equal = device.report.manifest_index(*index).is_some_and(|measured| {
            let value = hex::encode(&measured.value);
            let size = reference.size.is_none_or(|size| usize::from(size) == measured.value.len());
            size && reference.hashes.iter().any(|hash| hash.hex == value)
        });
        if !equal {
            different.push(index.to_string());
        }
    }
    checks.push(Check::new(
        "report.measurements",
        different.is_empty(),
        Code::AttestMeasurementUnknown,
        format!("the {} values that the manifests list", listed.len()),
        match different.as_slice() {
            [] => "all of them".to_owned(),
            indexes => format!("other values at {} (counted from 0)", short(indexes)),
        },
        COMPARE,
    ));
    twice.is_empty() && different.is_empty()
}

/// A list of numbers, not too long to print.
fn short(numbers: &[String]) -> String {
    let shown: Vec<&str> = numbers.iter().take(20).map(String::as_str).collect();
    let more = if numbers.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
