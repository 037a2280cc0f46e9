//! What guests cost a served Trustee, over TLS on loopback with kept connections: processor time of its process for a
//! handshake and for a secret, the spread of latencies under 16 clients, and memory after many handshakes.
//!
//! Prints, asserts nothing: machines differ. The clients run in this process, so Trustee's share is its own.
#![allow(missing_docs)]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cocoon_tests::{Attester, Guest, Served, TrusteeHome, token};
use serde_json::json;
use tokio::task::JoinSet;

const PATH: &str = "bench/key/one";
const ROUNDS: u32 = 2000;
const CLIENTS: u32 = 16;
/// Goals: milliseconds of processor time for a handshake with one secret and for a secret alone; p99 over p50.
const GOAL_HANDSHAKE: f64 = 0.4;
const GOAL_GET: f64 = 0.10;
const GOAL_SPREAD: f64 = 5.0;
/// Kernel's unit of processor times towards programs: a hundredth of a second on every architecture.
const TICK: Duration = Duration::from_millis(10);

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let home = TrusteeHome::open()?.context("COCOON_BIN names no program; use `make bench`")?;
    let simulated = Attester::Simulated(Arc::new(home.processor()?), None);
    home.settings("[attestation]\naccept_sample = true\naccept_simulated = true\n")?;
    let trustee = home.start()?;
    let admin = trustee.admin()?;
    for attester in [&Attester::Sample, &simulated] {
        let values = json!({"source": "bench", "values": attester.reference_values()});
        admin.put("/cocoon/v0/reference-values", values.to_string()).await?;
    }
    let rule = json!({"workload": "any", "path": "bench/*/*", "accept_simulated": true});
    admin.put("/cocoon/v0/rules/bench", rule.to_string()).await?;
    admin.put(&format!("/cocoon/v0/secrets/{PATH}"), vec![7; 32]).await?;

    for (name, attester) in [("sample", &Attester::Sample), ("simulated SNP", &simulated)] {
        let guest = Guest::of(&trustee, attester)?;
        for _ in 0..200 {
            handshake(&guest).await?;
        }
        let before = cpu(&trustee)?;
        for _ in 0..ROUNDS {
            handshake(&guest).await?;
        }
        told(&format!("{name}: handshake and a secret"), cpu(&trustee)? - before, GOAL_HANDSHAKE);
    }
    let guest = Guest::of(&trustee, &Attester::Sample)?;
    let answer = guest.begin().await?;
    let token = token(&guest.attest(&answer).await?)?;
    let before = cpu(&trustee)?;
    for _ in 0..ROUNDS {
        guest.resource(&token, PATH).await?.succeeded()?;
    }
    told("a secret alone", cpu(&trustee)? - before, GOAL_GET);

    let begun = Instant::now();
    let before = cpu(&trustee)?;
    let times = at_once(&trustee, ROUNDS / CLIENTS).await?;
    let (took, spent) = (begun.elapsed(), cpu(&trustee)? - before);
    let (p50, p99) = (percentile(&times, 50)?, percentile(&times, 99)?);
    println!(
        "{CLIENTS} clients: p50 {:.2} ms, p99 {:.2} ms, p99/p50 {:.1} (goal {GOAL_SPREAD}); {:.0} handshakes/s, \
         {:.3} ms of processor time each",
        millis(p50),
        millis(p99),
        millis(p99) / millis(p50),
        times.len() as f64 / took.as_secs_f64(),
        millis(spent) / times.len() as f64
    );

    let many = std::env::var("COCOON_BENCH_HANDSHAKES").ok().and_then(|n| n.parse().ok()).unwrap_or(5000);
    let before = resident(&trustee)?;
    let begun = Instant::now();
    at_once(&trustee, many / CLIENTS).await?;
    let after = resident(&trustee)?;
    println!(
        "memory: {before} KiB before, {after} KiB after {many} handshakes, {:.2}×; {:.0} handshakes/s",
        f64::from(after) / f64::from(before),
        f64::from(many) / begun.elapsed().as_secs_f64()
    );
    trustee.stop()?;
    Ok(())
}

/// The whole handshake and one secret.
async fn handshake(guest: &Guest) -> Result<()> {
    let answer = guest.begin().await?;
    let token = token(&guest.attest(&answer).await?)?;
    answer.open(guest.resource(&token, PATH).await?)?;
    Ok(())
}

/// How long each of so many handshakes of each of the clients took, sorted.
async fn at_once(trustee: &Served, each: u32) -> Result<Vec<Duration>> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let guest = Guest::of(trustee, &Attester::Sample)?;
        clients.spawn(async move {
            // The connection is made before the clock runs.
            handshake(&guest).await?;
            let mut times = Vec::new();
            for _ in 0..each {
                let begun = Instant::now();
                handshake(&guest).await?;
                times.push(begun.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = clients.join_next().await {
        all.extend(times??);
    }
    all.sort();
    Ok(all)
}

fn told(what: &str, spent: Duration, goal: f64) {
    let each = millis(spent) / f64::from(ROUNDS);
    println!("{what}: {each:.3} ms of Trustee's processor time, {:.2} of the goal of {goal} ms", each / goal);
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn percentile(sorted: &[Duration], percent: usize) -> Result<Duration> {
    sorted.get(sorted.len() * percent / 100).copied().context("no handshakes")
}

/// Processor time that Trustee's process has used so far (proc(5), `stat`: utime and stime).
fn cpu(trustee: &Served) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", trustee.pid()))?;
    // The name before may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("stat has no name")?;
    let ticks: u32 = fields.split(' ').skip(11).take(2).filter_map(|f| f.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}

/// Resident memory in KiB.
fn resident(trustee: &Served) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{}/status", trustee.pid()))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
