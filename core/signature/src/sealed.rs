//! Private keys as `cosign generate-key-pair` seals them with a password: PEM around JSON, scrypt (RFC 7914) and NaCl's
//! secretbox (XSalsa20, Poly1305) around a PKCS#8 key (github.com/secure-systems-lab/go-securesystemslib, encrypted).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};
use serde::Deserialize;
use zeroize::Zeroizing;

use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;

/// Labels of the PEM, new and old.
pub(crate) const LABELS: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
/// The dearest scrypt that is worked: 128 MiB for N = 2^17 and r = 8.
const MAX_LOG_N: u32 = 17;
const MAX_R: u32 = 8;
const MAX_P: u32 = 4;
const TAG: usize = 16;

#[derive(Deserialize)]
struct Wire {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The PKCS#8 key inside the PEM's content; says why not, never what.
pub(crate) fn open(content: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let malformed = "its encrypted form is malformed";
    let value = crate::strict::parse(content, 16 * 1024, 64).map_err(|_| malformed)?;
    let wire = Wire::deserialize(value).map_err(|_| malformed)?;
    if wire.kdf.name != "scrypt" || wire.cipher.name != "nacl/secretbox" {
        return Err("it is encrypted in another way than scrypt and secretbox");
    }
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| malformed);
    let Params { n, r, p } = wire.kdf.params;
    if !n.is_power_of_two() || n.ilog2() > MAX_LOG_N || !(1..=MAX_R).contains(&r) || !(1..=MAX_P).contains(&p)
    {
        return Err("its password is hashed with unusual parameters");
    }
    let log_n = u8::try_from(n.ilog2()).map_err(|_| malformed)?;
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| malformed)?;
    let mut key = Zeroizing::new([0u8; 32]);
    scrypt::scrypt(password, &bytes(&wire.kdf.salt)?, &params, key.as_mut_slice()).map_err(|_| malformed)?;
    let nonce: [u8; 24] = bytes(&wire.cipher.nonce)?.try_into().map_err(|_| malformed)?;
    secretbox_open(&key, &nonce, &bytes(&wire.ciphertext)?)
        .ok_or("the password is wrong, or the key was altered")
}

/// NaCl's `crypto_secretbox_open`: the tag comes first.
fn secretbox_open(key: &[u8; 32], nonce: &[u8; 24], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (tag, ciphertext) = sealed.split_at_checked(TAG)?;
    let mut cipher = XSalsa20::new(&(*key).into(), &(*nonce).into());
    // The stream's first 32 bytes are the key of the tag.
    let mut tag_key = Zeroizing::new([0u8; 32]);
    cipher.try_apply_keystream(tag_key.as_mut_slice()).ok()?;
    let own = Poly1305::new(&(*tag_key).into()).compute_unpadded(ciphertext);
    verify_slices_are_equal(own.as_slice(), tag).ok()?;
    let mut plain = Zeroizing::new(ciphertext.to_vec());
    cipher.try_apply_keystream(&mut plain).ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// NaCl's own test (tests/secretbox.c).
    #[test]
    fn secretbox_is_nacls() {
        let key = hex::decode("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389").unwrap();
        let nonce = hex::decode("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").unwrap();
        let sealed = "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5";
        let plain = "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705";
        let (key, nonce) = (key.try_into().unwrap(), nonce.try_into().unwrap());
        let sealed = hex::decode(sealed).unwrap();
        assert_eq!(hex::encode(&*secretbox_open(&key, &nonce, &sealed).unwrap()), plain);
        for i in [0, 15, 16, sealed.len() - 1] {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(secretbox_open(&key, &nonce, &bad).is_none());
        }
        assert!(secretbox_open(&key, &nonce, &sealed[..15]).is_none());
    }

    #[test]
    fn dear_and_odd_parameters_are_refused_before_work() {
        let with = |n: u64, r: u64, p: u64, kdf: &str| {
            let wire = json!({"kdf": {"name": kdf, "params": {"N": n, "r": r, "p": p}, "salt": "AAAA"},
                "cipher": {"name": "nacl/secretbox", "nonce": "AAAA"}, "ciphertext": "AAAA"});
            open(wire.to_string().as_bytes(), b"")
        };
        for (n, r, p, kdf) in [
            (1 << 31, 8, 1, "scrypt"),
            (0, 8, 1, "scrypt"),
            (3, 8, 1, "scrypt"),
            (2, 9, 1, "scrypt"),
            (2, 0, 1, "scrypt"),
            (2, 8, 5, "scrypt"),
            (2, 8, 1, "none"),
            (1 << 40, 8, 1, "scrypt"),
            (1, 8, 1, "scrypt"),
        ] {
            assert!(with(n, r, p, kdf).is_err(), "{n} {r} {p}");
        }
        assert!(open(b"{}", b"").is_err() && open(b"", b"").is_err());
    }
}
