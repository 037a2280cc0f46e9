//! Azure guests on Intel TDX (`az-tdx-vtpm`).
//!
//! Version 0: `{"tpm_quote": {"message", "pcrs", "signature"}, "hcl_report": [bytes], "td_quote": [bytes]}`. Versions 1 and 2:
//! `{"version", "tpm_quote": {…}, "hcl_report": base64url, "td_quote": base64url}`.

use cocoon_stage::Code;
use serde_json::{Map, Value, json};

use super::evidence::Version;
use super::hcl::{Hardware, HclReport, MAX_REPORT, RuntimeData};
use super::vtpm;
use crate::collateral::{Collateral, Need};
use crate::dcap::{self, Body, Quote, TdReport, Trust};
use crate::reader::Reader;
use crate::tpm::Quoted;
use crate::{Check, Error, Expectation, Verdict};

/// A quote longer than this is not read; Azure's have 5006 bytes, of which the last are zeros.
const MAX_QUOTE: usize = 16 * 1024;

/// Parsed evidence.
#[derive(Clone, Debug)]
pub struct Evidence {
    version: Version,
    quoted: Quoted,
    hcl: HclReport,
    td_quote: Quote,
}

impl Evidence {
    /// Reads the JSON form of any version.
    ///
    /// # Errors
    /// [`Error::Field`] for what is missing, ill-formed or too long; [`Error::Unsupported`] for other versions; else what the
    /// parts' parsers say.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let version = Version::of(value)?;
        Ok(Evidence {
            version,
            quoted: version.quoted(value, "tpm_quote")?,
            hcl: HclReport::parse(&version.bytes(value, "hcl_report", MAX_REPORT)?)?,
            td_quote: Quote::parse(&version.bytes(value, "td_quote", MAX_QUOTE)?)?,
        })
    }

    /// The JSON form, of the version it was read in.
    pub fn to_json(&self) -> Value {
        let mut map = self.version.object();
        map.insert("tpm_quote".into(), self.version.of_quoted(&self.quoted));
        map.insert("hcl_report".into(), self.version.of_bytes(self.hcl.to_bytes()));
        map.insert("td_quote".into(), self.version.of_bytes(self.td_quote.bytes()));
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

    /// The TD's quote.
    pub fn td_quote(&self) -> &Quote {
        &self.td_quote
    }
}

/// What verification needs of Intel.
pub fn needs(evidence: &Evidence) -> Vec<Need> {
    dcap::needs(&evidence.td_quote)
}

/// Verifies evidence: the TD's quote up to Intel's root with all collateral, the paravisor's data by it, the vTPM's quote by
/// the key in that data.
///
/// Report data: the quote's qualifying data is the challenge, byte for byte; in version 2 it also stands in the paravisor's
/// data, zero-padded. Initdata: register 8 of the vTPM was extended once, with its 32-byte digest; MRCONFIGID is the host's
/// own.
///
/// The hardware binds what the paravisor says, so a policy must know the paravisor (`quote.body.mr_td`): whoever starts a TD
/// of his own can have it vouch for a key of his. And the guest's boot extends the registers, so a policy must know those
/// that measure it (`tpm.pcr11`).
pub fn verify(
    evidence: &Evidence,
    trust: &Trust,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
) -> Verdict {
    let inner = Expectation { report_data: None, init_data_digest: None, now_unix: expectation.now_unix };
    let hardware = crate::tdx::verify_quote(&evidence.td_quote, trust, collateral, &inner);
    let kind = (evidence.version, Hardware::Tdx);
    let reported = Some(evidence.td_quote.report_data());
    let (more, data) = vtpm::checks(kind, &evidence.hcl, reported, &evidence.quoted, expectation);
    let mut checks = hardware.checks;
    checks.extend(more);
    checks.push(same_report(evidence));
    let mut verdict = Verdict { checks, claims: Value::Null, simulated: hardware.simulated };
    if let (true, Some(data), Value::Object(mut map)) = (verdict.ok(), data, hardware.claims) {
        vtpm::claims(&mut map, &evidence.quoted, Some(&data));
        map.insert("simulated".into(), json!(hardware.simulated));
        verdict.claims = Value::Object(map);
    }
    verdict
}

/// What the evidence says, as claims. Nothing of it is verified.
pub fn unverified(evidence: &Evidence) -> Value {
    let mut map = match &evidence.td_quote.body {
        Body::Td(td) => crate::tdx::claims(&evidence.td_quote, td),
        Body::Enclave(_) => Map::new(),
    };
    vtpm::claims(&mut map, &evidence.quoted, RuntimeData::parse(evidence.hcl.data()).ok().as_ref());
    Value::Object(map)
}

/// The TD report that the paravisor left is the one that was quoted. Nothing is concluded from it, the quote says the same;
/// but a report that says something else was tampered with. Not compared: what quotes lack (CPUSVN, hashes, MAC).
fn same_report(evidence: &Evidence) -> Check {
    let left = quoted_part(evidence.hcl.report());
    let ok = match (&left, &evidence.td_quote.body) {
        (Ok(left), Body::Td(td)) => *left == parts(td),
        _ => false,
    };
    Check::new(
        "hcl.td-report",
        ok,
        Code::AttestEvidenceMalformed,
        "the TD report that was quoted",
        match &left {
            Ok(_) if ok => "it".to_owned(),
            Ok(_) => "another".to_owned(),
            Err(error) => error.to_string(),
        },
        "Intel TDX module ABI, TDREPORT_STRUCT",
    )
}

/// A TD report's fields in the order of a quote's body.
fn parts(td: &TdReport) -> Vec<u8> {
    let mut out = Vec::with_capacity(TdReport::SIZE_10);
    out.extend(td.tee_tcb_svn);
    out.extend(td.mr_seam);
    out.extend(td.mrsigner_seam);
    out.extend(td.seam_attributes);
    out.extend(td.td_attributes);
    out.extend(td.xfam);
    out.extend(td.mr_td);
    out.extend(td.mr_config_id);
    out.extend(td.mr_owner);
    out.extend(td.mr_owner_config);
    td.rtmr.iter().for_each(|rtmr| out.extend(rtmr));
    out.extend(td.report_data);
    out
}

/// The same of a `TDREPORT_STRUCT` of 1024 bytes with zeros behind it.
fn quoted_part(report: &[u8]) -> Result<Vec<u8>, Error> {
    let mut r = Reader::new("TD report", report);
    // REPORTMACSTRUCT: type (TDX, with any version), 12 reserved bytes, CPUSVN, two hashes, REPORTDATA, reserved, MAC.
    let [tee, subtype, _, reserved] = r.array::<4>()?;
    if (tee, subtype, reserved) != (0x81, 0, 0) {
        return Err(r.error("not of a TD"));
    }
    r.zeros(12)?;
    r.take(16 + 48 + 48)?;
    let report_data = r.take(64)?;
    r.zeros(32)?;
    r.take(32)?;
    // TEE_TCB_INFO: which fields are valid, then 120 bytes as in quotes, then what quotes of version 4 lack.
    r.take(8)?;
    let module = r.take(16 + 48 + 48 + 8)?;
    r.take(16)?;
    r.zeros(95 + 17)?;
    // TDINFO: 400 bytes as in quotes, the service TDs' hash, reserved.
    let td = r.take(8 + 8 + 4 * 48 + 4 * 48)?;
    r.take(48)?;
    r.zeros(r.rest().len())?;
    Ok([module, td, report_data].concat())
}
