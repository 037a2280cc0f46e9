//! The evidence as CoCo's attester sends it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::tcb_info::TcbInfo;
use crate::Error;
use crate::x509::Certificate;

/// The only version of the JSON.
const VERSION: u64 = 1;
/// The only architecture.
const ARCHITECTURE: &str = "bluefield3";
/// A certificate longer than this is not read.
const MAX_CERTIFICATE: usize = 16 * 1024;
/// A signature longer than this is none of P-384: DER of two 48-byte numbers has at most 104 bytes.
const MAX_SIGNATURE: usize = 104;

/// One device's certificates and its signature over the report data.
///
/// JSON: `{"version": 1, "devices": [{"architecture": "bluefield3", "alias_cert": "base64 of DER", "device_id_cert": "base64
/// of DER", "report_data_signature": "base64"}]}` with exactly one device.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Certificate of the device, by its vendor.
    pub device_id: Certificate,
    /// Certificate of the key that signs report data, by the device.
    pub alias: Certificate,
    /// ECDSA with SHA-384 by the alias key, DER or r and s of 48 bytes each.
    pub report_data_signature: Vec<u8>,
    pub(super) device_tcb: Option<TcbInfo>,
    pub(super) alias_tcb: Option<TcbInfo>,
}

impl Evidence {
    /// Reads the JSON value.
    ///
    /// # Errors
    /// [`Error::Field`], [`Error::Unsupported`] for other versions and architectures, [`Error::Certificate`], and
    /// [`Error::Malformed`] for a `DiceTcbInfo` that is none.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let missing = |field| Error::Field { field, reason: "missing or of the wrong type" };
        let version = value.get("version").and_then(Value::as_u64).ok_or_else(|| missing("version"))?;
        if version != VERSION {
            return Err(Error::Unsupported { what: "version of DPU evidence", got: version.to_string() });
        }
        let devices = value.get("devices").and_then(Value::as_array).ok_or_else(|| missing("devices"))?;
        let [device] = devices.as_slice() else {
            return Err(Error::Field { field: "devices", reason: "not exactly one" });
        };
        let text = |field| device.get(field).and_then(Value::as_str).ok_or_else(|| missing(field));
        if text("architecture")? != ARCHITECTURE {
            let got = "another than bluefield3".to_owned();
            return Err(Error::Unsupported { what: "architecture of a DPU", got });
        }
        let bytes = |field, limit: usize| {
            let text = text(field)?;
            if text.len() > limit.div_ceil(3) * 4 {
                return Err(Error::Field { field, reason: "too long" });
            }
            STANDARD.decode(text).map_err(|_| Error::Field { field, reason: "not base64" })
        };
        let device_id = Certificate::parse(&bytes("device_id_cert", MAX_CERTIFICATE)?)?;
        let alias = Certificate::parse(&bytes("alias_cert", MAX_CERTIFICATE)?)?;
        Ok(Evidence {
            device_tcb: TcbInfo::of(&device_id)?,
            alias_tcb: TcbInfo::of(&alias)?,
            device_id,
            alias,
            report_data_signature: bytes("report_data_signature", MAX_SIGNATURE)?,
        })
    }

    /// The JSON value.
    pub fn to_json(&self) -> Value {
        json!({
            "version": VERSION,
            "devices": [{
                "architecture": ARCHITECTURE,
                "alias_cert": STANDARD.encode(self.alias.der()),
                "device_id_cert": STANDARD.encode(self.device_id.der()),
                "report_data_signature": STANDARD.encode(&self.report_data_signature),
            }],
        })
    }
}
