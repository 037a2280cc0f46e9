//! Attestation tokens at the router. Two parts between a NUL byte: header and payload, signed with a key whose
//! certificate a trusted CA issued; `"JWK"` in the header becomes that key with its chain. One part: the token itself.
#![no_main]

use std::sync::LazyLock;

use axum::body::Body;
use cocoon_fuzz::request::{replaced, send};
use cocoon_fuzz::signed::IDENTITY;
use cocoon_fuzz::trustee::{SECRET, trustee};
use cocoon_fuzz::{NOW, block_on, parts};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 3] =
    ["/kbs/v0/resource/default/key/1", "/kbs/v0/provisioner/default/x/root", "/cocoon/v0/status"];

/// That a good token is taken for one, so that this target cannot pass by never getting anywhere.
static CHECKED: LazyLock<()> = LazyLock::new(|| {
    let point = "\"x\":\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY\",\"y\":\"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU\"";
    let key = format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"alg\":\"ECDH-ES+A256KW\",{point}}}");
    let payload = format!("{{\"exp\":{},\"nbf\":1,\"tee-pubkey\":{key}}}", NOW + 60);
    let refused =
        present(&token(&[b"{\"alg\":\"ES256\",\"jwk\":\"JWK\"}", payload.as_bytes()].join(&0)), PATHS[0]);
    let refused = refused.expect("it fits into a header");
    assert!(refused.contains("PolicyDeny"), "a good token is refused: {refused}");
});

fuzz_target!(|bytes: &[u8]| {
    *CHECKED;
    let token = token(bytes);
    for path in PATHS {
        present(&token, path);
    }
});

/// The token that an input stands for.
fn token(bytes: &[u8]) -> Vec<u8> {
    match parts(bytes, 2).as_slice() {
        [header, payload] => {
            let header = replaced(header, "\"JWK\"", &IDENTITY.jwk().to_string());
            IDENTITY.token(&header, payload).into_bytes()
        }
        _ => bytes.to_vec(),
    }
}

/// How a request with the token was refused; `None` where it fits into no header.
fn present(token: &[u8], path: &str) -> Option<String> {
    let request = http::Request::get(path).header("authorization", [b"Bearer ", token].concat());
    let answer = block_on(send(trustee().router(), request.body(Body::empty()).ok()?));
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_ne!(answer.status, 500, "{text}");
    assert!(answer.status >= 400, "nothing is released to it: {text}");
    assert!(!answer.body.windows(SECRET.len()).any(|window| window == SECRET));
    Some(text)
}
