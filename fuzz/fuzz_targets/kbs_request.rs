//! Any request to the router, by someone who is nobody: paths, queries, cookies, bearer tokens, bodies. `COOKIE` in
//! the input becomes the good cookie of a challenge.
#![no_main]

use cocoon_fuzz::block_on;
use cocoon_fuzz::request::{parse, post, replaced, send};
use cocoon_fuzz::trustee::{SECRET, trustee};
use libfuzzer_sys::fuzz_target;

const AUTH: &[u8] = br#"{"version":"0.4.0","tee":"sample","extra-params":""}"#;
/// What anybody may read.
const OPEN: [&str; 6] =
    ["/cocoon/v0/openapi.json", "/healthz", "/readyz", "/.well-known/", "/metrics", "/kbs/v0/auth"];

fuzz_target!(|bytes: &[u8]| {
    let router = trustee().router();
    block_on(async move {
        let mut text = bytes.to_vec();
        if text.windows(6).any(|window| window == b"COOKIE") {
            let challenged = send(router.clone(), post("/kbs/v0/auth", None, AUTH)).await;
            let cookie = challenged.cookie.expect("a cookie");
            text = replaced(&text, "COOKIE", cookie.split_once('=').expect("name and value").1);
        }
        let Some(request) = parse(&text) else { return };
        let path = request.uri().path().to_owned();
        let attest = path == "/kbs/v0/attest";
        let answer = send(router, request).await;
        assert_ne!(answer.status, 500, "{}", String::from_utf8_lossy(&answer.body));
        assert!(!answer.body.windows(SECRET.len()).any(|window| window == SECRET));
        let open = attest || OPEN.iter().any(|known| path.starts_with(known));
        assert!(open || answer.status >= 300, "{path}: {}", String::from_utf8_lossy(&answer.body));
    });
});
