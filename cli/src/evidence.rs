//! `cocoon evidence`: verify evidence without a Trustee and without a network, or just look at it.
//!
//! Every file named is hostile: it is read up to a bound, and nothing of it reaches the terminal but printable characters.

mod certificates;
mod collateral;
mod content;
mod describe;
mod file;
mod intel;
mod parts;
mod report;
mod show;
mod text;
mod trust;

use cocoon_evidence::{Expectation, Verifier};
use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure};

use self::content::{completed, recognise};
use self::file::{read, usage};
use self::report::Report;
use self::text::{plain, say_json, say_lines};
use crate::args::{EvidenceCommand, VerifyArgs};
use crate::output::Output;

pub use trust::public_key;

/// Runs the command; 1 where evidence did not verify.
pub fn main(command: EvidenceCommand) -> Result<u8, Failure> {
    let done = match command {
        EvidenceCommand::Verify(args) => verify(&args),
        EvidenceCommand::Show(args) => show::show(&args).map(|()| 0),
    };
    // A reason may repeat what the file says.
    done.map_err(|failure| Failure { reason: plain(&failure.reason), ..failure })
}

fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
    let at_unix = args.at.unwrap_or_else(crate::embedded::now);
    // What the flags name is read first: a wrong flag is no verdict on the evidence.
    let (trust, digest) = (trust::trust(args)?, init_data_digest(args)?);
    match judge(args, trust, digest.as_deref(), at_unix) {
        // Of the file, and so a finding: it is not evidence that could be proven genuine.
        Err(failure) if of_evidence(failure.code) => {
            let failure = Failure { reason: plain(&failure.reason), ..failure };
            if args.json {
                say_json(&report::unreadable(&failure, at_unix))?;
            } else {
                Output { json: false, quiet: false }.failure(&failure, None);
            }
            Ok(1)
        }
        other => other,
    }
}

fn of_evidence(code: Code) -> bool {
    matches!(code, Code::AttestEvidenceMalformed | Code::AttestTeeUnsupported)
}

fn judge(
    args: &VerifyArgs,
    trust: cocoon_evidence::Trust,
    digest: Option<&[u8]>,
    now_unix: u64,
) -> Result<u8, Failure> {
    let (evidence, format) = completed(recognise(&args.file, args.tee)?, args)?;
    let report_data = args.report_data.as_ref().map(|hex| hex.0.as_slice());
    let expectation = Expectation { report_data, init_data_digest: digest, now_unix };
    let collateral = collateral::at_hand(&evidence, &args.collateral)?;
    let verified = Verifier::new(trust).verify(&evidence, &collateral, &expectation, &[])?;
    let missing = evidence.needs().into_iter().filter(|need| collateral.get(need).is_none()).collect();
    let report = Report {
        evidence: &evidence,
        format: &format,
        at_unix: now_unix,
        report_data: report_data.is_some(),
        init_data: digest.is_some(),
        missing,
        verified: &verified,
    };
    if args.json {
        say_json(&report.json())?;
    } else {
        say_lines(&report.words())?;
    }
    Ok(u8::from(!report.ok()))
}

fn init_data_digest(args: &VerifyArgs) -> Result<Option<Vec<u8>>, Failure> {
    let Some(file) = &args.init_data else {
        return Ok(args.init_data_digest.as_ref().map(|hex| hex.0.clone()));
    };
    let text = String::from_utf8(read(file)?).map_err(|_| usage(file, "it is not UTF-8 text"))?;
    Ok(Some(InitData::parse(&text).map_err(|e| usage(file, &e.to_string()))?.digest()))
}
