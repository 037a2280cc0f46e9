//! `[tokens]` and `[attestation]`.

use std::path::PathBuf;
use std::time::Duration;

use super::Verifiers;

/// Tokens that Trustee issues and accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// `iss`.
    pub issuer: String,
    /// How long a token is good.
    pub lifetime: Duration,
    /// PEM file of the signing key; `None`: made and kept in the state.
    pub signing_key: Option<PathBuf>,
    /// PEM file of its certificate chain. Only with `signing_key`.
    pub certificate_chain: Option<PathBuf>,
    /// Include additional devices' evidence.
    pub verbose: bool,
    /// `[tokens.trusted]`.
    pub trusted: TrustedTokens,
}

/// Whose tokens are accepted besides the own.
#[derive(Clone, Debug, PartialEq)]
pub struct TrustedTokens {
    /// Key sets: `https://…`, `file:///…` or a path.
    pub jwks: Vec<String>,
    /// PEM files of roots.
    pub certificates: Vec<PathBuf>,
    /// JSON pointers to the TEE's public key.
    pub extra_key_pointers: Vec<String>,
}

/// How evidence is appraised.
#[derive(Clone, Debug, PartialEq)]
pub struct Attestation {
    /// Accept this machine's simulated processor.
    pub accept_simulated: bool,
    /// PEM files of simulated processors that are accepted in its place.
    pub simulated_roots: Vec<PathBuf>,
    /// Accept CoCo's `sample` evidence.
    pub accept_sample: bool,
    /// Give tokens to guests that match no reference value too.
    pub issue_contraindicated: bool,
    /// How long a challenge may be answered.
    pub session: Duration,
    /// Attestation policies, at least one.
    pub policy_ids: Vec<String>,
    /// What is asked of evidence of each kind, and whom to trust for it.
    pub verifiers: Verifiers,
}
