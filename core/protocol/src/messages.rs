//! The messages of the handshake (KBS protocol 0.4.0; the older ones' in [`crate::dialect`]): request, challenge,
//! attestation, response.
//!
//! Outer members are kebab-case, the evidence's inner ones snake_case, as existing guests send them. Members that are
//! not known are ignored, for newer guests add some; members that are known are required unless said otherwise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jwk::TeePublicKey;
use crate::{Error, Tee};

/// The protocol versions found in the field. They are matched exactly; there is no negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// 0.1.1: no runtime data, no init-data, a JWE of its own shape.
    V0_1_1,
    /// 0.2.0: as 0.1.1 with a standard JWE.
    V0_2_0,
    /// 0.4.0: runtime data, init-data and additional evidence; the one Cocoon's own guests speak.
    V0_4_0,
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProtocolVersion::V0_1_1 => "0.1.1",
            ProtocolVersion::V0_2_0 => "0.2.0",
            ProtocolVersion::V0_4_0 => "0.4.0",
        })
    }
}

impl FromStr for ProtocolVersion {
    type Err = Error;

    fn from_str(version: &str) -> Result<Self, Error> {
        match version {
            "0.1.1" => Ok(ProtocolVersion::V0_1_1),
            "0.2.0" => Ok(ProtocolVersion::V0_2_0),
            "0.4.0" => Ok(ProtocolVersion::V0_4_0),
            other => {
                let shown: String = other.chars().take(32).collect();
                Err(Error::invalid("protocol version", format!("{shown:?} is not known")))
            }
        }
    }
}

/// The guest's first message, `POST …/auth`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The protocol version, for example `0.4.0`; see [`ProtocolVersion`].
    pub version: String,
    /// The kind of TEE.
    pub tee: Tee,
    /// Anything; current guests list their hash algorithms here.
    #[serde(rename = "extra-params")]
    pub extra_params: Value,
}

/// The server's answer to [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    /// Opaque text; Cocoon sends the standard base64 of 32 random bytes.
    pub nonce: String,
    /// `""`, or an object that may hold `selected-hash-algorithm`.
    #[serde(rename = "extra-params")]
    pub extra_params: Value,
}

/// The guest's evidence, `POST …/attest`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attestation {
    /// The initdata document; absent and null are the same.
    #[serde(rename = "init-data", default, skip_serializing_if = "Option::is_none")]
    pub init_data: Option<InitDataMessage>,
    /// What the evidence is bound to.
    #[serde(rename = "runtime-data")]
    pub runtime_data: RuntimeData,
    /// The evidence.
    #[serde(rename = "tee-evidence")]
    pub tee_evidence: TeeEvidence,
}

/// An initdata document on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitDataMessage {
    /// The document's format; `toml` is the only one in use.
    pub format: String,
    /// The whole document, byte-exact.
    pub body: String,
}

/// The nonce and key that report data is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuntimeData {
    /// The challenge's nonce, repeated.
    pub nonce: String,
    /// The guest's ephemeral key.
    #[serde(rename = "tee-pubkey")]
    pub tee_pubkey: TeePublicKey,
}

/// The evidence of the TEE and of its devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeeEvidence {
    /// Evidence in the form of the request's TEE.
    pub primary_evidence: Value,
    /// JSON text of an object from TEE name to evidence; empty where there is none.
    pub additional_evidence: String,
}

/// The server's answer to [`Attestation`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestResponse {
    /// The attestation token (JWT).
    pub token: String,
}

// The token is a bearer credential: it must not reach a log by way of a debug print.
impl fmt::Debug for AttestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttestResponse(…)")
    }
}

/// The body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInformation {
    /// A URI-like name of the kind of error.
    #[serde(rename = "type")]
    pub type_: String,
    /// Text for a person.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attestation() -> Value {
        json!({
            "init-data": {"format": "toml", "body": "version = \"0.1.0\"\n"},
            "runtime-data": {"nonce": "abc=", "tee-pubkey": {
                "kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "A".repeat(43), "y": "A".repeat(43)}},
            "tee-evidence": {"primary_evidence": {"report": [1, 2]}, "additional_evidence": ""},
        })
    }

    #[test]
    fn versions_are_exact() {
        for version in [ProtocolVersion::V0_1_1, ProtocolVersion::V0_2_0, ProtocolVersion::V0_4_0] {
            assert_eq!(version.to_string().parse::<ProtocolVersion>().unwrap(), version);
        }
        for bad in ["", "0.4", "0.4.1", "v0.4.0", "0.4.0 ", "00.4.0"] {
            assert!(bad.parse::<ProtocolVersion>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn request_and_challenge() {
        let wire = json!({"version": "0.4.0", "tee": "snp", "extra-params": "", "tee-metadata": 7});
        let request: Request = serde_json::from_value(wire).unwrap();
        assert_eq!(request.tee, Tee::Snp);
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"version":"0.4.0","tee":"snp","extra-params":""}"#
        );
        assert!(serde_json::from_value::<Request>(json!({"version": "0.4.0", "tee": "snp"})).is_err());
        assert!(
            serde_json::from_value::<Request>(json!({"version": "0.4.0", "tee": "x", "extra-params": 0}))
                .is_err()
        );
        let challenge = Challenge { nonce: "n".into(), extra_params: json!("") };
        assert_eq!(serde_json::to_string(&challenge).unwrap(), r#"{"nonce":"n","extra-params":""}"#);
    }

    #[test]
    fn attestation_round_trip() {
        let read: Attestation = serde_json::from_value(attestation()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), attestation());
    }

    #[test]
    fn init_data_may_be_absent_or_null() {
        let mut wire = attestation();
        wire["init-data"] = Value::Null;
        assert!(serde_json::from_value::<Attestation>(wire.clone()).unwrap().init_data.is_none());
        wire.as_object_mut().unwrap().remove("init-data");
        let read: Attestation = serde_json::from_value(wire.clone()).unwrap();
        assert!(read.init_data.is_none());
        assert_eq!(serde_json::to_value(&read).unwrap(), wire);
        wire["init-data"] = json!({"format": "toml"});
        assert!(serde_json::from_value::<Attestation>(wire).is_err());
    }

    #[test]
    fn nothing_else_may_be_absent() {
        for pointer in ["/runtime-data", "/tee-evidence"] {
            for member in attestation().pointer(pointer).unwrap().as_object().unwrap().keys() {
                let mut wire = attestation();
                wire.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(member);
                assert!(serde_json::from_value::<Attestation>(wire).is_err(), "{pointer}/{member}");
            }
        }
    }

    #[test]
    fn the_token_is_not_printed() {
        let response: AttestResponse = serde_json::from_value(json!({"token": "eyJ"})).unwrap();
        assert!(!format!("{response:?}").contains("eyJ"));
        assert_eq!(serde_json::to_string(&response).unwrap(), r#"{"token":"eyJ"}"#);
    }

    #[test]
    fn error_information() {
        let error = ErrorInformation { type_: "t".into(), detail: "d".into() };
        assert_eq!(serde_json::to_string(&error).unwrap(), r#"{"type":"t","detail":"d"}"#);
    }
}
