//! What a guest costs the server: `cargo bench -p cocoon-trustee --bench handshake`.
//!
//! Prints, asserts nothing: machines differ. CPU time of the HTTP service itself, without TLS and sockets, with the state
//! on disk and every verdict in the audit log before it is answered. `COCOON_BENCH_HANDSHAKES` (default 20,000) is how
//! many handshakes the memory is looked at over.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use cocoon_protocol::initdata::{InitData, host_data};
use cocoon_protocol::{HashAlgorithm, TeeKeyPair, report_data};
use cocoon_store::{RedbStore, Sealer};
use cocoon_trustee::{Config, Trustee};
use http::Request;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use support::speaker::{rule_for_any, sample, sample_values};
use support::*;
use tokio::task::JoinSet;
use tower_service::Service;

/// CPU milliseconds that a handshake and the release of a secret may take.
const GOALS: (f64, f64) = (0.4, 0.1);
/// Clients at once in the second run.
const CLIENTS: usize = 16;
const ROUNDS: usize = 960;
/// Verdicts are gathered this long before they are written.
const GATHERING: Duration = Duration::from_millis(400);

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// CPU time of all threads but this one.
fn others() -> Duration {
    cpu(ClockId::ProcessCPUTime).saturating_sub(cpu(ClockId::ThreadCPUTime))
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

struct Bench {
    router: axum::Router,
    plan: InitData,
    tee: &'static str,
    /// The secret that each guest fetches.
    path: &'static str,
}

/// Requests of one kind: the server's CPU time in this thread, and how long each client waited.
#[derive(Default)]
struct Calls {
    cpu: Duration,
    waits: Vec<Duration>,
}

impl Bench {
    /// Sends requests at once; the answers in order, with their cookies.
    async fn call(&self, requests: Vec<Request<Body>>, calls: &mut Calls) -> Vec<(Value, String)> {
        let count = requests.len();
        let start = cpu(ClockId::ThreadCPUTime);
        let mut running = JoinSet::new();
        for (index, request) in requests.into_iter().enumerate() {
            let mut router = self.router.clone();
            running.spawn(async move {
                let start = Instant::now();
                let reply = router.call(request).await.unwrap();
                let (head, body) = reply.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                (index, start.elapsed(), head, body)
            });
        }
        let mut answers = vec![(Value::Null, String::new()); count];
        let mut waits = vec![Duration::ZERO; count];
        let mut finished = Vec::with_capacity(count);
        while let Some(done) = running.join_next().await {
            finished.push(done.unwrap());
        }
        calls.cpu += cpu(ClockId::ThreadCPUTime) - start;
        for (index, wait, head, body) in finished {
            assert_eq!(head.status, 200, "{}", String::from_utf8_lossy(&body));
            let cookie = head.headers.get("set-cookie").map(|c| c.to_str().unwrap()).unwrap_or_default();
            waits[index] = wait;
            answers[index] =
                (serde_json::from_slice(&body).unwrap(), cookie.split(';').next().unwrap().to_owned());
        }
        calls.waits.extend(waits);
        answers
    }

    fn message(&self, nonce: &str) -> Value {
        let key = TeeKeyPair::generate().unwrap();
        let digest = report_data(HashAlgorithm::Sha384, nonce, &key.public(), "").unwrap();
        let evidence = match self.tee {
            "sample" => sample(&digest),
            _ => {
                let mut field = [0; 64];
                field[..48].copy_from_slice(&digest);
                let bound = host_data(&self.plan.digest());
                evidence(&PROCESSORS[0], MEASUREMENT, bound, POLICY, &field)
            }
        };
        json!({
            "init-data": {"format": "toml", "body": self.plan.text()},
            "runtime-data": {"nonce": nonce, "tee-pubkey": key.public()},
            "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""},
        })
    }

    /// Handshakes of some guests at once; their tokens.
    async fn handshakes(&self, clients: usize, auth: &mut Calls, attest: &mut Calls) -> Vec<String> {
        let hello = json!({"version": "0.4.0", "tee": self.tee, "extra-params": ""});
        let hellos = (0..clients).map(|_| post("/kbs/v0/auth", "", &hello)).collect();
        let challenges = self.call(hellos, auth).await;
        let messages = challenges.iter().map(|(challenge, cookie)| {
            post("/kbs/v0/attest", cookie, &self.message(challenge["nonce"].as_str().unwrap()))
        });
        let answers = self.call(messages.collect(), attest).await;
        answers.iter().map(|(token, _)| token["token"].as_str().unwrap().to_owned()).collect()
    }

    async fn run(&self, clients: usize) {
        let rounds = ROUNDS / clients;
        let (mut auth, mut attest, mut get) = (Calls::default(), Calls::default(), Calls::default());
        let before = others();
        let mut tokens = Vec::new();
        for _ in 0..rounds {
            tokens.extend(self.handshakes(clients, &mut auth, &mut attest).await);
        }
        tokio::time::sleep(GATHERING).await;
        let shaken = others();
        for tokens in tokens.chunks(clients) {
            let wanted = |token: &String| {
                let uri = format!("/kbs/v0/resource/{}", self.path);
                let bearer = format!("Bearer {token}");
                Request::get(uri).header("authorization", bearer).body(Body::empty()).unwrap()
            };
            self.call(tokens.iter().map(wanted).collect(), &mut get).await;
        }
        tokio::time::sleep(GATHERING).await;
        let count = tokens.len();
        let each = |total: Duration| total.as_secs_f64() * 1000.0 / f64::from(u32::try_from(count).unwrap());
        let (background, released) = (each(shaken - before), each(others() - shaken));
        let (a, b, c) = (each(auth.cpu), each(attest.cpu), each(get.cpu));
        let waits = auth.waits.iter().zip(&attest.waits).map(|(a, b)| *a + *b).collect();
        let kind = format!("{:>6}, {clients:>2} at once", self.tee);
        println!(
            "{kind}: handshake {:.3} ms CPU (auth {a:.3}, attest {b:.3}, other threads {background:.3}), \
             {:.2} of the goal; {}",
            a + b + background,
            (a + b + background) / GOALS.0,
            quantiles(waits),
        );
        println!(
            "{kind}: get       {:.3} ms CPU (get {c:.3}, other threads {released:.3}), {:.2} of the goal; {}",
            c + released,
            (c + released) / GOALS.1,
            quantiles(get.waits),
        );
    }

    /// What is resident before, half way through and after many handshakes.
    async fn memory(&self, handshakes: usize) {
        let start = resident_mib();
        let mut at_half = start;
        let rounds = handshakes / CLIENTS;
        for round in 0..rounds {
            self.handshakes(CLIENTS, &mut Calls::default(), &mut Calls::default()).await;
            if round == rounds / 2 {
                at_half = resident_mib();
            }
        }
        let end = resident_mib();
        println!(
            "{:>6}: resident {start:.1} MiB, after {} handshakes {at_half:.1} MiB, after {} {end:.1} MiB",
            self.tee,
            rounds / 2 * CLIENTS,
            rounds * CLIENTS,
        );
    }
}

fn post(path: &str, cookie: &str, body: &Value) -> Request<Body> {
    Request::post(path).header("cookie", cookie).body(body.to_string().into()).unwrap()
}

fn quantiles(mut waits: Vec<Duration>) -> String {
    waits.sort();
    let at =
        |percent: usize| waits[(waits.len() * percent / 100).min(waits.len() - 1)].as_secs_f64() * 1000.0;
    format!("a client waits p50 {:.2} ms, p99 {:.2} ms", at(50), at(99))
}

fn main() {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(all());
}

async fn all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open_exclusive(&folder.path().join("state.redb")).unwrap());
    let sealer = Arc::new(Sealer::open_or_create(&folder.path().join("key")).unwrap());
    let mut config = Config::new(store, sealer);
    config.journal = Some(folder.path().join("audit.journal"));
    config.live.simulated_roots = vec![PROCESSORS[0].root()];
    config.live.accept_sample = true;
    let trustee = Trustee::new(config).unwrap();
    reference_values(&trustee, &PROCESSORS[0], "sim");
    sample_values(&trustee);
    let plan = init_data("a");
    trustee.register_workload(&registration(&plan)).unwrap();
    trustee.put_secret(&path("default/key/1"), &[7; 32]).unwrap();
    trustee.put_rule(&rule_for_any("default/key/*", true)).unwrap();
    let of = |tee, path| Bench { router: trustee.router(), plan: plan.clone(), tee, path };
    let sample = of("sample", "default/key/1");
    println!("goals: {} ms for a handshake, {} ms for a release", GOALS.0, GOALS.1);
    for bench in [&sample, &of("snp", "default/secret/own")] {
        bench.handshakes(CLIENTS, &mut Calls::default(), &mut Calls::default()).await;
        bench.run(1).await;
        bench.run(CLIENTS).await;
    }
    let handshakes = std::env::var("COCOON_BENCH_HANDSHAKES").ok().and_then(|n| n.parse().ok());
    sample.memory(handshakes.unwrap_or(20_000)).await;
}
