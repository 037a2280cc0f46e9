//! What the evidence of both kinds of Azure guest has in common, in the versions that CoCo's attesters have sent.
//!
//! Version 0 has no member `version` and writes bytes as arrays of numbers; versions 1 and 2 write hex and base64url (with or
//! without padding). From version 2 on the guest has the challenge put into the paravisor's data as well.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::tpm::{MAX_MESSAGE, MAX_SIGNATURE, Quoted, REGISTERS, Registers};
use crate::x509::Hash;

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A form of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Without a version.
    V0,
    /// Version 1.
    V1,
    /// Version 2: the challenge also stands in the paravisor's data.
    V2,
}

impl Version {
    /// Reads the member `version`.
    pub(super) fn of(value: &Value) -> Result<Self, Error> {
        match value.get("version") {
            None => Ok(Version::V0),
            Some(version) => match version.as_u64() {
                Some(1) => Ok(Version::V1),
                Some(2) => Ok(Version::V2),
                Some(other) => Err(Error::Unsupported { what: "evidence version", got: other.to_string() }),
                None => Err(Error::Field { field: "version", reason: "not a number" }),
            },
        }
    }

    /// An object with the member `version`, where there is one.
    pub(super) fn object(self) -> Map<String, Value> {
        let mut map = Map::new();
        match self {
            Version::V0 => {}
            Version::V1 => drop(map.insert("version".into(), json!(1))),
            Version::V2 => drop(map.insert("version".into(), json!(2))),
        }
        map
    }

    /// A member with bytes: an array of numbers in version 0, base64url later.
    pub(super) fn bytes(self, value: &Value, field: &'static str, limit: usize) -> Result<Vec<u8>, Error> {
        let member = value.get(field).ok_or(Error::Field { field, reason: "missing" })?;
        match self {
            Version::V0 => numbers(member, field, limit),
            Version::V1 | Version::V2 => base64url(member, field, limit),
        }
    }

    pub(super) fn of_bytes(self, bytes: &[u8]) -> Value {
        match self {
            Version::V0 => json!(bytes),
            Version::V1 | Version::V2 => json!(URL_SAFE.encode(bytes)),
        }
    }

    /// Reads the vTPM's quote with all of its registers.
    pub(super) fn quoted(self, value: &Value, field: &'static str) -> Result<Quoted, Error> {
        let value = value.get(field).ok_or(Error::Field { field, reason: "missing" })?;
        let part = |name: &'static str, limit| {
            let member = value.get(name).ok_or(Error::Field { field: name, reason: "missing" })?;
            self.part(member, name, limit)
        };
        let pcrs = value.get("pcrs").and_then(Value::as_array);
        let pcrs = pcrs
            .filter(|pcrs| pcrs.len() == REGISTERS)
            .ok_or(Error::Field { field: "pcrs", reason: "not an array of 24 registers" })?;
        let bank = Hash::Sha256;
        let values =
            pcrs.iter().map(|pcr| self.part(pcr, "pcrs", bank.length())).collect::<Result<_, _>>()?;
        let registers = Registers::new(bank, values)?;
        Quoted::bare(part("message", MAX_MESSAGE)?, part("signature", MAX_SIGNATURE)?, registers)
    }

    pub(super) fn of_quoted(self, quoted: &Quoted) -> Value {
        let part = |bytes: &[u8]| match self {
            Version::V0 => json!(bytes),
            Version::V1 | Version::V2 => json!(hex::encode(bytes)),
        };
        let pcrs: Value = quoted.registers().values().iter().map(|value| part(value)).collect();
        json!({ "message": part(quoted.message()), "pcrs": pcrs, "signature": part(quoted.signature()) })
    }

    /// A part of the quote: an array of numbers in version 0, hex later.
    fn part(self, member: &Value, field: &'static str, limit: usize) -> Result<Vec<u8>, Error> {
        match self {
            Version::V0 => numbers(member, field, limit),
            Version::V1 | Version::V2 => {
                let text = member.as_str().filter(|text| text.len() <= 2 * limit);
                text.and_then(|text| hex::decode(text).ok())
                    .ok_or(Error::Field { field, reason: "not hex, or too long" })
            }
        }
    }
}

fn numbers(value: &Value, field: &'static str, limit: usize) -> Result<Vec<u8>, Error> {
    let bad = Error::Field { field, reason: "not an array of bytes, or too long" };
    let numbers = value.as_array().filter(|numbers| numbers.len() <= limit).ok_or(bad.clone())?;
    let byte = |number: &Value| number.as_u64().and_then(|n| u8::try_from(n).ok()).ok_or(bad.clone());
    numbers.iter().map(byte).collect()
}

fn base64url(value: &Value, field: &'static str, limit: usize) -> Result<Vec<u8>, Error> {
    let text = value.as_str().filter(|text| text.len() <= limit.div_ceil(3).saturating_mul(4));
    text.and_then(|text| BASE64URL.decode(text).ok())
        .ok_or(Error::Field { field, reason: "not base64url, or too long" })
}
