use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::encryption::Jwe;

/// What opens with the one must have been sealed to the other.
fn pair(public: &[u8], private: &[u8], password: Option<&[u8]>) {
    let public = RecipientKey::parse(public).unwrap();
    let private = OpeningKey::parse(private, password).unwrap();
    let jwe = Jwe::seal(&public, b"secret").unwrap();
    assert_eq!(&jwe.open(&[private]).unwrap()[..], b"secret");
}

#[test]
fn ocicrypts_own_keys_are_read() {
    let dir = std::env::var_os("COCOON_VECTORS")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into(), PathBuf::from)
        .join("image");
    if !dir.is_dir() {
        println!("skipped: no vectors in {}", dir.display());
        return;
    }
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let publics = ["public_key.pem", "public_certificate.pem", "RSA_public.jwk", "certificate.pem"];
    assert!(publics.iter().all(|name| RecipientKey::parse(&read(name)).is_ok()));
    for name in ["private_key.pem", "private_key.der", "private_key8.pem", "private_key8.der"] {
        pair(&read("public_key.pem"), &read(name), None);
    }
    pair(&read("RSA_public.jwk"), &read("RSA_private.jwk"), None);
    pair(&read("public_key_ec.der"), &read("private_key_ec.der"), None);
    pair(&read("certificate.pem"), &read("certificate_key.pem"), None);
    for name in publics {
        assert!(OpeningKey::parse(&read(name), None).is_err(), "{name} is no private key");
    }
    assert!(RecipientKey::parse(&read("private_key8.pem")).err().unwrap().to_string().contains("private"));
}

/// OpenSSL's output; `None` where there is no OpenSSL.
fn openssl(dir: &std::path::Path, args: &str) -> Option<()> {
    let done = Command::new("openssl").args(args.split(' ')).current_dir(dir).output().ok()?;
    assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
    Some(())
}

#[test]
fn what_openssl_makes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if openssl(dir, "version").is_none() {
        println!("skipped: no openssl");
        return;
    }
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    for curve in ["prime256v1", "secp384r1", "secp521r1"] {
        // With its parameters before it, as OpenSSL likes to.
        openssl(dir, &format!("ecparam -name {curve} -genkey -out sec1.pem")).unwrap();
        openssl(dir, "ec -in sec1.pem -pubout -out public.pem").unwrap();
        openssl(dir, "pkcs8 -topk8 -nocrypt -in sec1.pem -out pkcs8.pem").unwrap();
        openssl(dir, "pkcs8 -topk8 -in sec1.pem -out locked.pem -passout pass:123456").unwrap();
        openssl(
            dir,
            "pkcs8 -topk8 -in sec1.pem -outform DER -out locked.der -v2 aes-128-cbc -passout pass:x",
        )
        .unwrap();
        for private in ["sec1.pem", "pkcs8.pem"] {
            pair(&read("public.pem"), &read(private), None);
        }
        pair(&read("public.pem"), &read("locked.pem"), Some(b"123456"));
        pair(&read("public.pem"), &read("locked.der"), Some(b"x"));
    }
    let refused = |name: &str, password: Option<&[u8]>| {
        OpeningKey::parse(&read(name), password).err().unwrap().to_string()
    };
    assert!(refused("locked.pem", None).contains("password"));
    assert!(refused("locked.pem", Some(b"654321")).contains("wrong"));
    openssl(dir, "pkcs8 -topk8 -in sec1.pem -out scrypt.pem -scrypt -passout pass:x").unwrap();
    assert!(refused("scrypt.pem", Some(b"x")).contains("PBKDF2"));
    openssl(dir, "genrsa -traditional -aes128 -passout pass:x -out old.pem 2048").unwrap();
    assert!(refused("old.pem", Some(b"x")).contains("obsolete"));
    openssl(dir, "genrsa -out small.pem 1024").unwrap();
    openssl(dir, "rsa -in small.pem -pubout -out small.pub").unwrap();
    assert!(refused("small.pem", None).contains("RSA") && RecipientKey::parse(&read("small.pub")).is_err());
    openssl(dir, "genpkey -algorithm ed25519 -out ed.pem").unwrap();
    refused("ed.pem", None);
}

#[test]
fn malformed_keys_are_refused() {
    let no_point = r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#;
    for bad in [
        &b""[..],
        b"{}",
        b"{\"kty\":\"oct\",\"k\":\"AAAA\"}",
        no_point.as_bytes(),
        b"{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----",
        b"-----BEGIN -----END ",
        b"\x30\x03\x02\x01\x01",
        b"text",
        &[0x30; 70_000],
    ] {
        assert!(matches!(RecipientKey::parse(bad), Err(Error::Key(_))));
        assert!(matches!(OpeningKey::parse(bad, Some(b"x")), Err(Error::Key(_))));
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, text in "\\PC{0,200}") {
        for bytes in [bytes.as_slice(), text.as_bytes(), &[&[0x30], bytes.as_slice()].concat()] {
            let _ = RecipientKey::parse(bytes);
            let _ = OpeningKey::parse(bytes, Some(b"x"));
        }
    }
}
