//! Trustee is killed at any moment, again and again: what it acknowledged is there afterwards, what it gave out is in the
//! audit log, and no challenge is answered twice.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cocoon_http::Method;
use cocoon_tests::{Admin, Answer, Attester, Guest, Job, Served, TrusteeHome, token};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const CLIENTS: usize = 8;
/// Secrets of each client, written over and over.
const SECRETS: usize = 12;
const ATTESTER: Attester = Attester::Sample;

/// What one client was told.
#[derive(Default)]
struct Told {
    /// Which client it is.
    number: usize,
    secrets: BTreeMap<String, Written>,
    /// Request ids of what was granted: tokens, secrets, changes.
    granted: BTreeSet<String>,
    /// Answers that were sent, and how often they were granted.
    answered: Vec<(Answer, usize)>,
    /// Answers that were not sent.
    open: Vec<Answer>,
}

/// The last acknowledged value, and a later one of which nobody knows.
#[derive(Default, Clone)]
struct Written {
    acknowledged: Option<Vec<u8>>,
    in_doubt: Option<Vec<u8>>,
}

fn rounds() -> u64 {
    std::env::var("COCOON_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_and_no_challenge_counts_twice() {
    let Some(home) = TrusteeHome::open().unwrap() else { return };
    home.settings("[attestation]\naccept_sample = true\n").unwrap();
    let trustee = home.start().unwrap();
    let admin = trustee.admin().unwrap();
    let values = json!({"source": "test", "values": ATTESTER.reference_values()});
    admin.put("/cocoon/v0/reference-values", values.to_string()).await.unwrap();
    let rule = json!({"workload": "any", "path": "kill/*/*", "accept_simulated": true});
    admin.put("/cocoon/v0/rules/kill", rule.to_string()).await.unwrap();
    trustee.stop().unwrap();

    let mut told: Vec<Told> = (0..CLIENTS).map(|number| Told { number, ..Told::default() }).collect();
    let counter = Arc::new(AtomicUsize::new(0));
    for round in 0..rounds() {
        if round % 3 == 2 {
            // Killed while it starts, too.
            let starting = Job::start(home.serve_command()).unwrap();
            tokio::time::sleep(Duration::from_millis(round * 7 % 60)).await;
            drop(starting);
        }
        let trustee = home.start().unwrap();
        check(&home, &trustee, &mut told).await;
        let mut clients = JoinSet::new();
        for mut told in told.drain(..) {
            let (admin, counter) = (trustee.admin().unwrap(), counter.clone());
            let guest = Guest::of(&trustee, &ATTESTER).unwrap();
            clients.spawn(async move {
                while work(&admin, &guest, &mut told, &counter).await {}
                told
            });
        }
        tokio::time::sleep(Duration::from_millis(200 + round * 137 % 500)).await;
        trustee.kill().unwrap();
        told = clients.join_all().await;
    }
    let done = told.iter().map(|t| t.granted.len()).sum::<usize>();
    assert!(done > 100, "only {done} requests were granted: this tested nothing");
    println!("{done} granted requests, {} kills", rounds());
    let trustee = home.start().unwrap();
    check(&home, &trustee, &mut told).await;
    trustee.stop().unwrap();
}

/// One piece of a client's work; false where Trustee is gone.
async fn work(admin: &Admin, guest: &Guest, told: &mut Told, counter: &AtomicUsize) -> bool {
    let turn = counter.fetch_add(1, Ordering::Relaxed);
    let path = format!("kill/client{}/key{}", told.number, turn % SECRETS);
    let value = format!("{turn}/{path}/").repeat(1 + turn % 50).into_bytes();
    let written = told.secrets.entry(path.clone()).or_default();
    written.in_doubt = Some(value.clone());
    let Ok(reply) = admin.send(Method::PUT, &format!("/cocoon/v0/secrets/{path}"), value).await else {
        return false;
    };
    let reply = reply.succeeded().unwrap();
    written.acknowledged = written.in_doubt.take();
    told.granted.insert(reply.request_id().to_owned());

    let Ok(answer) = guest.begin().await else { return false };
    if turn.is_multiple_of(5) {
        told.open.push(answer);
        return true;
    }
    // Every third answer is sent three times at once.
    let copies = if turn.is_multiple_of(3) { 3 } else { 1 };
    let mut sending = JoinSet::new();
    for _ in 0..copies {
        let (guest, answer) = (guest.clone(), answer.clone());
        sending.spawn(async move { guest.attest(&answer).await });
    }
    let replies: Vec<_> = sending.join_all().await.into_iter().flatten().collect();
    let tokens: Vec<_> = replies.iter().filter(|r| r.status == 200).collect();
    for refused in replies.iter().filter(|r| r.status != 200) {
        assert_eq!((refused.status, refused.code()), (401, "ATTEST-NONCE-REPLAYED"));
    }
    assert!(tokens.len() <= 1, "one challenge, {} tokens", tokens.len());
    assert!(replies.len() < copies || tokens.len() == 1, "no token for a good answer");
    told.answered.push((answer.clone(), tokens.len()));
    let Some(reply) = tokens.first() else { return replies.len() == copies };
    told.granted.insert(reply.request_id().to_owned());
    let token = token(reply).unwrap();
    let Ok(reply) = guest.resource(&token, &path).await else { return false };
    told.granted.insert(reply.request_id().to_owned());
    let got = answer.open(reply).unwrap();
    assert_eq!(Some(&got), told.secrets[&path].acknowledged.as_ref());
    true
}

/// What must hold after each start.
async fn check(home: &TrusteeHome, trustee: &Served, told: &mut [Told]) {
    let (admin, guest) = (trustee.admin().unwrap(), Guest::of(trustee, &ATTESTER).unwrap());
    // No answer to a challenge from before is taken any more, sent before or not.
    for told in told.iter_mut() {
        for (answer, _) in told.answered.drain(..).chain(told.open.drain(..).map(|a| (a, 0))) {
            let reply = guest.attest(&answer).await.unwrap();
            assert_eq!(reply.status, 401, "an answer from before the kill");
        }
    }
    // Every acknowledged write is there, and nothing that nobody wrote.
    let answer = guest.begin().await.unwrap();
    let token = token(&guest.attest(&answer).await.unwrap()).unwrap();
    for (path, written) in told.iter_mut().flat_map(|told| &mut told.secrets) {
        let reply = guest.resource(&token, path).await.unwrap();
        if reply.status == 404 {
            assert_eq!(written.acknowledged, None, "{path} is lost");
            written.in_doubt = None;
            continue;
        }
        let got = Some(answer.open(reply).unwrap());
        assert!(got == written.acknowledged || got == written.in_doubt, "{path}: another value");
        *written = Written { acknowledged: got, in_doubt: None };
    }
    // What was granted is in the log, which is as it was signed.
    let entries = admin.audit_entries().await.unwrap();
    let logged: BTreeSet<&str> = entries.iter().filter_map(granted).collect();
    for id in told.iter().flat_map(|told| &told.granted) {
        assert!(logged.contains(id.as_str()), "request {id} is not in the audit log");
    }
    home.owner_succeeds(trustee, &["audit", "verify"]).unwrap();
}

/// The request id of an entry about something that was granted.
fn granted(logged: &Value) -> Option<&str> {
    let entry = &logged["entry"];
    (entry["outcome"] == "granted").then(|| entry["request_id"].as_str()).flatten()
}
