//! What a TPM says when it quotes its registers: `TPMS_ATTEST` of type quote, and the `TPMT_SIGNATURE` over it.
//!
//! Source: TPM 2.0 Library, part 2, sections 10.12 (attestation) and 11.3 (signatures). All numbers are big endian, buffers
//! have a 16-bit length before them. Nothing may follow either structure.

use cocoon_stage::Code;
use der::asn1::UintRef;
use der::{Encode, Sequence};

use super::algorithm::{self, hash_of};
use crate::reader::Reader;
use crate::x509::{Hash, PublicKey, Scheme};
use crate::{Check, Error};

/// `TPM_GENERATED_VALUE`: only the TPM itself signs structures that begin so, if the key is a restricted one.
const MAGIC: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const QUOTE: u16 = 0x8018;
/// A quote has about 130 bytes; with every optional part at its limit, fewer than this.
pub const MAX_MESSAGE: usize = 1024;
/// An RSA signature of 8192 bits and its header are shorter.
pub const MAX_SIGNATURE: usize = 1024 + 16;
/// Most banks of a selection; no TPM has more hashes.
const MAX_BANKS: u32 = 16;
/// Largest selection bitmap: 32 registers.
const MAX_SELECT: u8 = 4;
/// A name: an algorithm and a digest.
const MAX_NAME: usize = 2 + algorithm::MAX_DIGEST;
/// The caller's data: as long as an algorithm and a digest.
const MAX_EXTRA: usize = 2 + algorithm::MAX_DIGEST;
/// Coordinates on P-521.
const MAX_INTEGER: usize = 66;

const SIGNATURE: &str = "TPM 2.0 part 2, 11.3.4 TPMT_SIGNATURE";

/// The TPM's clock and how often it was reset (`TPMS_CLOCK_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds that the TPM was powered.
    pub milliseconds: u64,
    /// Resets since the owner was last cleared.
    pub resets: u32,
    /// Restarts and resumptions since the last reset.
    pub restarts: u32,
    /// Whether the clock never went back.
    pub safe: bool,
}

/// Registers of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The bank's hash algorithm, as identified by the TCG.
    pub bank: u16,
    /// The registers' numbers, ascending.
    pub registers: Vec<u32>,
}

/// A quote's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Qualified name of the key that signed.
    pub qualified_signer: Vec<u8>,
    /// The caller's qualifying data.
    pub extra_data: Vec<u8>,
    /// Clock and counters.
    pub clock: Clock,
    /// The TPM vendor's own version.
    pub firmware_version: u64,
    /// Which registers were quoted.
    pub selections: Vec<Selection>,
    /// Digest of the registers' values one after the other, by the hash of the signature.
    pub pcr_digest: Vec<u8>,
}

impl Quote {
    /// Reads a `TPMS_ATTEST` of type quote, of at most 1 KiB.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Unsupported`] for other attestations than quotes.
    pub fn parse(message: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new("TPM quote", message);
        if message.len() > MAX_MESSAGE {
            return Err(r.error("longer than 1 KiB"));
        }
        if r.u32_be()? != MAGIC {
            return Err(r.error("not made by a TPM (TPM_GENERATED_VALUE)"));
        }
        let kind = r.u16_be()?;
        if kind != QUOTE {
            return Err(Error::Unsupported { what: "TPM attestation type", got: format!("{kind:#06x}") });
        }
        let quote = Quote {
            qualified_signer: sized(&mut r, MAX_NAME)?.to_vec(),
            extra_data: sized(&mut r, MAX_EXTRA)?.to_vec(),
            clock: Clock {
                milliseconds: r.u64_be()?,
                resets: r.u32_be()?,
                restarts: r.u32_be()?,
                safe: yes_or_no(&mut r)?,
            },
            firmware_version: r.u64_be()?,
            selections: selections(&mut r)?,
            pcr_digest: sized(&mut r, algorithm::MAX_DIGEST)?.to_vec(),
        };
        r.finish()?;
        Ok(quote)
    }
}

/// A buffer with its 16-bit length.
pub fn sized<'a>(r: &mut Reader<'a>, limit: usize) -> Result<&'a [u8], Error> {
    let length = usize::from(r.u16_be()?);
    if length > limit {
        return Err(r.error(format_args!("a buffer of {length} bytes where at most {limit} can be")));
    }
    r.take(length)
}

fn yes_or_no(r: &mut Reader<'_>) -> Result<bool, Error> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(r.error(format_args!("{other} is neither yes nor no"))),
    }
}

fn selections(r: &mut Reader<'_>) -> Result<Vec<Selection>, Error> {
    let count = r.u32_be()?;
    if count > MAX_BANKS {
        return Err(r.error(format_args!("{count} banks")));
    }
    (0..count).map(|_| selection(r)).collect()
}

fn selection(r: &mut Reader<'_>) -> Result<Selection, Error> {
    let bank = r.u16_be()?;
    let size = r.u8()?;
    if size > MAX_SELECT {
        return Err(r.error(format_args!("a selection of {size} bytes")));
    }
    // Register n is bit n % 8 of byte n / 8.
    let bits = r.take(usize::from(size))?.iter().rev().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
    let registers = (0..u32::BITS).filter(|n| bits >> n & 1 == 1).collect();
    Ok(Selection { bank, registers })
}

/// A signature, brought into the form that the key's check takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    scheme: Scheme,
    hash: Hash,
    bytes: Vec<u8>,
}

#[derive(Sequence)]
struct Ecdsa<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl Signature {
    /// Reads a `TPMT_SIGNATURE`: RSASSA, RSAPSS or ECDSA, with SHA-256, SHA-384 or SHA-512.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Unsupported`] for other schemes and hashes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new("TPM signature", bytes);
        let scheme = r.u16_be()?;
        let id = r.u16_be()?;
        let unsupported = |what, got: u16| Error::Unsupported { what, got: format!("{got:#06x}") };
        let hash = hash_of(id).ok_or_else(|| unsupported("TPM signature hash", id))?;
        let (scheme, bytes) = match scheme {
            algorithm::RSASSA => (Scheme::RsaPkcs1(hash), sized(&mut r, MAX_SIGNATURE)?.to_vec()),
            // aws-lc takes a salt as long as the hash, which is what TPMs make since revision 1.59.
            algorithm::RSAPSS => (Scheme::RsaPss(hash), sized(&mut r, MAX_SIGNATURE)?.to_vec()),
            algorithm::ECDSA => {
                let (first, second) = (sized(&mut r, MAX_INTEGER)?, sized(&mut r, MAX_INTEGER)?);
                let wrong =
                    |_| Error::Malformed { what: "TPM signature", reason: "not two integers".to_owned() };
                let pair =
                    Ecdsa { r: UintRef::new(first).map_err(wrong)?, s: UintRef::new(second).map_err(wrong)? };
                (Scheme::Ecdsa(hash), pair.to_der().map_err(wrong)?)
            }
            other => return Err(unsupported("TPM signature scheme", other)),
        };
        r.finish()?;
        Ok(Signature { scheme, hash, bytes })
    }

    /// A bare RSASSA-PKCS1-v1_5 signature with SHA-256, as Azure's attesters send it.
    pub fn rsassa_sha256(bytes: &[u8]) -> Self {
        let hash = Hash::Sha256;
        Signature { scheme: Scheme::RsaPkcs1(hash), hash, bytes: bytes.to_vec() }
    }

    /// The hash of the scheme, by which a quote's registers are digested too.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The check that `key` made this signature over `message`.
    pub(crate) fn check(&self, key: &PublicKey, message: &[u8]) -> Check {
        let valid = key.verifies(self.scheme, message, &self.bytes);
        let expected = format!("{} by the attestation key", self.name());
        let got = if valid { "valid" } else { "invalid" };
        Check::new("tpm.signature", valid, Code::AttestSignatureInvalid, expected, got, SIGNATURE)
    }

    fn name(&self) -> String {
        let scheme = match self.scheme {
            Scheme::RsaPkcs1(_) => "RSASSA",
            Scheme::RsaPss(_) => "RSAPSS",
            Scheme::Ecdsa(_) | Scheme::EcdsaFixed(_) => "ECDSA",
        };
        format!("{scheme} with {}", algorithm::name_of(self.hash))
    }
}
