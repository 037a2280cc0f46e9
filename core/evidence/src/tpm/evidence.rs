//! The evidence of a generic TPM, as CoCo's attester sends it, and what we add to it.
//!
//! ```text
//! {"ak_public": base64 DER SubjectPublicKeyInfo,
//!  "tpm_quote": {"message": base64 TPMS_ATTEST, "signature": base64 TPMT_SIGNATURE, "pcrs": [hex, …],
//!                "bank": "sha256" | "sha384"},                 ours, optional: SHA-256 if absent
//!  "ak_tpm_public": base64 TPM2B_PUBLIC,                       ours, optional
//!  "ek_certificate": [base64 DER, …],                          ours, optional; for enrolment only
//!  "event_log": base64}                                        ours, optional
//! ```
//!
//! Base64 is the standard one. Any optional member may be null.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::endorsement::MAX_CHAIN;
use super::public::{MAX_PUBLIC, Public};
use super::quote::{MAX_MESSAGE, MAX_SIGNATURE};
use super::quoted::Quoted;
use super::registers::{REGISTERS, Registers};
use crate::Error;
use crate::eventlog::{EventLog, MAX_LOG};
use crate::x509::{Hash, PublicKey};

/// A SubjectPublicKeyInfo of RSA with 8192 bits is shorter.
const MAX_SPKI: usize = 2048;
/// A certificate longer than this is not read.
const MAX_CERTIFICATE: usize = 16 * 1024;

/// Parsed evidence. Its keys are claims of the sender: nothing here says that a TPM made any of it.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub(super) ak_public: Vec<u8>,
    pub(super) ak: PublicKey,
    pub(super) quoted: Quoted,
    pub(super) ak_tpm_public: Option<Public>,
    pub(super) ek_certificate: Vec<Vec<u8>>,
    pub(super) event_log: Option<(Vec<u8>, EventLog)>,
}

impl Evidence {
    /// Reads the JSON form. Members that are not named above are ignored, as in the evidence of every TEE.
    ///
    /// # Errors
    /// [`Error::Field`] for what is missing, not base64 or hex, or too long; else what the parts' parsers say.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let quote = value.get("tpm_quote").filter(|q| q.is_object());
        let quote = quote.ok_or(Error::Field { field: "tpm_quote", reason: "missing or not an object" })?;
        let ak_public = required(value, "ak_public", MAX_SPKI)?;
        let ak = PublicKey::from_spki(&ak_public)?;
        let (message, signature) =
            (required(quote, "message", MAX_MESSAGE)?, required(quote, "signature", MAX_SIGNATURE)?);
        let quoted = Quoted::new(message, signature, registers(quote)?)?;
        let ak_tpm_public = optional(value, "ak_tpm_public", MAX_PUBLIC + 2)?;
        let event_log = optional(value, "event_log", MAX_LOG)?;
        Ok(Evidence {
            ak_public,
            ak,
            quoted,
            ak_tpm_public: ak_tpm_public.map(|bytes| Public::parse(&bytes)).transpose()?,
            ek_certificate: certificates(value)?,
            event_log: event_log.map(|bytes| EventLog::parse(&bytes).map(|log| (bytes, log))).transpose()?,
        })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let mut quote = Map::new();
        quote.insert("message".into(), STANDARD.encode(self.quoted.message()).into());
        quote.insert("signature".into(), STANDARD.encode(self.quoted.signature()).into());
        let registers = self.quoted.registers();
        quote.insert("pcrs".into(), registers.values().iter().map(hex::encode).collect());
        if registers.bank() == Hash::Sha384 {
            quote.insert("bank".into(), "sha384".into());
        }
        let mut evidence = Map::new();
        evidence.insert("ak_public".into(), STANDARD.encode(&self.ak_public).into());
        evidence.insert("tpm_quote".into(), Value::Object(quote));
        if let Some(public) = &self.ak_tpm_public {
            evidence.insert("ak_tpm_public".into(), STANDARD.encode(public.to_bytes()).into());
        }
        if !self.ek_certificate.is_empty() {
            let chain: Value = self.ek_certificate.iter().map(|der| STANDARD.encode(der)).collect();
            evidence.insert("ek_certificate".into(), chain);
        }
        if let Some((bytes, _)) = &self.event_log {
            evidence.insert("event_log".into(), json!(STANDARD.encode(bytes)));
        }
        Value::Object(evidence)
    }

    /// The attestation key, SubjectPublicKeyInfo in DER.
    pub fn ak_public(&self) -> &[u8] {
        &self.ak_public
    }

    /// The attestation key's public area, where it was sent.
    pub fn ak_tpm_public(&self) -> Option<&Public> {
        self.ak_tpm_public.as_ref()
    }

    /// Certificates that were sent for the endorsement key, its own first.
    pub fn ek_certificate(&self) -> &[Vec<u8>] {
        &self.ek_certificate
    }

    /// The quote.
    pub fn quoted(&self) -> &Quoted {
        &self.quoted
    }
}

fn required(value: &Value, field: &'static str, limit: usize) -> Result<Vec<u8>, Error> {
    optional(value, field, limit)?.ok_or(Error::Field { field, reason: "missing" })
}

fn optional(value: &Value, field: &'static str, limit: usize) -> Result<Option<Vec<u8>>, Error> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => decoded(value, field, limit).map(Some),
    }
}

fn decoded(value: &Value, field: &'static str, limit: usize) -> Result<Vec<u8>, Error> {
    let bad = |reason| Error::Field { field, reason };
    let text = value.as_str().ok_or(bad("not a text"))?;
    if text.len() > limit.div_ceil(3).saturating_mul(4) {
        return Err(bad("too long"));
    }
    STANDARD.decode(text).map_err(|_| bad("not base64"))
}

fn registers(quote: &Value) -> Result<Registers, Error> {
    let bank = match quote.get("bank") {
        None | Some(Value::Null) => Hash::Sha256,
        Some(Value::String(name)) if name == "sha256" => Hash::Sha256,
        Some(Value::String(name)) if name == "sha384" => Hash::Sha384,
        Some(_) => return Err(Error::Field { field: "bank", reason: "neither sha256 nor sha384" }),
    };
    let values = quote.get("pcrs").and_then(Value::as_array);
    let values = values.ok_or(Error::Field { field: "pcrs", reason: "missing or not an array" })?;
    if values.len() > REGISTERS {
        return Err(Error::Field { field: "pcrs", reason: "more than 24 registers" });
    }
    let value = |value: &Value| {
        let text = value.as_str().filter(|text| text.len() <= 2 * Hash::Sha512.length());
        text.and_then(|text| hex::decode(text).ok()).ok_or(Error::Field { field: "pcrs", reason: "not hex" })
    };
    Registers::new(bank, values.iter().map(value).collect::<Result<_, _>>()?)
}

fn certificates(value: &Value) -> Result<Vec<Vec<u8>>, Error> {
    const FIELD: &str = "ek_certificate";
    match value.get(FIELD) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(chain)) if chain.len() <= MAX_CHAIN => {
            chain.iter().map(|certificate| decoded(certificate, FIELD, MAX_CERTIFICATE)).collect()
        }
        Some(_) => Err(Error::Field { field: FIELD, reason: "not an array of at most 8 certificates" }),
    }
}
