//! Enrolment of an attestation key: what a Trustee asks before it sends a challenge, and before it keeps the key.
//!
//! 1. The TPM's owner sends the endorsement key with its certificates, and the attestation key ([`Candidate`]).
//! 2. [`appraise`] verifies all of it; nothing of it proves yet that both keys live in one TPM.
//! 3. [`Candidate::challenge`] encrypts a secret; only the TPM that has both keys can return it ([`super::is_secret`]).
//! 4. The attestation key is kept as [`super::Enrolled`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use serde_json::{Value, json};

use super::activation::{Challenge, SECRET, make_credential};
use super::endorsement;
use super::public::Public;
use crate::x509::Certificate;
use crate::{Check, Error, Verdict};

/// Keys that ask to be enrolled.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The endorsement key's public area.
    pub endorsement: Public,
    /// Its certificates, DER or PEM, its own first; at most 8.
    pub certificates: Vec<Vec<u8>>,
    /// The attestation key's public area.
    pub attestation: Public,
}

impl Candidate {
    /// Reads both public areas (`TPM2B_PUBLIC`).
    ///
    /// # Errors
    /// As [`Public::parse`].
    pub fn parse(endorsement: &[u8], certificates: Vec<Vec<u8>>, attestation: &[u8]) -> Result<Self, Error> {
        let (endorsement, attestation) = (Public::parse(endorsement)?, Public::parse(attestation)?);
        Ok(Candidate { endorsement, certificates, attestation })
    }

    /// The challenge that only the TPM with both keys can answer.
    ///
    /// # Errors
    /// As [`make_credential`].
    pub fn challenge(&self, secret: &[u8; SECRET]) -> Result<Challenge, Error> {
        make_credential(&self.endorsement, &self.attestation.name(), secret)
    }
}

/// Verifies a candidate against the roots of TPM vendors that the operator trusts. There are no others: without roots
/// nothing verifies.
///
/// Claims: `ak_public`, `ak_name`, `ek_public`, `manufacturer`, `model`, `version`.
pub fn appraise(candidate: &Candidate, roots: &[Certificate], now_unix: u64) -> Verdict {
    let (mut checks, maker) =
        endorsement::checks(&candidate.certificates, &candidate.endorsement, roots, now_unix);
    let unfit = candidate.attestation.not_attestation_key();
    checks.push(Check::new(
        "ak.attributes",
        unfit.is_none(),
        Code::AttestKeyUntrusted,
        "a restricted signing key fixed to its TPM",
        unfit.unwrap_or("one"),
        "TPM 2.0 part 2, 12.2.4 TPMT_PUBLIC",
    ));
    let spki = |public: &Public| public.key().to_spki().map(|der| STANDARD.encode(der)).unwrap_or_default();
    let mut verdict = Verdict { checks, claims: Value::Null, simulated: false };
    if let (true, Some(maker)) = (verdict.ok(), maker) {
        verdict.claims = json!({
            "ak_public": spki(&candidate.attestation),
            "ak_name": hex::encode(candidate.attestation.name()),
            "ek_public": spki(&candidate.endorsement),
            "manufacturer": maker.manufacturer,
            "model": maker.model,
            "version": maker.version,
        });
    }
    verdict
}
