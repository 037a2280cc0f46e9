//! Azure guests on AMD SEV-SNP (`az-snp-vtpm`).
//!
//! Version 0: `{"quote": {"message", "pcrs", "signature"}, "report": [bytes], "vcek": PEM}`. Versions 1 and 2:
//! `{"version", "tpm_quote": {…}, "hcl_report": base64url, "vcek": base64url DER}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use serde_json::{Map, Value, json};

use super::evidence::Version;
use super::hcl::{Hardware, HclReport, MAX_REPORT, RuntimeData};
use super::vtpm;
use crate::collateral::{Collateral, Need};
use crate::snp::{self, ChainCache, Report, Roots, Rules};
use crate::tpm::Quoted;
use crate::{Check, Error, Expectation, Verdict};

/// A certificate longer than this is not read; in PEM a chain may follow.
const MAX_VCEK: usize = 16 * 1024;

/// Parsed evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    version: Version,
    quoted: Quoted,
    hcl: HclReport,
    vcek: Vec<u8>,
}

impl Evidence {
    /// Reads the JSON form of any version.
    ///
    /// # Errors
    /// [`Error::Field`] for what is missing, ill-formed or too long; [`Error::Unsupported`] for other versions; else what the
    /// parts' parsers say.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let version = Version::of(value)?;
        let (quote, report) = match version {
            Version::V0 => ("quote", "report"),
            Version::V1 | Version::V2 => ("tpm_quote", "hcl_report"),
        };
        let vcek = match version {
            Version::V0 => {
                let text = value.get("vcek").and_then(Value::as_str).filter(|text| text.len() <= MAX_VCEK);
                let text = text.filter(|text| text.starts_with("-----BEGIN"));
                let wrong = Error::Field { field: "vcek", reason: "missing, not PEM or too long" };
                text.ok_or(wrong)?.as_bytes().to_vec()
            }
            Version::V1 | Version::V2 => version.bytes(value, "vcek", MAX_VCEK)?,
        };
        Ok(Evidence {
            version,
            quoted: version.quoted(value, quote)?,
            hcl: HclReport::parse(&version.bytes(value, report, MAX_REPORT)?)?,
            vcek,
        })
    }

    /// The JSON form, of the version it was read in.
    pub fn to_json(&self) -> Value {
        let mut map = self.version.object();
        let (quote, report, vcek) = match self.version {
            Version::V0 => ("quote", "report", json!(String::from_utf8_lossy(&self.vcek))),
            Version::V1 | Version::V2 => ("tpm_quote", "hcl_report", self.version.of_bytes(&self.vcek)),
        };
        map.insert(quote.into(), self.version.of_quoted(&self.quoted));
        map.insert(report.into(), self.version.of_bytes(self.hcl.to_bytes()));
        map.insert("vcek".into(), vcek);
        Value::Object(map)
    }

    /// The vTPM's quote.
    pub fn quoted(&self) -> &Quoted {
        &self.quoted
    }

    /// The paravisor's report.
    pub fn hcl(&self) -> &HclReport {
        &self.hcl
    }
}

/// What verification needs of AMD: as for a bare SNP guest, the list of revoked certificates.
pub fn needs(evidence: &Evidence) -> Vec<Need> {
    Report::parse(evidence.hcl.report()).map(|report| snp::needs(&bare(evidence, report))).unwrap_or_default()
}

/// Verifies evidence without remembering chains. See [`verify_cached`].
pub fn verify(
    evidence: &Evidence,
    roots: &Roots,
    rules: &Rules,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
) -> Verdict {
    verify_cached(evidence, roots, rules, collateral, expectation, &ChainCache::new(0))
}

/// Verifies evidence: the SNP report up to AMD's root by all rules of a bare SNP guest, the paravisor's data by it, the
/// vTPM's quote by the key in that data.
///
/// Report data: the quote's qualifying data is the challenge, byte for byte; in version 2 it also stands in the paravisor's
/// data, zero-padded. Initdata: register 8 was extended once, with its 32-byte digest.
///
/// The hardware binds what the paravisor says, so a policy must know the paravisor (`measurement`): whoever starts a guest of
/// his own on any SNP machine can have it vouch for a key of his. And the guest's boot extends the registers, so a policy
/// must know those that measure it (`tpm.pcr11`).
pub fn verify_cached(
    evidence: &Evidence,
    roots: &Roots,
    rules: &Rules,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
    cache: &ChainCache,
) -> Verdict {
    let report = Report::parse(evidence.hcl.report());
    let mut checks = vec![Check::new(
        "hcl.snp-report",
        report.is_ok(),
        Code::AttestEvidenceMalformed,
        "an SNP report",
        report.as_ref().map_or_else(Error::to_string, |_| "one".to_owned()),
        "AMD 56860, ATTESTATION_REPORT",
    )];
    let reported = report.as_ref().ok().map(|report| report.report_data);
    let (mut simulated, mut hardware_claims) = (false, Value::Null);
    if let Ok(report) = report {
        // REPORTDATA is not the challenge here, `hcl.runtime-data` says what it must be; and initdata is not in HOST_DATA.
        let inner = Expectation { report_data: None, init_data_digest: None, now_unix: expectation.now_unix };
        let bare = bare(evidence, report);
        // Whatever other guests may do: here VMPL 0 is the paravisor, and the guest itself, which runs at VMPL 2, could
        // have any data vouched for by a report of its own level.
        let rules = Rules { max_vmpl: 0, ..rules.clone() };
        let verdict = snp::verify_cached(&bare, roots, &rules, collateral, &inner, cache);
        (simulated, hardware_claims) = (verdict.simulated, verdict.claims);
        checks.extend(verdict.checks);
    }
    let kind = (evidence.version, Hardware::Snp);
    let (more, data) = vtpm::checks(kind, &evidence.hcl, reported.as_ref(), &evidence.quoted, expectation);
    checks.extend(more);
    let mut verdict = Verdict { checks, claims: Value::Null, simulated };
    if let (true, Some(data), Value::Object(hardware)) = (verdict.ok(), data, hardware_claims) {
        let mut map = textual(hardware);
        vtpm::claims(&mut map, &evidence.quoted, Some(&data));
        map.insert("simulated".into(), json!(simulated));
        verdict.claims = Value::Object(map);
    }
    verdict
}

/// What the evidence says, as claims. Nothing of it is verified.
pub fn unverified(evidence: &Evidence) -> Value {
    let report = Report::parse(evidence.hcl.report());
    let hardware = report.map(|report| snp::claims(&report)).unwrap_or_default();
    let mut map = match hardware {
        Value::Object(hardware) => textual(hardware),
        _ => Map::new(),
    };
    vtpm::claims(&mut map, &evidence.quoted, RuntimeData::parse(evidence.hcl.data()).ok().as_ref());
    Value::Object(map)
}

/// The SNP report with the VCEK that was sent along.
fn bare(evidence: &Evidence, report: Report) -> snp::Evidence {
    let entry = snp::CertEntry { cert_type: "VCEK".to_owned(), data: evidence.vcek.clone() };
    snp::Evidence { report, cert_chain: vec![entry] }
}

/// SNP's claims as upstream gives them for Azure: numbers and switches as text, the measurement in base64, no chip id.
fn textual(hardware: Map<String, Value>) -> Map<String, Value> {
    let converted = hardware.into_iter().filter(|(name, _)| name != "chip_id").map(|(name, value)| {
        let value = match value {
            Value::Bool(switch) => switch.to_string().into(),
            Value::Number(number) => number.to_string().into(),
            Value::String(text) if name == "measurement" => {
                hex::decode(&text).map(|bytes| STANDARD.encode(bytes)).unwrap_or_default().into()
            }
            other => other,
        };
        (name, value)
    });
    converted.collect()
}
