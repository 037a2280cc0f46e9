//! Hygon's two formats of certificates.

use serde_json::Value;

use super::wire::{self, Bytes, Layout};
use crate::Error;
use crate::sm::PublicKey;

/// What keys are for, as certificates and signatures say.
pub(crate) mod usage {
    /// Hygon's root key.
    pub const HRK: u32 = 0;
    /// Hygon's signing key.
    pub const HSK: u32 = 0x13;
    /// Platform endorsement key.
    pub const PEK: u32 = 0x1002;
    /// Chip endorsement key.
    pub const CEK: u32 = 0x1004;
}

/// SM2 signatures with SM3; the only algorithm of signatures in use.
pub(crate) const SM2_SIGNATURE: u32 = 4;
/// The curve SM2 recommends; the only one in use.
const SM2_CURVE: u32 = 3;

/// A signature: both numbers, big endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub r: [u8; 32],
    pub s: [u8; 32],
}

impl Signature {
    /// `None` where a number is longer than those of the curve.
    pub fn of(wire: &wire::Signature) -> Option<Self> {
        Some(Signature { r: number(&wire.r)?, s: number(&wire.s)? })
    }
}

/// 72 bytes little endian, of which the curve uses 32.
fn number(field: &Bytes<72>) -> Option<[u8; 32]> {
    let (low, high) = field.0.split_first_chunk::<32>()?;
    let mut number = *low;
    number.reverse();
    high.iter().all(|b| *b == 0).then_some(number)
}

/// A key and the id under which it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signer {
    pub key: PublicKey,
    pub id: String,
}

impl Signer {
    fn of(point: &wire::Point, id_size: u16, id: &[u8; 254]) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Malformed { what: "Hygon certificate", reason: reason.to_owned() };
        if point.g != SM2_CURVE {
            let got = point.g.to_string();
            return Err(Error::Unsupported { what: "curve of a Hygon certificate", got });
        }
        let coordinate = |field| number(field).ok_or_else(|| wrong("a coordinate of more than 32 bytes"));
        let key = PublicKey { x: coordinate(&point.x)?, y: coordinate(&point.y)? };
        let id = id.get(..usize::from(id_size)).ok_or_else(|| wrong("a user id too long"))?;
        let printable = id.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
        let id = std::str::from_utf8(id).ok().filter(|_| printable);
        let id = id.ok_or_else(|| wrong("a user id that is not printable ASCII"))?.to_owned();
        Ok(Signer { key, id })
    }

    /// Whether this key signed the message.
    pub fn signed(&self, message: &[u8], signature: Option<Signature>) -> bool {
        signature.is_some_and(|signature| self.key.verifies(&self.id, message, &signature.r, &signature.s))
    }
}

/// Certificate of HRK or HSK, 832 bytes: `version[4] key-id[16] issuer-key-id[16] usage[4] unused[24] curve[4] x[72]
/// y[72] id-length[2] id[254] unused[108]`, all of that signed, `r[72] s[72] 0[112]`. Numbers are little endian. Unused bytes
/// within what is signed are the issuer's to fill; those outside must be zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificate {
    bytes: Vec<u8>,
    signed: usize,
    usage: u32,
    issuer_id: [u8; 16],
    signer: Signer,
    signature: Option<Signature>,
}

impl CaCertificate {
    /// Length in bytes.
    pub const SIZE: usize = 832;

    /// Reads one certificate; nothing of it is verified.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another length, unused bytes that are not zero, numbers too long; [`Error::Unsupported`] for
    /// another version or curve.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        CaCertificate::of(wire::from_bytes("Hygon authority's certificate", bytes)?)
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// As [`CaCertificate::parse`], and [`Error::Json`].
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        CaCertificate::of(wire::from_json(value)?)
    }

    fn of(ca: wire::Ca) -> Result<Self, Error> {
        let preamble = &ca.body.preamble;
        known_version(preamble.ver)?;
        zero("unused bytes after a Hygon authority certificate's signature", &ca.tail.0)?;
        Ok(CaCertificate {
            signed: wire::to_bytes(&ca.body).len(),
            bytes: wire::to_bytes(&ca),
            usage: preamble.data.usage,
            issuer_id: preamble.data.sid.0,
            signer: Signer::of(&ca.body.pubkey, ca.body.uid_size, &ca.body.user_id.0)?,
            signature: Signature::of(&ca.signature),
        })
    }

    /// The certificate's bytes.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        json_of::<wire::Ca>(&self.bytes)
    }

    /// The id under which its key signs, e.g. `HYGON-SSD-HSK`.
    pub fn user_id(&self) -> &str {
        &self.signer.id
    }

    pub(crate) fn usage(&self) -> u32 {
        self.usage
    }

    /// The id of its issuer's key, as it says.
    pub(crate) fn issuer_id(&self) -> &[u8; 16] {
        &self.issuer_id
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    pub(crate) fn is_signed_by(&self, issuer: &Signer) -> bool {
        self.bytes.get(..self.signed).is_some_and(|body| issuer.signed(body, self.signature))
    }
}

/// Certificate of CEK or PEK, 2084 bytes: `version[4] firmware[2] unused[2] usage[4] algorithm[4] curve[4]
/// x[72] y[72] id-length[2] id[254] issuer-key-id[16] unused[608]`, all of that signed, and two signatures of
/// `issuer's-usage[4] algorithm[4] r[72] s[72] 0[368]`. Numbers are little endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipCertificate {
    bytes: Vec<u8>,
    signed: usize,
    usage: u32,
    signer: Signer,
    signatures: [Slot; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    usage: u32,
    algorithm: u32,
    signature: Option<Signature>,
}

impl ChipCertificate {
    /// Length in bytes.
    pub const SIZE: usize = 2084;

    /// Reads one certificate; nothing of it is verified.
    ///
    /// # Errors
    /// As [`CaCertificate::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        ChipCertificate::of(wire::from_bytes("Hygon chip's certificate", bytes)?)
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// As [`ChipCertificate::parse`], and [`Error::Json`].
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        ChipCertificate::of(wire::from_json(value)?)
    }

    fn of(chip: wire::Chip) -> Result<Self, Error> {
        let data = &chip.body.data;
        known_version(chip.body.ver)?;
        for slot in &chip.sigs {
            zero("unused bytes after a Hygon chip certificate's signature", &slot.tail.0)?;
        }
        let slot = |slot: &wire::Slot| Slot {
            usage: slot.usage,
            algorithm: slot.algo,
            signature: Signature::of(&slot.signature),
        };
        Ok(ChipCertificate {
            signed: wire::to_bytes(&chip.body).len(),
            bytes: wire::to_bytes(&chip),
            usage: data.pubkey.usage,
            signer: Signer::of(&data.pubkey.key, data.uid_size, &data.user_id.0)?,
            signatures: [slot(&chip.sigs[0]), slot(&chip.sigs[1])],
        })
    }

    /// The certificate's bytes.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        json_of::<wire::Chip>(&self.bytes)
    }

    /// The id under which its key signs, e.g. `HYGON-SSD-PEK`.
    pub fn user_id(&self) -> &str {
        &self.signer.id
    }

    pub(crate) fn usage(&self) -> u32 {
        self.usage
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Whether one of its two signatures is said to be of a key of that usage, and is the issuer's.
    pub(crate) fn is_signed_by(&self, issuer: &Signer, issuer_usage: u32) -> bool {
        let Some(body) = self.bytes.get(..self.signed) else { return false };
        let meant = |slot: &&Slot| slot.usage == issuer_usage && slot.algorithm == SM2_SIGNATURE;
        self.signatures.iter().filter(meant).any(|slot| issuer.signed(body, slot.signature))
    }
}

/// Both formats have had one version only.
fn known_version(version: u32) -> Result<(), Error> {
    match version {
        1 => Ok(()),
        other => Err(Error::Unsupported { what: "version of a Hygon certificate", got: other.to_string() }),
    }
}

fn zero(what: &'static str, bytes: &[u8]) -> Result<(), Error> {
    match bytes.iter().all(|b| *b == 0) {
        true => Ok(()),
        false => Err(Error::Malformed { what, reason: "not zero".to_owned() }),
    }
}

fn json_of<T: Layout + serde::Serialize>(bytes: &[u8]) -> Value {
    let structure = wire::from_bytes::<T>("Hygon certificate", bytes).ok();
    structure.and_then(|structure| serde_json::to_value(structure).ok()).unwrap_or_default()
}
