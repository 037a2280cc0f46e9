//! What a file holds, by its form: evidence, or a part of some.

use std::path::Path;

use cocoon_evidence::nvidia::{Architecture, DeviceEvidence, Evidence as Nvidia};
use cocoon_evidence::snp::CertEntry;
use cocoon_evidence::{Error, Evidence, tdx};
use cocoon_protocol::Tee;
use cocoon_stage::{Code, Failure};
use serde_json::Value;

use super::describe::describe;
use super::file::{decoded, json, read, usage};
use super::parts::{self, Part};
use crate::args::VerifyArgs;

/// What a file holds.
pub enum Content {
    /// Evidence, and the form that it is in.
    Evidence(Box<Evidence>, &'static str),
    /// Something that belongs to evidence.
    Part(Box<Part>),
}

/// Reads content of a known kind, or of whatever kind its form tells.
///
/// # Errors
/// [`Code::UsageInvalid`] where it is not of the kind named; else what is wrong with it.
pub fn recognise(file: &Path, tee: Option<Tee>) -> Result<Content, Failure> {
    let bytes = read(file)?;
    let found = of_bytes(&bytes, tee)
        .map_err(|failure| Failure::new(failure.code, format!("{}: {}", file.display(), failure.reason)))?;
    match (&found, tee) {
        (Content::Evidence(evidence, form), Some(tee)) if evidence.tee() != tee => {
            Err(usage(file, &format!("it is {}, not {tee}", describe(evidence, form))))
        }
        (Content::Part(part), Some(tee)) if part.device_report.is_none() || tee != Tee::Nvidia => {
            Err(usage(file, &format!("it is {}, not evidence of {tee}", part.format)))
        }
        _ => Ok(found),
    }
}

fn of_bytes(bytes: &[u8], tee: Option<Tee>) -> Result<Content, Failure> {
    let text = bytes.trim_ascii();
    if matches!(text.first(), Some(b'{' | b'[')) {
        let value = json(text).map_err(malformed)?;
        let evidence = match tee {
            Some(tee) => of_kind(tee, &value)?,
            None => match (Evidence::detect_json(&value), parts::of_json(&value)) {
                (Err(_), Some(part)) => return Ok(Content::Part(Box::new(part?))),
                (evidence, _) => evidence?,
            },
        };
        return Ok(Content::Evidence(Box::new(evidence), "JSON"));
    }
    if text.starts_with(b"-----BEGIN ") {
        return Ok(Content::Part(Box::new(parts::of_pem(text)?)));
    }
    if let Some(found) = of_binary(bytes, "binary") {
        return found;
    }
    for (form, decoded) in decoded(text) {
        if let Some(found) = of_binary(&decoded, form) {
            return found;
        }
    }
    Err(malformed("neither evidence, nor certificates, a revocation list or an event log".to_owned()))
}

/// `None` where the first bytes are those of no known form.
fn of_binary(bytes: &[u8], form: &'static str) -> Option<Result<Content, Failure>> {
    if let Some(part) = parts::of_binary(bytes, form) {
        return Some(part.map(|part| Content::Part(Box::new(part))).map_err(Failure::from));
    }
    match Evidence::detect(bytes) {
        Ok(evidence) => Some(Ok(Content::Evidence(Box::new(evidence), form))),
        Err(Error::Unsupported { what: "file", .. }) => None,
        Err(error) => Some(Err(error.into())),
    }
}

/// Evidence of that kind; or of another, if that is what it is: the wrong name is then what is wrong.
fn of_kind(tee: Tee, value: &Value) -> Result<Evidence, Error> {
    Evidence::from_json(tee, value).or_else(|error| match Evidence::detect_json(value) {
        Ok(other) if other.tee() != tee => Ok(other),
        _ => Err(error),
    })
}

fn malformed(reason: String) -> Failure {
    Failure::new(Code::AttestEvidenceMalformed, reason)
}

/// The evidence to verify, with what a bare report or quote does not carry and flags name.
///
/// # Errors
/// [`Code::UsageInvalid`] where a part lacks what makes it evidence, or a file belongs to other evidence.
pub fn completed(content: Content, args: &VerifyArgs) -> Result<(Evidence, String), Failure> {
    let (mut evidence, mut form) = match content {
        Content::Evidence(evidence, form) => (*evidence, form.to_owned()),
        Content::Part(part) => (device(&part, args)?, "report and certificates from files".to_owned()),
    };
    if let (Some(file), false) = (&args.certificate, matches!(evidence, Evidence::Nvidia(_))) {
        let Evidence::Snp(snp) = &mut evidence else {
            return Err(usage(file, "a certificate belongs to an SNP or NVIDIA report; this is none"));
        };
        let vlek = (snp.report.key_info >> 2) & 7 == 1;
        let cert_type = if vlek { "VLEK" } else { "VCEK" }.to_owned();
        snp.cert_chain = vec![CertEntry { cert_type, data: read(file)? }];
        form.push_str(" and a certificate from a file");
    }
    if let Some(file) = &args.event_log {
        let Evidence::Tdx(tdx) = &evidence else {
            return Err(usage(file, "an event log belongs to a TDX quote; this is none"));
        };
        let completed = tdx::Evidence::new(tdx.quote.bytes(), Some(&read(file)?));
        evidence = Evidence::Tdx(Box::new(completed.map_err(|e| usage(file, &e.to_string()))?));
    }
    let format = describe(&evidence, &form);
    Ok((evidence, format))
}

/// Evidence of one NVIDIA device, whose certificates are in another file.
fn device(part: &Part, args: &VerifyArgs) -> Result<Evidence, Failure> {
    let lone = |what: &str| usage(&args.file, &format!("{}: {what}", part.format));
    let Some(report) = &part.device_report else {
        return Err(lone(&format!("it is no evidence on its own; {}", part.belongs_to)));
    };
    let file = args.certificate.as_ref().ok_or_else(|| {
        lone("the device's certificates are missing; name their file (PEM) with --certificate")
    })?;
    let chain = read(file)?;
    let architecture = architecture(report, &chain);
    let device = DeviceEvidence::new(architecture, None, report, &chain)
        .map_err(|e| Failure::new(Failure::from(e.clone()).code, format!("{}: {e}", args.file.display())))?;
    Ok(Evidence::Nvidia(Box::new(Nvidia { devices: vec![device] })))
}

/// The architecture that the certificates name; else one as which the report can be read. Verification checks it.
fn architecture(report: &[u8], chain: &[u8]) -> Architecture {
    let named = cocoon_evidence::x509::Certificate::parse_chain(chain).unwrap_or_default();
    let named = named.iter().find_map(|certificate| {
        let subject = certificate.subject();
        parts::ARCHITECTURES.into_iter().find(|a| match a {
            Architecture::Hopper => subject.contains("GH100"),
            Architecture::Blackwell => subject.contains(" GB1") || subject.contains(" GB2"),
            Architecture::Ls10 => subject.contains("LS_10"),
        })
    });
    named.unwrap_or_else(|| parts::device(report).map_or(Architecture::Hopper, |(a, _)| a))
}
