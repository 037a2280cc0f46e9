//! The evidence as CoCo's attester sends it: the Ultravisor's answer, and what the challenge gave the guest to send back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::header::HeaderTags;
use super::measurement::MEASUREMENT_SIZE;
use super::request::ADDITIONAL_SIZE;
use crate::Error;

/// The Ultravisor takes no more.
const MAX_USER_DATA: usize = 256;
/// What the challenge gave is shorter; anything longer is not ours.
const MAX_OPAQUE: usize = 1024;

/// An answer to a challenge.
///
/// JSON, each member a text of standard base64: `measurement` (64 bytes), `additional_data` (64), `user_data` (at most 256),
/// `cuid` (16), `encr_measurement_key` and `encr_request_nonce` (at most 1024), `image_hdr_tags` (208). Further members
/// are not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// HMAC-SHA-512 of everything that the Ultravisor vouches for.
    pub measurement: [u8; MEASUREMENT_SIZE],
    /// Hashes of the host keys that opened the image and the request.
    pub additional_data: [u8; ADDITIONAL_SIZE],
    /// What the guest's kernel passed: the report data.
    pub user_data: Vec<u8>,
    /// Configuration unique id: this boot of the guest.
    pub cuid: [u8; 16],
    /// The sealed state of the challenge, as returned.
    pub encr_measurement_key: Vec<u8>,
    /// The id of the challenge, as returned.
    pub encr_request_nonce: Vec<u8>,
    /// The header tags of the challenge, as returned.
    pub image_hdr_tags: HeaderTags,
}

impl Evidence {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`Error::Field`] where a member is absent, not base64 or of another length.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let tags = decode(value, "image_hdr_tags", HeaderTags::SIZE)?;
        let wrong = |_| Error::Field { field: "image_hdr_tags", reason: "must have 208 bytes" };
        Ok(Evidence {
            measurement: exact(value, "measurement")?,
            additional_data: exact(value, "additional_data")?,
            user_data: decode(value, "user_data", MAX_USER_DATA)?,
            cuid: exact(value, "cuid")?,
            encr_measurement_key: decode(value, "encr_measurement_key", MAX_OPAQUE)?,
            encr_request_nonce: decode(value, "encr_request_nonce", MAX_OPAQUE)?,
            image_hdr_tags: HeaderTags::parse(&tags).map_err(wrong)?,
        })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        json!({
            "measurement": STANDARD.encode(self.measurement),
            "additional_data": STANDARD.encode(self.additional_data),
            "user_data": STANDARD.encode(&self.user_data),
            "cuid": STANDARD.encode(self.cuid),
            "encr_measurement_key": STANDARD.encode(&self.encr_measurement_key),
            "encr_request_nonce": STANDARD.encode(&self.encr_request_nonce),
            "image_hdr_tags": STANDARD.encode(self.image_hdr_tags.to_bytes()),
        })
    }

    /// Hash of the host key that opened the image.
    pub fn image_phkh(&self) -> &[u8] {
        self.additional_data.split_at(ADDITIONAL_SIZE / 2).0
    }

    /// Hash of the host key that opened the request.
    pub fn attestation_phkh(&self) -> &[u8] {
        self.additional_data.split_at(ADDITIONAL_SIZE / 2).1
    }
}

fn decode(value: &Value, field: &'static str, limit: usize) -> Result<Vec<u8>, Error> {
    let text = value.get(field).and_then(Value::as_str);
    let text = text.ok_or(Error::Field { field, reason: "must be a text" })?;
    if text.len() > limit.div_ceil(3) * 4 {
        return Err(Error::Field { field, reason: "is too long" });
    }
    let bytes =
        STANDARD.decode(text).map_err(|_| Error::Field { field, reason: "is not standard base64" })?;
    if bytes.len() > limit {
        return Err(Error::Field { field, reason: "is too long" });
    }
    Ok(bytes)
}

fn exact<const N: usize>(value: &Value, field: &'static str) -> Result<[u8; N], Error> {
    let bytes = decode(value, field, N)?;
    bytes.try_into().map_err(|_| Error::Field { field, reason: "has the wrong length" })
}
