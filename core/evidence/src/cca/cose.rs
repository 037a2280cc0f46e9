//! COSE (RFC 9052, RFC 9053) as CCA tokens use it: COSE_Sign1 with ECDSA, and COSE_Key of an EC2 key.

use super::cbor::{Decoder, Encoder, Key};
use crate::Error;
use crate::x509::{Curve, PublicKey, Scheme};

/// Tag of a COSE_Sign1.
const SIGN1: u64 = 18;
/// Most headers of one kind.
const MAX_HEADERS: u64 = 8;
/// Longest key identifier.
const MAX_KID: usize = 64;

const ALG: i128 = 1;
const CONTENT_TYPE: i128 = 3;
const KID: i128 = 4;

/// A signature algorithm, with the one curve it is used on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
}

impl Algorithm {
    const ALL: [Algorithm; 3] = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512];

    /// Its number in IANA's registry of COSE algorithms.
    pub fn id(self) -> i64 {
        match self {
            Algorithm::Es256 => -7,
            Algorithm::Es384 => -35,
            Algorithm::Es512 => -36,
        }
    }

    fn of(id: i128) -> Option<Self> {
        Algorithm::ALL.into_iter().find(|a| i128::from(a.id()) == id)
    }

    /// The algorithm that goes with a curve.
    pub fn for_curve(curve: Curve) -> Self {
        match curve {
            Curve::P256 => Algorithm::Es256,
            Curve::P384 => Algorithm::Es384,
            Curve::P521 => Algorithm::Es512,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
        }
    }

    pub(super) fn scheme(self) -> Scheme {
        use crate::x509::Hash;
        Scheme::EcdsaFixed(match self {
            Algorithm::Es256 => Hash::Sha256,
            Algorithm::Es384 => Hash::Sha384,
            Algorithm::Es512 => Hash::Sha512,
        })
    }
}

/// What a signature is over, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub algorithm: Algorithm,
    /// The Sig_structure, encoded.
    pub message: Vec<u8>,
    /// r and s in full length.
    pub signature: Vec<u8>,
}

/// Reads a tagged COSE_Sign1 and gives its payload too. No signature is judged.
///
/// Nothing protects the unprotected header; but for a key identifier, which is not used, it must be empty.
pub(super) fn open<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(Signed, &'a [u8]), Error> {
    let mut sign1 = Decoder::new(what, bytes);
    if sign1.tag()? != SIGN1 || sign1.array("the COSE_Sign1", 4)? != 4 {
        return Err(sign1.error("it is not a tagged COSE_Sign1"));
    }
    let protected = sign1.bytes("the protected header")?;
    let algorithm = headers(what, protected)?;
    sign1.map("the unprotected header", MAX_HEADERS, |d, key| match key {
        Key::Int(KID) => kid(d),
        _ => Err(d.error("an unprotected header other than kid")),
    })?;
    let payload = sign1.bytes("the payload")?;
    let signature = sign1.bytes("the signature")?.to_vec();
    sign1.finish()?;
    Ok((Signed { algorithm, message: message(protected, payload), signature }, payload))
}

/// The protected headers: an algorithm, and perhaps content type and key identifier, which say nothing that is used.
/// Any other is refused, `crit` with it.
fn headers(what: &'static str, bytes: &[u8]) -> Result<Algorithm, Error> {
    let mut algorithm = None;
    let mut decoder = Decoder::new(what, bytes);
    decoder.map("the protected header", MAX_HEADERS, |d, key| match key {
        Key::Int(ALG) => {
            algorithm = Some(signature_algorithm(d)?);
            Ok(())
        }
        Key::Int(CONTENT_TYPE) => d.skip(),
        Key::Int(KID) => kid(d),
        _ => Err(d.error("an unknown protected header")),
    })?;
    decoder.finish()?;
    algorithm.ok_or_else(|| decoder.error("no algorithm in the protected header"))
}

fn signature_algorithm(decoder: &mut Decoder<'_>) -> Result<Algorithm, Error> {
    let id = decoder.int("the algorithm")?;
    Algorithm::of(id)
        .ok_or_else(|| Error::Unsupported { what: "CCA signature algorithm", got: id.to_string() })
}

fn kid(decoder: &mut Decoder<'_>) -> Result<(), Error> {
    match decoder.bytes("the kid")?.len() {
        0..=MAX_KID => Ok(()),
        _ => Err(decoder.error("a kid of more than 64 bytes")),
    }
}

/// The Sig_structure of RFC 9052, 4.4, without external data.
fn message(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut e = Encoder::default();
    e.array(4).text("Signature1").bytes(protected).bytes(&[]).bytes(payload);
    e.into_bytes()
}

/// Makes a tagged COSE_Sign1; `sign` is given what to sign and returns r and s in full length.
pub(super) fn seal<E>(
    algorithm: Algorithm,
    payload: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let mut protected = Encoder::default();
    protected.map(1).int(1).int(algorithm.id());
    let protected = protected.into_bytes();
    let signature = sign(&message(&protected, payload))?;
    let mut e = Encoder::default();
    e.tag(SIGN1).array(4).bytes(&protected).map(0).bytes(payload).bytes(&signature);
    Ok(e.into_bytes())
}

/// Reads a COSE_Key that is an EC2 public key with both coordinates, and its algorithm if it names one.
pub(super) fn public_key(
    what: &'static str,
    bytes: &[u8],
) -> Result<(Curve, PublicKey, Option<Algorithm>), Error> {
    let (mut ec2, mut curve, mut x, mut y, mut algorithm) = (false, None, None, None, None);
    let mut decoder = Decoder::new(what, bytes);
    decoder.map("the COSE_Key", MAX_HEADERS, |d, key| {
        match key {
            Key::Int(1) => ec2 = d.int("the key type")? == 2,
            Key::Int(2) => kid(d)?,
            Key::Int(3) => algorithm = Some(signature_algorithm(d)?),
            Key::Int(-1) => {
                curve = match d.int("the curve")? {
                    1 => Some(Curve::P256),
                    2 => Some(Curve::P384),
                    3 => Some(Curve::P521),
                    _ => None,
                }
            }
            Key::Int(-2) => x = Some(d.bytes("x")?),
            // A Boolean would be a compressed point's sign.
            Key::Int(-3) => y = Some(d.bytes("y")?),
            _ => return Err(d.error("an unknown member of the COSE_Key")),
        }
        Ok(())
    })?;
    decoder.finish()?;
    match (ec2, curve, x, y) {
        (true, Some(curve), Some(x), Some(y)) => Ok((curve, PublicKey::ec(curve, x, y)?, algorithm)),
        _ => Err(decoder.error("the COSE_Key is not a whole EC2 key on P-256, P-384 or P-521")),
    }
}
