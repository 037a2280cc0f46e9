//! What a guest costs the server: `cargo bench -p cocoon-trustee --bench handshake`.
//!
//! Prints, asserts nothing: machines differ. CPU time of the HTTP service itself, without TLS and sockets.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use cocoon_protocol::{HashAlgorithm, TeeKeyPair, report_data};
use cocoon_store::{RedbStore, Sealer};
use cocoon_trustee::{Config, Trustee};
use http::Request;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use support::*;
use tower_service::Service;

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

async fn timed(
    router: &mut axum::Router,
    request: Request<axum::body::Body>,
    spent: &mut Duration,
) -> (Value, String) {
    let start = cpu(ClockId::ThreadCPUTime);
    let reply = router.call(request).await.unwrap();
    let cookie = reply.headers().get("set-cookie").map(|c| c.to_str().unwrap().to_owned());
    assert_eq!(reply.status(), 200);
    let body = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
    *spent += cpu(ClockId::ThreadCPUTime) - start;
    let cookie = cookie.unwrap_or_default();
    (serde_json::from_slice(&body).unwrap(), cookie.split(';').next().unwrap().to_owned())
}

fn main() {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(handshake_and_release());
}

async fn handshake_and_release() {
    const ROUNDS: u32 = 500;
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open_exclusive(&folder.path().join("state.redb")).unwrap());
    let sealer = Arc::new(Sealer::open_or_create(&folder.path().join("key")).unwrap());
    let mut config = Config::new(store, sealer);
    let processor = &PROCESSORS[0];
    config.simulated_roots = vec![processor.root()];
    let trustee = Trustee::new(config).unwrap();
    reference_values(&trustee, processor, "sim");
    let plan = init_data("a");
    trustee.register_workload(&registration(&plan)).unwrap();
    let bound = cocoon_protocol::initdata::host_data(&plan.digest());
    let mut router = trustee.router();
    let post = |path: &str, cookie: &str, body: &Value| {
        Request::post(path).header("cookie", cookie).body(body.to_string().into()).unwrap()
    };
    let (mut auth, mut attest, mut get) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (thread, process) = (cpu(ClockId::ThreadCPUTime), cpu(ClockId::ProcessCPUTime));
    for _ in 0..ROUNDS {
        let key = TeeKeyPair::generate().unwrap();
        let hello = json!({"version": "0.4.0", "tee": "snp", "extra-params": ""});
        let (challenge, cookie) = timed(&mut router, post("/kbs/v0/auth", "", &hello), &mut auth).await;
        let nonce = challenge["nonce"].as_str().unwrap();
        let digest = report_data(HashAlgorithm::Sha384, nonce, &key.public(), "").unwrap();
        let mut field = [0; 64];
        field[..48].copy_from_slice(&digest);
        let message = json!({
            "init-data": {"format": "toml", "body": plan.text()},
            "runtime-data": {"nonce": nonce, "tee-pubkey": key.public()},
            "tee-evidence": {
                "primary_evidence": evidence(processor, MEASUREMENT, bound, POLICY, &field),
                "additional_evidence": "",
            },
        });
        let (token, _) = timed(&mut router, post("/kbs/v0/attest", &cookie, &message), &mut attest).await;
        let wanted = Request::get("/kbs/v0/resource/default/secret/own")
            .header("authorization", format!("Bearer {}", token["token"].as_str().unwrap()))
            .body(axum::body::Body::empty())
            .unwrap();
        timed(&mut router, wanted, &mut get).await;
    }
    // What other threads did meanwhile: writing the verdicts to disk.
    let background = (cpu(ClockId::ProcessCPUTime) - process) - (cpu(ClockId::ThreadCPUTime) - thread);
    let each = |total: Duration| total.as_secs_f64() * 1000.0 / f64::from(ROUNDS);
    println!("auth {:.3} ms, attest {:.3} ms, get {:.3} ms", each(auth), each(attest), each(get));
    let all = auth + attest + get + background;
    println!("verdicts {:.3} ms, whole handshake {:.3} ms; goal 0.4, get 0.1", each(background), each(all));
}
