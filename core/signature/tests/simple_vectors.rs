//! Simple signing against recorded keys and signatures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Read as _;

use cocoon_signature::simple::{Keyring, verify};

fn vector(name: &str) -> Option<Vec<u8>> {
    let dir = std::env::var("COCOON_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let found = std::fs::read(format!("{dir}/image/{name}")).ok();
    if found.is_none() {
        println!("skipped: no vectors in {dir}");
    }
    found
}

/// These are genuine, but made with SHA-1: recorded verdicts take them, here they are refused, and the reason says why.
#[test]
fn genuine_signatures_with_sha1_are_refused_for_that() {
    let Some(ring) = vector("signature/pubring.gpg") else { return };
    let keyring = Keyring::parse(&ring).unwrap();
    assert_eq!(keyring.fingerprints().len(), 3);
    for n in 1..=2 {
        let message = vector(&format!("signature/signatures/signature-{n}")).unwrap();
        let e = verify(&keyring, &message, 1_641_400_000).unwrap_err().to_string();
        assert!(e.contains("SHA-1"), "{e}");
    }
}

#[test]
fn recorded_signatures_verify_while_their_key_lives() {
    let Some(ring) = vector("simple-signing-scheme/pubkey.gpg") else { return };
    let keyring = Keyring::parse(&ring).unwrap();
    let mut archive = Vec::new();
    let packed = vector("simple-signing-scheme/signatures.tar").unwrap();
    flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut archive).unwrap();
    let mut verdicts = Vec::new();
    // Members of a tar archive: a header block of 512 bytes, its size in octal at 124.
    let mut rest = &archive[..];
    while rest.len() > 512 && rest[0] != 0 {
        let size = std::str::from_utf8(&rest[124..135]).unwrap().trim();
        let size = usize::from_str_radix(size, 8).unwrap();
        let file = rest[156] == b'0' && size > 0;
        let (content, after) = rest[512..].split_at(size.div_ceil(512) * 512);
        if file {
            let message = &content[..size];
            match verify(&keyring, message, 1_635_000_000) {
                Ok(claim) => {
                    let name = "quay.io/kata-containers/confidential-containers:signed";
                    assert_eq!(claim.reference, name);
                    assert_eq!(claim.signer, "67B24AACC459679E0283D7EE58F6ED07EEA6B429");
                    let e = verify(&keyring, message, 1_700_000_000).unwrap_err().to_string();
                    assert!(e.contains("has expired"), "{e}");
                    verdicts.push("allow");
                }
                Err(e) => {
                    assert!(e.to_string().contains("no key of the keyring"), "{e}");
                    verdicts.push("deny");
                }
            }
        }
        rest = after;
    }
    verdicts.sort_unstable();
    assert_eq!(verdicts, ["allow", "deny"]);
}
