//! How a guest's TPM proves its attestation key to a Trustee: messages of `POST /cocoon/v0/tpm/challenge` and
//! `POST /cocoon/v0/tpm/activate`. Cocoon's own; other key brokers have neither path.
//!
//! Structures are those of the TPM 2.0 Library, part 2, in standard base64.

use serde::{Deserialize, Serialize};

/// Path of the first message below a Trustee's own.
pub const CHALLENGE_PATH: &str = "cocoon/v0/tpm/challenge";
/// Path of the second.
pub const ACTIVATE_PATH: &str = "cocoon/v0/tpm/activate";
/// Member of a TPM's evidence that carries [`Enrolled::ak_enrolment`].
pub const ENROLMENT: &str = "ak_enrolment";
/// Most certificates of an endorsement key.
pub const MAX_CERTIFICATES: usize = 8;

/// Keys that ask to be enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidature {
    /// The endorsement key, `TPM2B_PUBLIC`.
    pub ek_public: String,
    /// Its certificates (DER), its own first; at most [`MAX_CERTIFICATES`].
    #[serde(default)]
    pub ek_certificates: Vec<String>,
    /// The attestation key, `TPM2B_PUBLIC`.
    pub ak_public: String,
}

/// A secret that only the TPM with both keys can open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialChallenge {
    /// To be sent back as it is.
    pub ticket: String,
    /// `TPM2B_ID_OBJECT`.
    pub credential_blob: String,
    /// `TPM2B_ENCRYPTED_SECRET`.
    pub encrypted_secret: String,
}

/// The opened secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialAnswer {
    /// Of the challenge.
    pub ticket: String,
    /// What the TPM gave.
    pub secret: String,
}

/// The key is enrolled for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// To be put into the evidence, as [`ENROLMENT`].
    pub ak_enrolment: String,
}
