//! What differs between the protocol versions: the shape of the guest's answer, what its evidence is bound to, and the
//! form of encrypted resources.
//!
//! | version | answer | report data | resource |
//! |---|---|---|---|
//! | 0.1.1 | `{"tee-pubkey", "tee-evidence"}` | H({nonce, tee-pubkey}) | [`jwe::encrypt_0_1_1`] |
//! | 0.2.0 | the same | the same | [`jwe::encrypt`] |
//! | 0.4.0 | [`crate::messages::Attestation`] | H({additional-evidence, nonce, tee-pubkey}) | [`jwe::encrypt`] |

use serde::Deserialize;
use serde_json::Value;

use crate::jwe::{self, JweFlattened};
use crate::jwk::TeePublicKey;
use crate::messages::{Attestation, InitDataMessage, ProtocolVersion};
use crate::{Error, HashAlgorithm, bounds, device_report_data, report_data};

/// A guest's answer to a challenge, whatever the version.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The nonce that the guest repeats; the older versions repeat none, their evidence alone carries it.
    pub nonce: Option<String>,
    /// The guest's key.
    pub tee_pubkey: TeePublicKey,
    /// Evidence of the guest's own TEE.
    pub evidence: Value,
    /// JSON text of an object from device to evidence; empty where there is none.
    pub additional_evidence: String,
    /// The initdata document; never with the older versions.
    pub init_data: Option<InitDataMessage>,
}

/// The message of 0.1.1 and 0.2.0.
#[derive(Deserialize)]
struct OldAttestation {
    #[serde(rename = "tee-pubkey")]
    tee_pubkey: TeePublicKey,
    #[serde(rename = "tee-evidence")]
    tee_evidence: Value,
}

impl Answer {
    /// Reads the body of `/attest`.
    ///
    /// # Errors
    /// [`Error::Json`] where it is not the version's message.
    pub fn read(version: ProtocolVersion, body: &[u8]) -> Result<Self, Error> {
        let unreadable = |e: serde_json::Error| Error::Json { what: "attestation", problem: e.to_string() };
        bounds::check("attestation", body)?;
        if version == ProtocolVersion::V0_4_0 {
            let message: Attestation = serde_json::from_slice(body).map_err(unreadable)?;
            return Ok(Answer {
                nonce: Some(message.runtime_data.nonce),
                tee_pubkey: message.runtime_data.tee_pubkey,
                evidence: message.tee_evidence.primary_evidence,
                additional_evidence: message.tee_evidence.additional_evidence,
                init_data: message.init_data,
            });
        }
        let message: OldAttestation = serde_json::from_slice(body).map_err(unreadable)?;
        // The earliest of these guests send the evidence as JSON text.
        let evidence = match message.tee_evidence {
            Value::String(text) => serde_json::from_str(&text).map_err(unreadable)?,
            other => other,
        };
        Ok(Answer {
            nonce: None,
            tee_pubkey: message.tee_pubkey,
            evidence,
            additional_evidence: String::new(),
            init_data: None,
        })
    }

    /// What the evidence of the guest's own TEE must carry.
    ///
    /// # Errors
    /// [`Error::Json`] where the key cannot be written.
    pub fn report_data(
        &self,
        version: ProtocolVersion,
        algorithm: HashAlgorithm,
        nonce: &str,
    ) -> Result<Vec<u8>, Error> {
        match version {
            ProtocolVersion::V0_4_0 => {
                report_data(algorithm, nonce, &self.tee_pubkey, &self.additional_evidence)
            }
            _ => device_report_data(algorithm, nonce, &self.tee_pubkey),
        }
    }
}

/// Encrypts a resource as guests of this version read it.
///
/// # Errors
/// As [`jwe::encrypt`] and [`jwe::encrypt_0_1_1`].
pub fn encrypt(
    version: ProtocolVersion,
    key: &TeePublicKey,
    plaintext: &[u8],
) -> Result<JweFlattened, Error> {
    match version {
        ProtocolVersion::V0_1_1 => jwe::encrypt_0_1_1(key, plaintext),
        _ => jwe::encrypt(key, plaintext),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> Value {
        json!({"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "A".repeat(43), "y": "A".repeat(43)})
    }

    #[test]
    fn old_answers_are_read_as_such_and_only_as_such() {
        let old = json!({"tee-pubkey": key(), "tee-evidence": {"svn": "1"}}).to_string();
        for version in [ProtocolVersion::V0_1_1, ProtocolVersion::V0_2_0] {
            let answer = Answer::read(version, old.as_bytes()).unwrap();
            assert_eq!((answer.nonce.as_deref(), &answer.evidence), (None, &json!({"svn": "1"})));
            let nonce = "n";
            assert_eq!(
                answer.report_data(version, HashAlgorithm::Sha384, nonce).unwrap(),
                device_report_data(HashAlgorithm::Sha384, nonce, &answer.tee_pubkey).unwrap()
            );
        }
        assert!(Answer::read(ProtocolVersion::V0_4_0, old.as_bytes()).is_err());
        let as_text = json!({"tee-pubkey": key(), "tee-evidence": "{\"svn\":\"1\"}"}).to_string();
        let answer = Answer::read(ProtocolVersion::V0_1_1, as_text.as_bytes()).unwrap();
        assert_eq!(answer.evidence, json!({"svn": "1"}));
        let broken = json!({"tee-pubkey": key(), "tee-evidence": "{"}).to_string();
        assert!(Answer::read(ProtocolVersion::V0_1_1, broken.as_bytes()).is_err());
    }

    #[test]
    fn the_new_answer_binds_its_devices() {
        let new = json!({
            "runtime-data": {"nonce": "n", "tee-pubkey": key()},
            "tee-evidence": {"primary_evidence": {}, "additional_evidence": "{}"},
        })
        .to_string();
        let answer = Answer::read(ProtocolVersion::V0_4_0, new.as_bytes()).unwrap();
        assert_eq!(answer.nonce.as_deref(), Some("n"));
        let of = |answer: &Answer| {
            answer.report_data(ProtocolVersion::V0_4_0, HashAlgorithm::Sha384, "n").unwrap()
        };
        let other = Answer { additional_evidence: String::new(), ..answer.clone() };
        assert_ne!(of(&answer), of(&other));
        assert!(Answer::read(ProtocolVersion::V0_2_0, new.as_bytes()).is_err());
    }
}
