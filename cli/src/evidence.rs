//! `cocoon evidence`: verify evidence without a Trustee and without a network, or just look at it.

mod collateral;
mod show;
mod trust;

use std::path::Path;

use cocoon_evidence::snp::CertEntry;
use cocoon_evidence::{Check, Error, Evidence, Expectation, Verified, Verifier, tdx};
use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use crate::args::{EvidenceCommand, VerifyArgs};

pub use trust::public_key;

/// Largest file that is read.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Runs the command; 1 where evidence did not verify.
pub fn main(command: EvidenceCommand) -> Result<u8, Failure> {
    match command {
        EvidenceCommand::Verify(args) => verify(&args),
        EvidenceCommand::Show(args) => show::show(&args).map(|()| 0),
    }
}

fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
    let now_unix = args.at.unwrap_or_else(crate::embedded::now);
    let evidence = completed(read_evidence(&args.file, args.tee)?, args)?;
    let digest = match (&args.init_data, &args.init_data_digest) {
        (Some(file), _) => {
            let text = String::from_utf8(read(file)?).map_err(|e| usage(file, &e.to_string()))?;
            Some(InitData::parse(&text)?.digest())
        }
        (None, digest) => digest.as_ref().map(|hex| hex.0.clone()),
    };
    let expectation = Expectation {
        report_data: args.report_data.as_ref().map(|hex| hex.0.as_slice()),
        init_data_digest: digest.as_deref(),
        now_unix,
    };
    let collateral = collateral::at_hand(&evidence, &args.collateral)?;
    let verifier = Verifier::new(trust::trust(args)?);
    let verified = verifier.verify(&evidence, &collateral, &expectation, &[])?;
    let ok = verified.iter().all(|v| v.verdict.ok());
    if args.json {
        println!("{}", in_json(&evidence, &verified, ok, args));
    } else {
        in_words(&evidence, &verified, ok, args).iter().for_each(|line| println!("{}", plain(line)));
    }
    Ok(u8::from(!ok))
}

/// Reads evidence of a known kind, or of whatever kind its form tells.
fn read_evidence(file: &Path, tee: Option<cocoon_protocol::Tee>) -> Result<Evidence, Failure> {
    let bytes = read(file)?;
    let of_file = |error: Error| {
        let failure = Failure::from(error);
        Failure::new(failure.code, format!("{}: {}", file.display(), failure.reason))
    };
    let Some(tee) = tee else { return Evidence::detect(&bytes).map_err(of_file) };
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::new(Code::AttestEvidenceMalformed, format!("{}: {e}", file.display())))?;
    Evidence::from_json(tee, &value).map_err(of_file)
}

/// Adds what a bare report or quote does not carry.
fn completed(mut evidence: Evidence, args: &VerifyArgs) -> Result<Evidence, Failure> {
    if let Some(file) = &args.certificate {
        let Evidence::Snp(snp) = &mut evidence else {
            return Err(usage(file, "a certificate belongs to an SNP report; this is none"));
        };
        let vlek = (snp.report.key_info >> 2) & 7 == 1;
        let cert_type = if vlek { "VLEK" } else { "VCEK" }.to_owned();
        snp.cert_chain = vec![CertEntry { cert_type, data: read(file)? }];
    }
    if let Some(file) = &args.event_log {
        let Evidence::Tdx(tdx) = &evidence else {
            return Err(usage(file, "an event log belongs to a TDX quote; this is none"));
        };
        let log = read(file)?;
        evidence = Evidence::Tdx(Box::new(tdx::Evidence::new(tdx.quote.bytes(), Some(&log))?));
    }
    Ok(evidence)
}

fn in_json(evidence: &Evidence, verified: &[Verified], ok: bool, args: &VerifyArgs) -> Value {
    let verdict = |v: &Verified| {
        json!({
            "class": v.class,
            "ok": v.verdict.ok(),
            "simulated": v.verdict.simulated,
            "checks": v.verdict.checks,
            "claims": v.verdict.claims,
            "init_data": v.init_data,
        })
    };
    json!({
        "tee": evidence.tee(),
        "ok": ok,
        "report_data_compared": args.report_data.is_some(),
        "verdicts": verified.iter().map(verdict).collect::<Vec<_>>(),
    })
}

fn in_words(evidence: &Evidence, verified: &[Verified], ok: bool, args: &VerifyArgs) -> Vec<String> {
    let mut lines = Vec::new();
    for v in verified {
        let simulated = if v.verdict.simulated { ", SIMULATED: it proves nothing" } else { "" };
        lines.push(format!("{} evidence ({}{simulated})", evidence.tee(), v.class));
        lines.extend(v.verdict.checks.iter().map(check_line));
        if args.report_data.is_none() {
            lines.push("  – report data: not compared; give --report-data to prove freshness".into());
        }
        if let Some(digest) = &v.init_data {
            lines.push(format!("  initdata bound by the TEE: {digest}"));
        }
        match v.verdict.failure() {
            Some(failure) => {
                lines.push(format!("  code:   {}: {}", failure.code, failure.code.summary()));
                lines.push(format!("  next:   {}", failure.code.next_step()));
            }
            None => lines.extend(show::tree(&v.verdict.claims, 1)),
        }
    }
    lines.push(if ok { "genuine".into() } else { "NOT genuine, or not proven".into() });
    lines
}

fn check_line(check: &Check) -> String {
    let Check { name, expected, got, source, code } = check;
    match code {
        None => format!("  ✔ {name}: expected {expected}, got {got} ({source})"),
        Some(code) => format!("  ✘ {name}: expected {expected}, got {got} ({source}) {code}"),
    }
}

/// Parts of a verdict come from hostile evidence: they must not speak to the terminal.
fn plain(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A file of bounded size.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let io = |e: std::io::Error| usage(file, &e.to_string());
    let length = std::fs::metadata(file).map_err(io)?.len();
    if length > MAX_FILE {
        return Err(usage(file, "longer than 16 MiB"));
    }
    std::fs::read(file).map_err(io)
}

fn usage(file: &Path, reason: &str) -> Failure {
    Failure::new(Code::UsageInvalid, format!("{}: {reason}", file.display()))
}
