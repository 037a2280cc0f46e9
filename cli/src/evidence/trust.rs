//! Whom `cocoon evidence verify` trusts besides the vendors, by its flags.

use std::path::Path;
use std::sync::Arc;

use cocoon_evidence::x509::{Certificate, PublicKey};
use cocoon_evidence::{Error, Trust, cca, csv, dcap, dpu, nvidia, snp, tpm};
use cocoon_stage::Failure;

use super::file::{json, read, usage};
use crate::args::VerifyArgs;

pub fn trust(args: &VerifyArgs) -> Result<Trust, Failure> {
    let allow_debug = args.allow_debug;
    let dcap_rules = dcap::Rules { allow_debug, ..dcap::Rules::default() };
    let dpu_roots = args.dpu_root.iter().map(|file| certificates(file)).collect::<Result<Vec<_>, _>>()?;
    Ok(Trust {
        snp_rules: snp::Rules {
            allow_debug,
            allow_v2: args.allow_v2,
            max_vmpl: args.max_vmpl,
            require_crl: args.require_crl,
            ..snp::Rules::default()
        },
        dcap: Arc::new(dcap::Trust { rules: dcap_rules, ..dcap::Trust::default() }),
        tpm: tpm::Trust {
            enrolled: args.trusted_ak.iter().map(|file| enrolled(file)).collect::<Result<_, _>>()?,
            ..tpm::Trust::default()
        },
        cca: Arc::new(cca_store(args)?),
        csv_rules: csv::Rules { allow_debug, ..csv::Rules::default() },
        nvidia: nvidia::Trust { require_rims: args.require_rims, ..nvidia::Trust::default() },
        dpu: dpu::Trust { roots: dpu_roots.into_iter().flatten().collect(), ..dpu::Trust::default() },
        accept_sample: args.accept_sample,
        ..Trust::default()
    })
}

fn enrolled(file: &Path) -> Result<tpm::Enrolled, Failure> {
    public_key(&read(file)?).map(tpm::Enrolled::Spki).map_err(|e| usage(file, &e.to_string()))
}

/// The SubjectPublicKeyInfo (DER) of a file with a public key or a certificate, PEM or DER.
///
/// # Errors
/// Where it holds neither.
pub fn public_key(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let spki = pem(bytes).unwrap_or_else(|| bytes.to_vec());
    let key = PublicKey::from_spki(&spki).and_then(|key| key.to_spki());
    key.or_else(|_| Certificate::parse(&spki).map(|certificate| certificate.spki()))
}

/// DER of a PEM file with a public key.
fn pem(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let body: String = body.split_whitespace().collect();
    cocoon_protocol::b64::std_decode(&body).ok()
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, Failure> {
    Certificate::parse_chain(&read(file)?).map_err(|e| usage(file, &e.to_string()))
}

fn cca_store(args: &VerifyArgs) -> Result<cca::Store, Failure> {
    let (Some(anchors), Some(references)) = (&args.cca_trust_anchors, &args.cca_references) else {
        return Ok(cca::Store::default());
    };
    let value = |file: &Path| json(&read(file)?).map_err(|e| usage(file, &e));
    let (anchors_json, references_json) = (value(anchors)?, value(references)?);
    // The error names which of the two it is about.
    cca::Store::from_json(&anchors_json, &references_json).map_err(|e| usage(anchors, &e.to_string()))
}
