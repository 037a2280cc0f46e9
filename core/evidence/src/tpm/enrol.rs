//! Enrolment of an attestation key: what a Trustee asks before it sends a challenge, and before it keeps the key.
//!
//! 1. The TPM's owner sends the endorsement key with its certificates, and the attestation key ([`Candidate`]).
//! 2. [`appraise`] verifies all of it; nothing of it proves yet that both keys live in one TPM.
//! 3. [`Candidate::challenge`] encrypts a secret; only the TPM that has both keys can return it ([`super::is_secret`]).
//! 4. The attestation key is kept as [`super::Enrolled`], or trusted for a while as [`Activated`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::activation::{Challenge, SECRET, make_credential};
use super::algorithm::hashed;
use super::public::Public;
use super::{Trust, endorsement};
use crate::x509::{Certificate, Hash};
use crate::{Check, Error, Verdict};

/// An attestation key whose TPM has answered the challenge, and what is known of that TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activated {
    /// The attestation key, SubjectPublicKeyInfo, base64 of DER.
    pub ak_public: String,
    /// SHA-256 of the endorsement key's SubjectPublicKeyInfo, hex.
    pub ek_sha256: String,
    /// SHA-256 of the endorsement key's certificate, DER, hex.
    pub ek_certificate_sha256: String,
    /// SHA-256 of the trusted root, DER, that the certificate leads to, hex.
    pub root_sha256: String,
    /// The TCG's id of the TPM's manufacturer, as its certificate says it.
    pub manufacturer: String,
    /// The TPM's model, likewise.
    pub model: String,
    /// Its firmware's version at manufacture, likewise.
    pub version: String,
    /// Whether its certificate leads to a root of simulated TPMs only.
    pub simulated: bool,
}

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

    /// What its keys become once the challenge is answered; of a verdict of [`judge`] without failed checks.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a verdict with a failed check, or of something else.
    pub fn activated(&self, verdict: &Verdict) -> Result<Activated, Error> {
        let claim = |name: &str| verdict.claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let made = (|| {
            let ek = self.endorsement.key().to_spki().ok()?;
            Some(Activated {
                ak_public: claim("ak_public")?,
                ek_sha256: hex::encode(hashed(Hash::Sha256, &[&ek])),
                ek_certificate_sha256: claim("ek_certificate_sha256")?,
                root_sha256: claim("root_sha256")?,
                manufacturer: claim("manufacturer")?,
                model: claim("model")?,
                version: claim("version")?,
                simulated: verdict.simulated,
            })
        })();
        made.filter(|_| verdict.ok()).ok_or_else(|| Error::Malformed {
            what: "TPM enrolment",
            reason: "its keys did not verify".to_owned(),
        })
    }
}

/// As [`appraise`], against the roots that [`Trust`] names: those of vendors first, else those of simulated TPMs, which the
/// verdict then says.
pub fn judge(candidate: &Candidate, trust: &Trust, now_unix: u64) -> Verdict {
    let verdict = appraise(candidate, &trust.roots, now_unix);
    if verdict.ok() || trust.simulated_roots.is_empty() {
        return verdict;
    }
    let simulated = appraise(candidate, &trust.simulated_roots, now_unix);
    if simulated.ok() { Verdict { simulated: true, ..simulated } } else { verdict }
}

/// Verifies a candidate against the roots of TPM vendors that the operator trusts. There are no others: without roots
/// nothing verifies.
///
/// Claims: `ak_public`, `ak_name`, `ek_public`, `ek_certificate_sha256`, `root_sha256`, `manufacturer`, `model`, `version`.
pub fn appraise(candidate: &Candidate, roots: &[Certificate], now_unix: u64) -> Verdict {
    let (mut checks, certified) =
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
    if let (true, Some(certified)) = (verdict.ok(), certified) {
        let maker = certified.maker;
        verdict.claims = json!({
            "ak_public": spki(&candidate.attestation),
            "ak_name": hex::encode(candidate.attestation.name()),
            "ek_public": spki(&candidate.endorsement),
            "ek_certificate_sha256": certified.certificate_sha256,
            "root_sha256": certified.root_sha256,
            "manufacturer": maker.manufacturer,
            "model": maker.model,
            "version": maker.version,
        });
    }
    verdict
}
