//! Whole handshakes through the router, and the request for a secret that follows. `NONCE` in the input becomes the
//! challenge's nonce, `REPORT` the report data that the guest's own evidence must carry, `DEVICE` that of its devices.
//! The first line is the body of `/auth`.
#![no_main]

use std::sync::LazyLock;

use axum::body::Body;
use cocoon_fuzz::block_on;
use cocoon_fuzz::request::{Answer, post, replaced, send};
use cocoon_fuzz::trustee::{SECRET, trustee};
use cocoon_protocol::messages::{Challenge, Request};
use cocoon_protocol::{HashAlgorithm, b64, device_report_data, dialect};
use libfuzzer_sys::fuzz_target;

/// The point is the curve's generator.
const GOOD: &[u8] = br#"{"version":"0.4.0","tee":"sample","extra-params":""}
{"runtime-data":{"nonce":"NONCE","tee-pubkey":{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}},"tee-evidence":{"primary_evidence":{"svn":"1","report_data":"REPORT"},"additional_evidence":""}}"#;

/// That this target gets as far as a refused release, so that it cannot pass by never getting anywhere.
static CHECKED: LazyLock<()> = LazyLock::new(|| {
    let refused = handshake(GOOD).expect("a good handshake ends in a token");
    assert!(refused.contains("PolicyDeny"), "{refused}");
});

fuzz_target!(|bytes: &[u8]| {
    *CHECKED;
    let _ = handshake(bytes);
});

/// How the request for a secret was refused, where there was a token for it.
fn handshake(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (auth, body) = (&bytes[..end], &bytes[end + 1..]);
    let router = trustee().router();
    block_on(async move {
        let challenged = send(router.clone(), post("/kbs/v0/auth", None, auth)).await;
        expected(&challenged);
        assert_eq!(challenged.status == 200, challenged.cookie.is_some());
        let cookie = challenged.cookie?;
        let challenge: Challenge = serde_json::from_slice(&challenged.body).expect("a challenge");
        let version = serde_json::from_slice::<Request>(auth).expect("it was taken").version;
        let version = version.parse().expect("it was taken");
        let mut body = replaced(body, "NONCE", &challenge.nonce);
        if let Ok(answer) = dialect::Answer::read(version, &body)
            && let Ok(bound) = device_report_data(HashAlgorithm::Sha384, &challenge.nonce, &answer.tee_pubkey)
        {
            body = replaced(&body, "DEVICE", &b64::std_encode(&bound));
        }
        // The devices' evidence is bound too, as it is now.
        if let Ok(answer) = dialect::Answer::read(version, &body)
            && let Ok(bound) = answer.report_data(version, HashAlgorithm::Sha384, &challenge.nonce)
        {
            body = replaced(&body, "REPORT", &b64::std_encode(&bound));
        }
        let attested = send(router.clone(), post("/kbs/v0/attest", Some(&cookie), &body)).await;
        expected(&attested);
        let again = send(router.clone(), post("/kbs/v0/attest", Some(&cookie), &body)).await;
        assert_ne!(again.status, 200, "a challenge is answered once");
        assert_eq!(attested.status == 200, attested.cookie.is_some());
        let wanted = http::Request::get("/kbs/v0/resource/default/key/1").header("cookie", attested.cookie?);
        let released = send(router, wanted.body(Body::empty()).expect("a request")).await;
        expected(&released);
        assert_ne!(released.status, 200, "there is no policy that allows it");
        Some(String::from_utf8_lossy(&released.body).into_owned())
    })
}

/// No input is Trustee's own fault, and no answer has the secret.
fn expected(answer: &Answer) {
    assert_ne!(answer.status, 500, "{}", String::from_utf8_lossy(&answer.body));
    assert!(!answer.body.windows(SECRET.len()).any(|window| window == SECRET));
}
