//! Private keys under a password: `EncryptedPrivateKeyInfo` (RFC 5958 §3) with PBES2 (RFC 8018 §6.2).

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::pbkdf2;
use der::asn1::OctetStringRef;
use der::{Decode, Sequence};
use spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::refuse;
use crate::Error;

/// Most rounds of PBKDF2: some seconds.
const MAX_ROUNDS: u32 = 10_000_000;

#[derive(Sequence)]
struct EncryptedKey<'a> {
    algorithm: AlgorithmIdentifierRef<'a>,
    data: &'a OctetStringRef,
}

#[derive(Sequence)]
struct Pbes2<'a> {
    derivation: AlgorithmIdentifierRef<'a>,
    cipher: AlgorithmIdentifierRef<'a>,
}

#[derive(Sequence)]
struct Pbkdf2<'a> {
    salt: &'a OctetStringRef,
    rounds: u32,
    #[asn1(optional = "true")]
    length: Option<u16>,
    #[asn1(optional = "true")]
    prf: Option<AlgorithmIdentifierRef<'a>>,
}

/// Whether DER is an encrypted key: its first member is an algorithm, not a version.
pub(super) fn looks_like(der: &[u8]) -> bool {
    EncryptedKey::from_der(der).is_ok()
}

/// The PKCS #8 key inside.
///
/// # Errors
/// [`Error::Key`] where the scheme is another or the password is wrong.
pub(super) fn decrypt(der: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let malformed = || refuse("it is a malformed encrypted key");
    let scheme =
        || refuse("its encryption is not PBES2 with PBKDF2 and AES-CBC; convert it with `openssl pkcs8`");
    let key = EncryptedKey::from_der(der).map_err(|_| malformed())?;
    if key.algorithm.oid.to_string() != "1.2.840.113549.1.5.13" {
        return Err(scheme());
    }
    let pbes2: Pbes2<'_> = key.algorithm.parameters.and_then(|p| p.decode_as().ok()).ok_or_else(malformed)?;
    if pbes2.derivation.oid.to_string() != "1.2.840.113549.1.5.12" {
        return Err(scheme());
    }
    let kdf: Pbkdf2<'_> =
        pbes2.derivation.parameters.and_then(|p| p.decode_as().ok()).ok_or_else(malformed)?;
    let prf = match kdf.prf.map(|prf| prf.oid.to_string()).as_deref() {
        None | Some("1.2.840.113549.2.7") => pbkdf2::PBKDF2_HMAC_SHA1,
        Some("1.2.840.113549.2.9") => pbkdf2::PBKDF2_HMAC_SHA256,
        Some("1.2.840.113549.2.10") => pbkdf2::PBKDF2_HMAC_SHA384,
        Some("1.2.840.113549.2.11") => pbkdf2::PBKDF2_HMAC_SHA512,
        Some(_) => return Err(scheme()),
    };
    let (cipher, length): (&'static Algorithm, usize) = match pbes2.cipher.oid.to_string().as_str() {
        "2.16.840.1.101.3.4.1.2" => (&AES_128, 16),
        "2.16.840.1.101.3.4.1.22" => (&AES_192, 24),
        "2.16.840.1.101.3.4.1.42" => (&AES_256, 32),
        _ => return Err(scheme()),
    };
    let iv: &OctetStringRef =
        pbes2.cipher.parameters.and_then(|p| p.decode_as().ok()).ok_or_else(malformed)?;
    let iv: [u8; 16] = iv.as_bytes().try_into().map_err(|_| malformed())?;
    let rounds = NonZeroU32::new(kdf.rounds).filter(|n| n.get() <= MAX_ROUNDS).ok_or_else(malformed)?;
    if kdf.length.is_some_and(|n| usize::from(n) != length) {
        return Err(malformed());
    }
    let mut secret = Zeroizing::new(vec![0; length]);
    pbkdf2::derive(prf, rounds, kdf.salt.as_bytes(), password, &mut secret);
    let cipher = UnboundCipherKey::new(cipher, &secret)
        .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
        .map_err(|_| malformed())?;
    let mut data = Zeroizing::new(key.data.as_bytes().to_vec());
    let plain = cipher
        .decrypt(&mut data, DecryptionContext::Iv128(iv.into()))
        .map_err(|_| refuse("the password is wrong"))?
        .len();
    data.truncate(plain);
    // A wrong password passes the padding once in 256 times.
    if data.first() != Some(&0x30) {
        return Err(refuse("the password is wrong"));
    }
    Ok(data)
}
