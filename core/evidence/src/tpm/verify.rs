//! Every rule that a generic TPM's evidence must meet.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use serde_json::Value;

use super::algorithm::name_of;
use super::claims::claims;
use super::enrol::Activated;
use super::evidence::Evidence;
use crate::eventlog::{Algorithm, EventLog};
use crate::expectation::padded;
use crate::x509::{Certificate, Hash};
use crate::{Check, Expectation, Verdict};

const OPERATOR: &str = "keys that the operator enrolled, and the reference values trusted_aks and tpm_ek";
const PUBLIC: &str = "TPM 2.0 part 2, 12.2.4 TPMT_PUBLIC";

/// An attestation key that the operator has enrolled, or its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// SubjectPublicKeyInfo, DER.
    Spki(Vec<u8>),
    /// SHA-256 of it.
    Sha256([u8; 32]),
}

/// Which attestation keys are trusted. The default trusts none: anybody can make a key and sign with it what a TPM would.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Keys that were enrolled, best by credential activation (see [`super::make_credential`]).
    pub enrolled: Vec<Enrolled>,
    /// Keys that a reference value names (`trusted_aks`): base64 of their DER SubjectPublicKeyInfo.
    pub named: Vec<String>,
    /// Roots of TPM vendors: a key that its TPM proves to be beside a certified endorsement key may be enrolled by the guest
    /// itself ([`super::enrol`]). None by default.
    pub roots: Vec<Certificate>,
    /// SHA-256 of endorsement keys (SubjectPublicKeyInfo) or of their certificates (both DER): of a proved key's TPM it must be
    /// known which one it is. A maker's root alone vouches for every TPM of that maker's, an attacker's own too, and what such
    /// a TPM's owner extends by software looks like any boot.
    pub endorsement_keys: Vec<[u8; 32]>,
    /// The same, hex, as a reference value names them (`tpm_ek`).
    pub named_endorsements: Vec<String>,
    /// Take every TPM of the roots: where they issue for TPMs in the operator's hands alone.
    pub any_of_roots: bool,
    /// Roots of simulated TPMs, likewise; verdicts on such keys say so. None by default.
    pub simulated_roots: Vec<Certificate>,
    /// The key of this evidence, if its TPM has answered a challenge for it.
    pub activated: Option<Activated>,
    /// Let evidence of any key through, with the claim `ak_trusted: false`: an attestation policy compares the claim
    /// `ak_public` with reference values of its own. Whoever switches this on must have such a policy.
    pub policy_decides: bool,
}

impl Trust {
    /// Whether it is known which TPM has proved this key.
    fn knows(&self, key: &Activated) -> bool {
        let settings = self.endorsement_keys.iter().map(hex::encode);
        let named = self.named_endorsements.iter().map(|name| name.to_ascii_lowercase());
        self.any_of_roots
            || settings.chain(named).any(|known| {
                !known.is_empty() && [&key.ek_sha256, &key.ek_certificate_sha256].contains(&&known)
            })
    }
}

/// Verifies evidence: the quote, the registers presented with it, the challenge, and that the key is one to trust.
///
/// Report data: the quote's qualifying data is the challenge, truncated or zero-padded to 32 bytes. Initdata: register 8 was
/// extended once, with its digest of 32 bytes, in the SHA-256 bank: guests extend no other. A TPM binds neither by itself: software that
/// booted before has extended register 8 and could have asked for the quote. Both hold as far as the registers that measure
/// that software (0 to 7, 9, 11) are what a policy expects.
pub fn verify(evidence: &Evidence, trust: &Trust, expectation: &Expectation<'_>) -> Verdict {
    let (known, check) = key_trust(evidence, trust);
    let mut checks = vec![check];
    checks.extend(key_attributes(evidence));
    checks.extend(evidence.quoted.checks(Some(&evidence.ak)));
    if let Some(report_data) = expectation.report_data {
        let expected = padded::<32>(report_data);
        checks.push(evidence.quoted.check_nonce(expected.as_ref().map(<[u8; 32]>::as_slice)));
    }
    if let Some(digest) = expectation.init_data_digest {
        checks.push(evidence.quoted.registers().check_init_data(digest));
    }
    if let Some((_, log)) = &evidence.event_log {
        checks.extend(replay(evidence, log));
    }
    let simulated = matches!(&known, Known::Activated(key) if key.simulated);
    let mut verdict = Verdict { checks, claims: Value::Null, simulated };
    if verdict.ok() {
        verdict.claims = claims(evidence, &known);
    }
    verdict
}

/// Why the key is trusted.
pub(super) enum Known<'a> {
    /// It is not.
    No,
    /// The operator named it.
    Named,
    /// Its TPM proved it.
    Activated(&'a Activated),
}

/// Whether the key is known, and the check.
fn key_trust<'a>(evidence: &Evidence, trust: &'a Trust) -> (Known<'a>, Check) {
    let fingerprint = digest(&SHA256, &evidence.ak_public);
    let enrolled = trust.enrolled.iter().any(|key| match key {
        Enrolled::Spki(spki) => !spki.is_empty() && *spki == evidence.ak_public,
        Enrolled::Sha256(sha256) => sha256 == fingerprint.as_ref(),
    });
    let encoded = STANDARD.encode(&evidence.ak_public);
    let named = trust.named.contains(&encoded);
    let activated = trust.activated.as_ref().filter(|key| key.ak_public == encoded);
    let (known, got) = match (enrolled, named, activated) {
        (true, ..) => (Known::Named, "an enrolled key".to_owned()),
        (_, true, _) => (Known::Named, "a key of the reference value trusted_aks".to_owned()),
        (_, _, Some(key)) if !trust.knows(key) => (
            Known::No,
            format!("a key of a TPM that is not known: endorsement key (SHA-256) {}", key.ek_sha256),
        ),
        (_, _, Some(key)) => {
            let (maker, model) = (&key.manufacturer, &key.model);
            let kind = if key.simulated { "simulated TPM" } else { "TPM" };
            (
                Known::Activated(key),
                format!("a key that a {kind} (maker {maker}, model {model}) proved to hold"),
            )
        }
        _ if trust.policy_decides => {
            (Known::No, "an unknown key, left to the policy: trusted_aks".to_owned())
        }
        _ => (Known::No, "an unknown key".to_owned()),
    };
    let check = Check::new(
        "ak.trust",
        trust.policy_decides || !matches!(known, Known::No),
        Code::AttestKeyUntrusted,
        "an attestation key that was enrolled, that trusted_aks names, or that a known TPM (tpm_ek) proved to hold",
        format!("{got} (SHA-256 {})", hex::encode(fingerprint)),
        OPERATOR,
    );
    (known, check)
}

/// Where the key's public area was sent: it is of the same key, and of one that signs only what its TPM made.
fn key_attributes(evidence: &Evidence) -> Option<Check> {
    let public = evidence.ak_tpm_public.as_ref()?;
    let unfit = match *public.key() == evidence.ak {
        true => public.not_attestation_key(),
        false => Some("it is another key than ak_public"),
    };
    Some(Check::new(
        "ak.attributes",
        unfit.is_none(),
        Code::AttestKeyUntrusted,
        "a restricted signing key fixed to its TPM",
        unfit.unwrap_or("one"),
        PUBLIC,
    ))
}

/// The log of boot events leads to those registers that it speaks of, and speaks of none that was not presented. Registers
/// without events say nothing wrong: what the guest extends after its firmware is not in this log.
fn replay(evidence: &Evidence, log: &EventLog) -> Vec<Check> {
    let registers = evidence.quoted.registers();
    let Some(bank) = event_bank(registers.bank()) else {
        let (code, got) = (Code::AttestEventLogMismatch, name_of(registers.bank()));
        return vec![Check::new("eventlog.bank", false, code, "SHA-256 or SHA-384", got, "the event log")];
    };
    let logged = log.replay(bank);
    let named: Vec<(u32, String, &[u8])> = (0u32..)
        .zip(registers.values())
        .filter(|(n, _)| logged.contains_key(n))
        .map(|(n, value)| (n, format!("pcr{n:02}"), value.as_slice()))
        .collect();
    let expected = named.iter().map(|(n, name, value)| (*n, name.as_str(), *value));
    log.check_registers(bank, "TPM quote", expected)
}

/// The event log's name of a bank.
pub(super) fn event_bank(bank: Hash) -> Option<Algorithm> {
    match bank {
        Hash::Sha256 => Some(Algorithm::Sha256),
        Hash::Sha384 => Some(Algorithm::Sha384),
        Hash::Sha512 => None,
    }
}
