//! The admin API as its owner uses it, and upstream's admin paths: up to four requests between NUL bytes, each a line
//! `METHOD PATH` and a body. Administrators are trusted with what they set, not with Trustee's life.
#![no_main]

use bytes::Bytes;
use cocoon_fuzz::request::first_line;
use cocoon_fuzz::trustee::{SECRET, trustee};
use cocoon_fuzz::{block_on, parts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let trustee = trustee();
    for text in parts(bytes, 4) {
        let Some((method, path, body)) = first_line(text) else { continue };
        if !path.starts_with('/') {
            continue;
        }
        let Ok(answer) = block_on(trustee.local(method, path, Bytes::copy_from_slice(body))) else {
            continue;
        };
        assert_ne!(answer.status, 500, "{path}: {}", String::from_utf8_lossy(&answer.body));
        assert!(
            !answer.body.windows(SECRET.len()).any(|window| window == SECRET),
            "values are never given out"
        );
    }
});
