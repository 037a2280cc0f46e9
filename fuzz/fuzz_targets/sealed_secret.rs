//! Sealed secrets: text of the cluster's.
#![no_main]

use cocoon_protocol::sealed::open;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let signer = "kbs:///default/key/signer".parse().expect("a URI");
    let key = br#"{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#;
    assert!(open(bytes, &signer, key).is_err(), "nobody forges by chance");
    let text = [b"sealed.eyJhbGciOiJFUzI1NiIsImtpZCI6ImticzovLy9kZWZhdWx0L2tleS9zaWduZXIifQ.", bytes].concat();
    assert!(open(&text, &signer, key).is_err());
    let _ = open(b"sealed.a.b.c", &signer, bytes);
});
