//! Every rule that a quote must meet whatever it attests, each a node of the verdict.
//!
//! Source: 4.1.2.4 of the design of Intel's quote verification library, and its appendix on collateral.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_stage::Code;
use serde_json::{Map, Value};

use super::chain::{self, PckChain};
use super::claims::claims;
use super::enclave::EnclaveReport;
use super::endorse::{Dated, Endorsed, endorse, revocation};
use super::identity::QeIdentity;
use super::quote::{Body, Quote};
use super::rules::{Rules, Trust};
use super::tcb::{Appraised, TdxSvn, appraise, module_of};
use super::td::TdReport;
use super::time;
use crate::Check;
use crate::collateral::Collateral;
use crate::x509::{Certificate, Curve, Hash, PublicKey, Scheme};

const QUOTE: &str = "Intel DCAP quoting library API, appendix A";
const QVL: &str = "Intel DCAP quote verification, 4.1.2.4";
const RULES: &str = "the operator's rules";

/// What came of a quote. The claims are worth something only where every check passed.
pub(crate) struct Outcome {
    pub checks: Vec<Check>,
    pub claims: Map<String, Value>,
    pub simulated: bool,
}

/// Makes every check that needs no collateral: certificate chain to a trusted root, its dates, and all signatures of the
/// quote. It says nothing of revocation and of the TCB, so that there is no verdict and there are no claims.
pub fn verify_offline(quote: &Quote, trust: &Trust, now_unix: u64) -> Vec<Check> {
    genuine(quote, trust, now_unix).0
}

/// The checks without collateral; the chain where it is trusted; whether anything points to a simulated root.
fn genuine(quote: &Quote, trust: &Trust, now: u64) -> (Vec<Check>, Option<Arc<PckChain>>, bool) {
    let mut checks = Vec::with_capacity(48);
    let (chain, simulated) = match chain::verify(&quote.chain, &trust.roots, &trust.cache) {
        Ok(chain) => {
            checks.push(chain::trusted(&chain));
            checks.push(certificate_validity("pck.validity", &chain.leaf, now));
            checks.push(certificate_validity("pck-ca.validity", &chain.authority, now));
            checks.push(certificate_validity("pck-root.validity", &chain.root, now));
            let simulated = chain.simulated;
            (Some(chain), simulated)
        }
        Err(untrusted) => {
            checks.push(untrusted.check);
            (None, untrusted.simulated)
        }
    };
    let valid = chain
        .as_ref()
        .map(|chain| chain.key.verify_sig(quote.qe_report.bytes(), &quote.qe_signature).is_ok());
    checks.push(signature("qe.report-signature", valid, "ECDSA P-256 by the PCK certificate's key"));
    checks.push(attestation_key(quote));
    let [x, y] =
        [quote.attestation_key.get(..32), quote.attestation_key.get(32..)].map(Option::unwrap_or_default);
    let key = PublicKey::ec(Curve::P256, x, y);
    let scheme = Scheme::EcdsaFixed(Hash::Sha256);
    let valid = key.is_ok_and(|key| key.verifies(scheme, &quote.signed, &quote.signature));
    checks.push(signature("quote.signature", Some(valid), "ECDSA P-256 by the attestation key"));
    (checks, chain, simulated)
}

/// Makes every check of a quote but those of what it attests.
pub(crate) fn verify(quote: &Quote, trust: &Trust, collateral: &Collateral, now: u64) -> Outcome {
    let (mut checks, chain, simulated) = genuine(quote, trust, now);
    let Some(chain) = chain else { return Outcome { checks, claims: Map::new(), simulated } };
    let endorsed = endorse(&chain, quote.header.tee, collateral, &trust.cache);
    checks.extend(endorsed.checks.iter().cloned());
    let grace = trust.rules.collateral_grace_seconds;
    checks.extend(endorsed.dated.iter().map(|dated| update(dated, now, grace)));
    let revoked = endorsed.pck_crl.as_ref().map(|crl| crl.revokes(&chain.leaf));
    checks.push(revocation("pck.revocation", &chain.leaf, revoked));
    if let Some(identity) = &endorsed.identity {
        checks.extend(quoting_enclave(identity, &quote.qe_report));
    }
    let claims = tcb(quote, &chain, &endorsed, &trust.rules, now, &mut checks);
    Outcome { checks, claims: claims.unwrap_or_default(), simulated }
}

/// Level and status of the platform; claims where there is a level.
fn tcb(
    quote: &Quote,
    chain: &PckChain,
    endorsed: &Endorsed,
    rules: &Rules,
    now: u64,
    checks: &mut Vec<Check>,
) -> Option<Map<String, Value>> {
    let (Some(info), Some(identity)) = (&endorsed.tcb_info, &endorsed.identity) else {
        let code = Code::AttestCollateralMissing;
        checks.push(Check::new("tcb.status", false, code, "a known status", "no verified collateral", QVL));
        return None;
    };
    let td = match &quote.body {
        Body::Td(td) => Some(td.as_ref()),
        Body::Enclave(_) => None,
    };
    if let Some(td) = td {
        checks.extend(module(td, module_of(info, &td.tee_tcb_svn)));
    }
    if let Some(least) = rules.minimum_tcb_evaluation_data_number {
        let number = info.evaluation_data_number.min(identity.evaluation_data_number);
        checks.push(Check::new(
            "tcb.evaluation-data-number",
            number >= least,
            Code::AttestCollateralInvalid,
            format!("at least {least}"),
            number.to_string(),
            RULES,
        ));
    }
    let Some(qe) = identity.level(quote.qe_report.isv_svn) else {
        let got = format!("ISVSVN {}", quote.qe_report.isv_svn);
        let code = Code::AttestTcbRevoked;
        checks.push(Check::new("tcb.status", false, code, "a known quoting enclave", got, QVL));
        return None;
    };
    let now15 = td.and_then(|td| td.tdx15.as_ref()).map(|tdx15| tdx15.tee_tcb_svn2);
    let at_launch = td.map(|td| TdxSvn { launch: td.tee_tcb_svn, now: now15 });
    let appraised = appraise(info, &chain.pck, qe, at_launch);
    checks.push(status("tcb.status", &appraised, rules, now));
    // After a TD-preserving update the module that runs is not the one that the TD was started with: both must do.
    let current = now15.map(|svn| appraise(info, &chain.pck, qe, Some(TdxSvn { launch: svn, now: None })));
    if let Some(current) = &current {
        checks.push(status("tcb.status-current", current, rules, now));
    }
    let current = current.and_then(Result::ok);
    let appraised = appraised.ok()?;
    if !rules.refused_advisories.is_empty() {
        checks.push(advisories(&appraised, current.as_ref(), rules));
    }
    Some(claims(chain, endorsed, info, identity, &appraised, current.as_ref(), qe, now))
}

fn certificate_validity(name: &'static str, certificate: &Certificate, now: u64) -> Check {
    let validity = certificate.validity();
    let dated = Dated { name, subject: certificate.subject(), validity, certificate: true };
    update(&dated, now, 0)
}

/// Certificates must be valid; documents may be used for the grace beyond their next update.
fn update(dated: &Dated, now: u64, grace: u64) -> Check {
    let (from, until) = (dated.validity.not_before, dated.validity.not_after);
    let (last, code) = match dated.certificate {
        true => (until, Code::AttestCertificateExpired),
        false => (until.saturating_add(grace), Code::AttestCollateralInvalid),
    };
    let expected = format!("{} valid at {}", dated.subject, time::format(now));
    let got = format!("valid from {} until {}", time::format(from), time::format(until));
    Check::new(
        dated.name,
        (from..=last).contains(&now),
        code,
        expected,
        got,
        "RFC 5280; Intel PCS, nextUpdate",
    )
}

fn signature(name: &'static str, valid: Option<bool>, expected: &str) -> Check {
    let got = match valid {
        None => "no trusted certificate to verify it with",
        Some(true) => "valid",
        Some(false) => "invalid",
    };
    Check::new(name, valid == Some(true), Code::AttestSignatureInvalid, expected, got, QUOTE)
}

/// The quoting enclave vouches for the attestation key by its hash in the enclave's report data.
fn attestation_key(quote: &Quote) -> Check {
    let bound = digest(&SHA256, &[&quote.attestation_key[..], &quote.qe_auth].concat());
    let mut expected = [0; 64];
    expected.iter_mut().zip(bound.as_ref()).for_each(|(e, d)| *e = *d);
    let got = quote.qe_report.report_data;
    let code = Code::AttestSignatureInvalid;
    Check::new("qe.report-data", got == expected, code, hex::encode(expected), hex::encode(got), QUOTE)
}

fn quoting_enclave(identity: &QeIdentity, report: &EnclaveReport) -> [Check; 4] {
    let code = Code::AttestSignatureInvalid;
    let attributes = hex::encode([report.flags, report.xfrm].concat());
    [
        Check::new(
            "qe.mrsigner",
            report.mr_signer == identity.mrsigner,
            code,
            hex::encode(identity.mrsigner),
            hex::encode(report.mr_signer),
            QVL,
        ),
        Check::new(
            "qe.product",
            report.isv_prod_id == identity.isv_prod_id,
            code,
            identity.isv_prod_id.to_string(),
            report.isv_prod_id.to_string(),
            QVL,
        ),
        Check::new(
            "qe.miscselect",
            identity.misc_select_fits(report),
            code,
            "that of the identity, under its mask",
            hex::encode(report.misc_select),
            QVL,
        ),
        Check::new(
            "qe.attributes",
            identity.attributes_fit(report),
            code,
            "those of the identity, under its mask",
            attributes,
            QVL,
        ),
    ]
}

/// The TDX module must be of the maker that TCB information names, and without attributes.
fn module(td: &TdReport, module: Option<super::tcb_info::TdxModule>) -> [Check; 2] {
    let code = Code::AttestTcbRevoked;
    let signer = module.as_ref().map(|m| m.mrsigner);
    let attributes = module.as_ref().map(|m| m.attributes);
    let unknown = "a known TDX module";
    [
        Check::new(
            "tdx-module.mrsigner",
            signer == Some(td.mrsigner_seam),
            code,
            signer.map_or(unknown.to_owned(), hex::encode),
            hex::encode(td.mrsigner_seam),
            QVL,
        ),
        Check::new(
            "tdx-module.attributes",
            attributes == Some(td.seam_attributes) && td.seam_attributes == [0; 8],
            code,
            attributes.map_or(unknown.to_owned(), hex::encode),
            hex::encode(td.seam_attributes),
            QVL,
        ),
    ]
}

fn status(name: &'static str, appraised: &Result<Appraised, &'static str>, rules: &Rules, now: u64) -> Check {
    let expected = "a status that the rules accept";
    let unknown = Code::AttestTcbRevoked;
    match appraised {
        Err(reason) => Check::new(name, false, unknown, expected, *reason, QVL),
        Ok(appraised) => {
            let ok = rules.accepts(appraised.status, appraised.oldest, now);
            let code = match appraised.status {
                super::status::TcbStatus::Revoked => unknown,
                _ => Code::AttestTcbOutdated,
            };
            let got = format!("{} as of {}", appraised.status.name(), time::format(appraised.oldest));
            Check::new(name, ok, code, expected, got, QVL)
        }
    }
}

fn advisories(appraised: &Appraised, current: Option<&Appraised>, rules: &Rules) -> Check {
    let applies = |id: &&String| {
        appraised.advisories.contains(*id) || current.is_some_and(|c| c.advisories.contains(*id))
    };
    let found: Vec<&str> = rules.refused_advisories.iter().filter(applies).map(String::as_str).collect();
    let got = if found.is_empty() { "none".to_owned() } else { found.join(" ").chars().take(200).collect() };
    let code = Code::AttestTcbOutdated;
    Check::new("tcb.advisories", found.is_empty(), code, "none of the refused advisories", got, RULES)
}
