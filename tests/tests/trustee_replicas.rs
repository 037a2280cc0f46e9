//! Two Trustees on one PostgreSQL: guests do not notice which they speak to, nor that one is killed, nor (save for
//! a pause) that the database is.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use cocoon_http::Method;
use cocoon_tests::{Admin, Attester, Guest, Postgres, Reply, Served, TrusteeHome, token};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const ATTESTER: Attester = Attester::Sample;
const CLIENTS: usize = 8;
/// How long a client goes on trying until it gets an answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// A database and the folders of two Trustees on it.
struct World {
    postgres: Postgres,
    homes: [TrusteeHome; 2],
}

impl World {
    fn new() -> Option<World> {
        let homes = [TrusteeHome::open().unwrap()?, TrusteeHome::open().unwrap()?];
        let postgres = Postgres::start().unwrap()?;
        let seal = homes[0].file("seal.key");
        let token = homes[0].file("admin.token");
        for home in &homes {
            // Each has a state folder of its own, for its TLS identity.
            home.settings(&format!(
                "[state]\nkind = \"postgres\"\npostgres_url = \"{}\"\n[seal]\nfile = \"{}\"\n\
                 [admin]\ntoken_file = \"{}\"\n[attestation]\naccept_sample = true\n",
                postgres.url(),
                seal.display(),
                token.display(),
            ))
            .unwrap();
        }
        Some(World { postgres, homes })
    }

    fn start(&self, which: usize) -> Served {
        let job = cocoon_tests::Job::start(self.homes[which].serve_command()).unwrap();
        Served::when_ready(job, &self.homes[0].file("admin.token")).unwrap()
    }

    async fn prepared(&self) -> [Served; 2] {
        let both = [self.start(0), self.start(1)];
        let admin = both[0].admin().unwrap();
        let values = json!({"source": "test", "values": ATTESTER.reference_values()});
        admin.put("/cocoon/v0/reference-values", values.to_string()).await.unwrap();
        let rule = json!({"workload": "any", "path": "ha/*/*", "accept_simulated": true});
        admin.put("/cocoon/v0/rules/ha", rule.to_string()).await.unwrap();
        // What no rule allows, a policy does; and guests are judged by a stored policy.
        let policy = "package policy\nimport rego.v1\ndefault allow := false\n\
                      allow if data[\"resource-path\"][0] == \"rego\"\n";
        admin
            .put("/cocoon/v0/policies/resource-policy", json!({"policy": policy}).to_string())
            .await
            .unwrap();
        let policy = "package policy\nimport rego.v1\ndefault executables := 33\n\
                      executables := 3 if input.sample.launch_digest in query_reference_value(\"launch_digest\")\n\
                      trust_claims := {\"executables\": executables, \"hardware\": 2, \"configuration\": 2}\n";
        let policy = json!({"policy": policy}).to_string();
        admin.put("/cocoon/v0/policies/default_cpu", policy).await.unwrap();
        both
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_may_wander_and_counts_once() {
    let Some(world) = World::new() else { return };
    let both = world.prepared().await;
    let guests = both.each_ref().map(|trustee| Guest::of(trustee, &ATTESTER).unwrap());
    let admins = both.each_ref().map(|trustee| trustee.admin().unwrap());
    admins[1].put("/cocoon/v0/secrets/ha/key/one", "the value").await.unwrap();
    for (begin, end, get) in [(0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (0, 0, 1)] {
        let answer = guests[begin].begin().await.unwrap();
        let token = token(&guests[end].attest(&answer).await.unwrap()).unwrap();
        let reply = guests[get].resource(&token, "ha/key/one").await.unwrap();
        assert_eq!(answer.open(reply).unwrap(), b"the value");
    }

    let jwks = async |which: usize| admins[which].get("/.well-known/jwks.json").await.unwrap();
    assert_eq!(jwks(0).await, jwks(1).await);
    let answer = guests[0].begin().await.unwrap();
    let old = token(&guests[0].attest(&answer).await.unwrap()).unwrap();
    let rotate = async || {
        let rotated = admins[0].send(Method::POST, "/cocoon/v0/token-key/rotate", "").await.unwrap();
        rotated.succeeded().unwrap().json().unwrap()["kid"].clone()
    };
    // A token of a new key is good at the other one at once; also without one its key is published there in seconds.
    rotate().await;
    let second = guests[0].begin().await.unwrap();
    let new = token(&guests[0].attest(&second).await.unwrap()).unwrap();
    assert_eq!(second.open(guests[1].resource(&new, "ha/key/one").await.unwrap()).unwrap(), b"the value");
    let (kid, rotated) = (rotate().await, Instant::now());
    while jwks(1).await["keys"][0]["kid"] != kid {
        assert!(rotated.elapsed() < Duration::from_secs(15), "{} has no {kid}", jwks(1).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("the rotation was noticed after {:?}", rotated.elapsed());
    assert_eq!(jwks(0).await, jwks(1).await);
    assert_eq!(answer.open(guests[1].resource(&old, "ha/key/one").await.unwrap()).unwrap(), b"the value");

    for _ in 0..20 {
        let answer = guests[0].begin().await.unwrap();
        let mut sending = JoinSet::new();
        for copy in 0..6 {
            let (guest, answer) = (guests[copy % 2].clone(), answer.clone());
            sending.spawn(async move { guest.attest(&answer).await.unwrap() });
        }
        let replies = sending.join_all().await;
        let (tokens, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
        assert_eq!(tokens.len(), 1, "one challenge, {} tokens", tokens.len());
        assert!(
            refused.iter().all(|r| (r.status, r.code()) == (401, "ATTEST-NONCE-REPLAYED")),
            "{refused:?}"
        );
    }
    audited(&world, &both[0], &BTreeSet::new()).await;
}

/// What the clients share: addresses of the replicas as they are now, and what they were told.
#[derive(Default)]
struct Shared {
    replicas: std::sync::RwLock<Vec<(Admin, Guest)>>,
    over: AtomicBool,
    turns: AtomicUsize,
    errors: AtomicUsize,
    dropped: AtomicUsize,
}

#[derive(Default)]
struct Told {
    granted: BTreeSet<String>,
    secrets: BTreeMap<String, Vec<u8>>,
    slowest: Duration,
}

impl Shared {
    fn now(&self, replicas: &[Served]) {
        let speak = |trustee: &Served| (trustee.admin().unwrap(), Guest::of(trustee, &ATTESTER).unwrap());
        *self.replicas.write().unwrap() = replicas.iter().map(speak).collect();
    }

    /// Asks one replica after the other until one does not fail. Refusals are answers: a wrong one ends the test.
    async fn answered<F: Future<Output = Result<Reply>>>(
        &self,
        start: usize,
        ask: impl Fn((Admin, Guest)) -> F,
    ) -> Reply {
        let began = Instant::now();
        for attempt in start.. {
            let replica = {
                let all = self.replicas.read().unwrap();
                all[attempt % all.len()].clone()
            };
            match ask(replica).await {
                Ok(reply) if reply.status < 500 => return reply,
                Ok(_) => self.errors.fetch_add(1, Ordering::Relaxed),
                Err(_) => self.dropped.fetch_add(1, Ordering::Relaxed),
            };
            assert!(began.elapsed() < PATIENCE, "no replica answers");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("there is always another attempt")
    }
}

/// One client: writes a secret, attests, reads it; each request at whichever replica answers.
async fn client(number: usize, shared: Arc<Shared>) -> Told {
    let mut told = Told::default();
    while !shared.over.load(Ordering::Relaxed) {
        let turn = shared.turns.fetch_add(1, Ordering::Relaxed);
        let repository = if number.is_multiple_of(2) { "ha" } else { "rego" };
        let (path, start) = (format!("{repository}/client{number}/key{}", turn % 8), turn);
        let value = format!("{turn}/{path}/").repeat(1 + turn % 20).into_bytes();
        let began = Instant::now();
        let put = |(admin, _): (Admin, Guest)| {
            let (path, value) = (format!("/cocoon/v0/secrets/{path}"), value.clone());
            async move { admin.send(Method::PUT, &path, value).await }
        };
        let reply = shared.answered(start, put).await.succeeded().unwrap();
        told.granted.insert(reply.request_id().to_owned());
        told.secrets.insert(path.clone(), value.clone());

        // A challenge that was perhaps answered before its replica died counts no more: a new one.
        let (answer, token) = loop {
            let answer = loop {
                let (_, guest) = {
                    let all = shared.replicas.read().unwrap();
                    all[start % all.len()].clone()
                };
                match guest.begin().await {
                    Ok(answer) => break answer,
                    Err(_) => shared.dropped.fetch_add(1, Ordering::Relaxed),
                };
                let (_, guest) = {
                    let all = shared.replicas.read().unwrap();
                    all[(start + 1) % all.len()].clone()
                };
                if let Ok(answer) = guest.begin().await {
                    break answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert!(began.elapsed() < PATIENCE, "no replica gives challenges");
            };
            let sent = answer.clone();
            let attest = |(_, guest): (Admin, Guest)| {
                let answer = sent.clone();
                async move { guest.attest(&answer).await }
            };
            let reply = shared.answered(start + 1, attest).await;
            if reply.status == 200 {
                told.granted.insert(reply.request_id().to_owned());
                break (answer, token(&reply).unwrap());
            }
            assert_eq!((reply.status, reply.code()), (401, "ATTEST-NONCE-REPLAYED"));
        };
        let get = |(_, guest): (Admin, Guest)| {
            let (token, path) = (token.clone(), path.clone());
            async move { guest.resource(&token, &path).await }
        };
        let reply = shared.answered(start, get).await;
        told.granted.insert(reply.request_id().to_owned());
        assert_eq!(answer.open(reply).unwrap(), value, "{path}");
        told.slowest = told.slowest.max(began.elapsed());
    }
    told
}

/// What was granted is in the log, and the log is as it was signed.
async fn audited(world: &World, trustee: &Served, granted: &BTreeSet<String>) {
    let entries = trustee.admin().unwrap().audit_entries().await.unwrap();
    let of = |e: &Value| {
        let entry = &e["entry"];
        (entry["outcome"] == "granted").then(|| entry["request_id"].as_str().unwrap().to_owned())
    };
    let logged: BTreeSet<String> = entries.iter().filter_map(of).collect();
    let missing: Vec<_> = granted.difference(&logged).collect();
    assert!(missing.is_empty(), "not in the audit log: {missing:?}");
    world.homes[0].owner_succeeds(trustee, &["audit", "verify"]).unwrap();
}

/// Ends the clients; everything they were told must hold at each replica.
async fn finish(world: &World, shared: &Shared, clients: JoinSet<Told>, replicas: &[Served]) {
    shared.over.store(true, Ordering::Relaxed);
    let told = clients.join_all().await;
    let granted: BTreeSet<String> = told.iter().flat_map(|t| t.granted.clone()).collect();
    println!(
        "{} granted requests, {} server errors, {} broken connections, slowest round {:?}",
        granted.len(),
        shared.errors.load(Ordering::Relaxed),
        shared.dropped.load(Ordering::Relaxed),
        told.iter().map(|t| t.slowest).max().unwrap_or_default()
    );
    assert!(granted.len() > 50, "this tested nothing");
    for trustee in replicas {
        let guest = Guest::of(trustee, &ATTESTER).unwrap();
        let answer = guest.begin().await.unwrap();
        let token = token(&guest.attest(&answer).await.unwrap()).unwrap();
        for (path, value) in told.iter().flat_map(|t| &t.secrets) {
            let reply = guest.resource(&token, path).await.unwrap();
            assert_eq!(&answer.open(reply).unwrap(), value, "{path}");
        }
        audited(world, trustee, &granted).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_costs_nobody_a_wrong_answer() {
    let Some(world) = World::new() else { return };
    let [first, second] = world.prepared().await;
    let mut both = vec![first, second];
    let shared = Arc::new(Shared::default());
    shared.now(&both);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(number, shared.clone()));
    }
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let which = round % 2;
        both.remove(which).kill().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        both.insert(which, world.start(which));
        shared.now(&both);
    }
    finish(&world, &shared, clients, &both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_is_a_pause() {
    let Some(mut world) = World::new() else { return };
    let both = world.prepared().await;
    let shared = Arc::new(Shared::default());
    shared.now(&both);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(number, shared.clone()));
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(800)).await;
        world.postgres.kill().unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        let ready = both[0].admin().unwrap().send(Method::GET, "/readyz", "").await.unwrap();
        assert_eq!(ready.status, 503, "it says it is ready");
        let began = Instant::now();
        world.postgres.run().unwrap();
        let (up, guest) = (began.elapsed(), Guest::of(&both[1], &ATTESTER).unwrap());
        while guest.attest(&guest.begin().await.unwrap()).await.unwrap().status != 200 {
            assert!(began.elapsed() < PATIENCE, "the service does not resume");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("the database was up again after {up:?}, a guest attested after {:?}", began.elapsed());
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(shared.errors.load(Ordering::Relaxed) > 0, "nobody noticed");
    finish(&world, &shared, clients, &both).await;
}
