//! The verification service over REST, by an admitted caller: a line `METHOD PATH`, headers, an empty line, the body.
#![no_main]

use std::sync::Arc;

use cocoon_fuzz::backend::Backend;
use cocoon_fuzz::block_on;
use cocoon_fuzz::request::{parse, send};
use cocoon_rpc::rest_router;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(request) = parse(bytes) else { return };
    let router = rest_router(Arc::new(Backend), Arc::new(Backend));
    let answer = block_on(send(router, request));
    assert!(answer.status < 500 || answer.status == 501, "{}", String::from_utf8_lossy(&answer.body));
});
