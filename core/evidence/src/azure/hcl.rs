//! The report that Azure's paravisor (HCL) leaves in the vTPM: the hardware's report, and the data that it vouches for.
//!
//! Layout, little endian (Microsoft, OpenHCL attestation protocol, `IgvmAttestRequestBase`):
//!
//! | at | what |
//! |---|---|
//! | 0x000 | `HCLA`, version (1 or 2), size of all up to the padding, request type 2, status 0, 12 reserved bytes |
//! | 0x020 | 1184 bytes: an SNP report, or a TD report of 1024 bytes and zeros |
//! | 0x4c0 | size from here, version 1, report type (2 SNP, 4 TDX), hash type (1 SHA-256, 2 SHA-384, 3 SHA-512), size of the data |
//! | 0x4d4 | the data: JSON with the vTPM's keys, the VM's configuration and the guest's 64 bytes; then zeros |
//!
//! Only the data is measured: its digest, filled with zeros, is the hardware report's REPORTDATA. Of the rest everything is
//! required to be what it always is, so that no byte of a report can be changed unnoticed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::Error;
use crate::reader::Reader;
use crate::x509::{Hash, PublicKey};

/// Length of the hardware report's place.
pub const HARDWARE: usize = 1184;
/// Reports come from an NV index of 2600 bytes; more than this is not read.
pub const MAX_REPORT: usize = 8 * 1024;

const HEADER: u32 = 32;
const REQUEST: u32 = 20;
/// Request for a certificate of the attestation key: the only one whose report the guest sees.
const AK_CERTIFICATE: u32 = 2;
/// More keys than these are not looked at; there are two.
const MAX_KEYS: usize = 16;
/// Longest base64 of a modulus: RSA with 8192 bits.
const MAX_INTEGER: usize = 1400;

/// What hardware made the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
}

/// A parsed report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HclReport {
    raw: Vec<u8>,
    version: u32,
    hardware: Hardware,
    report: [u8; HARDWARE],
    hash: Hash,
    data: Vec<u8>,
}

impl HclReport {
    /// Reads a report of at most 8 KiB.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Unsupported`] for other versions, requests, hardware and hashes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new("HCL report", bytes);
        if bytes.len() > MAX_REPORT {
            return Err(r.error("longer than 8 KiB"));
        }
        if &r.array::<4>()? != b"HCLA" {
            return Err(r.error("does not begin with HCLA"));
        }
        let version = one_of(r.u32_le()?, &[1, 2], "HCL report version")?;
        let size = r.u32_le()?;
        one_of(r.u32_le()?, &[AK_CERTIFICATE], "HCL request type")?;
        r.zeros(16)?; // Status and reserved.
        let report = r.array::<HARDWARE>()?;
        let request_size = r.u32_le()?;
        one_of(r.u32_le()?, &[1], "HCL request version")?;
        let hardware = match r.u32_le()? {
            2 => Hardware::Snp,
            4 => Hardware::Tdx,
            other => return Err(unsupported("HCL hardware report type", other)),
        };
        let hash = match r.u32_le()? {
            1 => Hash::Sha256,
            2 => Hash::Sha384,
            3 => Hash::Sha512,
            other => return Err(unsupported("HCL hash type", other)),
        };
        let length = r.u32_le()?;
        let sized = |before: u32| length.checked_add(before);
        if sized(REQUEST) != Some(request_size) || sized(HEADER + REQUEST + 1184) != Some(size) {
            return Err(r.error("its sizes contradict each other"));
        }
        let length = usize::try_from(length).map_err(|_| r.error("data too long"))?;
        let data = r.take(length)?.to_vec();
        r.zeros(r.rest().len())?;
        Ok(HclReport { raw: bytes.to_vec(), version, hardware, report, hash, data })
    }

    /// The report as it was sent.
    pub fn to_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// Version of the outer header.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What hardware made the inner report.
    pub fn hardware(&self) -> Hardware {
        self.hardware
    }

    /// The inner report's place.
    pub fn report(&self) -> &[u8; HARDWARE] {
        &self.report
    }

    /// The data that the inner report vouches for.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// What the hardware's REPORTDATA must be: the data's digest, filled with zeros.
    pub fn report_data(&self) -> [u8; 64] {
        let mut out = [0; 64];
        let digest = crate::tpm::hashed(self.hash, &[&self.data]);
        out.iter_mut().zip(digest).for_each(|(o, i)| *o = i);
        out
    }
}

fn unsupported(what: &'static str, got: u32) -> Error {
    Error::Unsupported { what, got: got.to_string() }
}

fn one_of(got: u32, known: &[u32], what: &'static str) -> Result<u32, Error> {
    if known.contains(&got) { Ok(got) } else { Err(unsupported(what, got)) }
}

/// What the data says. It is worth nothing before the hardware's report vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeData {
    /// The vTPM's attestation key.
    pub attestation_key: PublicKey,
    /// The 64 bytes that the guest had the paravisor put in; empty where there are none.
    pub user_data: Vec<u8>,
    /// The VM's configuration, as the paravisor sees it.
    pub configuration: Value,
}

impl RuntimeData {
    /// Reads the JSON.
    ///
    /// # Errors
    /// [`Error::Field`] where the attestation key (`HCLAkPub`) is missing, is there twice, or is no RSA key for signing.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let bad = |field, reason| Error::Field { field, reason };
        let malformed = |e: serde_json::Error| Error::Malformed {
            what: "HCL runtime data",
            reason: format!("no JSON at line {} column {}", e.line(), e.column()),
        };
        let value: Value = serde_json::from_slice(data).map_err(malformed)?;
        let keys = value.get("keys").and_then(Value::as_array).ok_or(bad("keys", "missing"))?;
        if keys.len() > MAX_KEYS {
            return Err(bad("keys", "too many"));
        }
        let mut named = keys.iter().filter(|key| text(key, "kid") == Some("HCLAkPub"));
        let key = match (named.next(), named.next()) {
            (Some(key), None) => key,
            (None, _) => return Err(bad("HCLAkPub", "missing")),
            (Some(_), Some(_)) => return Err(bad("HCLAkPub", "there twice")),
        };
        let signs =
            key.get("key_ops").and_then(Value::as_array).is_some_and(|ops| ops.as_slice() == ["sign"]);
        if text(key, "kty") != Some("RSA") || !signs {
            return Err(bad("HCLAkPub", "not an RSA key for signing"));
        }
        let integer = |name| {
            let text = text(key, name).filter(|text| text.len() <= MAX_INTEGER);
            text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(bad("HCLAkPub", "malformed"))
        };
        let attestation_key = PublicKey::rsa(&integer("n")?, &integer("e")?)?;
        let user_data = match value.get("user-data") {
            None => Vec::new(),
            Some(Value::String(text)) if text.len() <= 128 => {
                hex::decode(text).map_err(|_| bad("user-data", "not hex"))?
            }
            Some(_) => return Err(bad("user-data", "not 64 bytes in hex")),
        };
        let configuration = value.get("vm-configuration").cloned().unwrap_or_default();
        Ok(RuntimeData { attestation_key, user_data, configuration })
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}
