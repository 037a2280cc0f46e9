//! What verifying evidence costs: time per verification, bytes allocated, and how the two compare with bare cryptography.
//!
//! `cargo bench -p cocoon-benches --bench evidence`. Needs the test vectors; those that are not there are left out.
#![allow(clippy::expect_used, reason = "a bench ends where its vectors are not what they were")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::eventlog::{Algorithm, EventLog};
use cocoon_evidence::snp::{self, ChainCache, Roots, Rules};
use cocoon_evidence::{Evidence, Expectation, Trust, Verifier, cca, dcap};

/// Counts what is asked of the system's allocator.
struct Counting;

static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// 2025-06-25: within the validity of every vector.
const NOW: u64 = 1_750_809_600;

fn vector(name: &str) -> Option<Vec<u8>> {
    let base = std::env::var_os("COCOON_VECTORS").map(PathBuf::from);
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors"));
    let path = base.unwrap_or_else(default).join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("left out: no vector {name}");
    }
    bytes
}

/// The median of many runs, and the bytes of one.
fn measure(name: &str, goal: Option<f64>, mut work: impl FnMut()) -> Duration {
    work();
    let before = BYTES.load(Ordering::Relaxed);
    work();
    let bytes = BYTES.load(Ordering::Relaxed) - before;
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < 2000 && begun.elapsed() < Duration::from_secs(3) {
        let start = Instant::now();
        work();
        times.push(start.elapsed());
    }
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let ms = median.as_secs_f64() * 1e3;
    let of_goal = goal.map_or(String::new(), |goal| format!("  {:.2} of the goal of {goal} ms", ms / goal));
    println!("{name:<44} {ms:>9.4} ms  {bytes:>8} bytes allocated{of_goal}");
    median
}

fn expectation(report_data: &[u8]) -> Expectation<'_> {
    Expectation { report_data: Some(report_data), init_data_digest: None, now_unix: NOW }
}

fn main() {
    snp_reports();
    quotes();
    event_logs();
    others();
}

fn snp_reports() {
    let Some(text) = vector("snp/genoa-v3-evidence.json") else { return };
    let evidence = snp::Evidence::parse(&text).expect("the vector");
    let data = evidence.report.report_data;
    let (roots, rules, none) = (Roots::default(), Rules::default(), Collateral::none());
    measure("SNP: read the JSON (6.7 kB)", None, || drop(black_box(snp::Evidence::parse(black_box(&text)))));
    let uncached = measure("SNP: verify, chain not seen before", Some(0.35), || {
        assert!(snp::verify(&evidence, &roots, &rules, &none, &expectation(&data)).ok());
    });
    let cache = ChainCache::new(4);
    let cached = measure("SNP: verify, chain remembered", Some(0.2), || {
        assert!(snp::verify_cached(&evidence, &roots, &rules, &none, &expectation(&data), &cache).ok());
    });
    println!("{:<44} {:>9.2} times", "SNP: uncached to cached", ratio(uncached, cached));
}

fn quotes() {
    for (name, quote, collateral) in [
        ("TDX", "tdx/tdx_quote", "tdx/tdx_quote_collateral.json"),
        ("SGX", "sgx/sgx_quote", "sgx/sgx_quote_collateral.json"),
    ] {
        let (Some(quote), Some(json)) = (vector(quote), vector(collateral)) else { continue };
        let json = serde_json::from_slice(&json).expect("the vector");
        let parsed = dcap::Quote::parse(&quote).expect("the vector");
        let collateral = dcap::quote_collateral(&json, &parsed).expect("the vector");
        let evidence = Evidence::detect(&quote).expect("the vector");
        let data = *parsed.report_data();
        let once = |verifier: &Verifier| {
            let verified = verifier.verify(&evidence, &collateral, &expectation(&data), &[]);
            assert!(verified.expect("evidence").iter().all(|v| v.verdict.ok()));
        };
        let cold = measure(&format!("{name}: verify, nothing seen before"), None, || {
            once(&Verifier::new(Trust::default()));
        });
        let verifier = Verifier::new(Trust::default());
        let goal = (name == "TDX").then_some(1.0);
        let warm =
            measure(&format!("{name}: verify, platform and collateral seen"), goal, || once(&verifier));
        println!("{:<44} {:>9.2} times", format!("{name}: first to later"), ratio(cold, warm));
    }
}

fn event_logs() {
    let Some(bytes) = vector("eventlog/CCEL_data_grub") else { return };
    let log = EventLog::parse(&bytes).expect("the vector");
    measure("event log of 64 KiB: read and replay", Some(1.0), || {
        let log = EventLog::parse(black_box(&bytes)).expect("the vector");
        drop(black_box(log.replay(Algorithm::Sha384)));
    });
    measure("event log of 64 KiB: claims", None, || drop(black_box(log.claims(Algorithm::Sha384))));
}

fn others() {
    let trust = || {
        let json = |name| vector(name).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (anchors, references) = (json("cca/tastore.json")?, json("cca/rvstore.json")?);
        let store = cca::Store::from_json(&anchors, &references).ok()?;
        Some(Trust { cca: std::sync::Arc::new(store), ..Trust::default() })
    };
    let verifier = Verifier::new(trust().unwrap_or_default());
    for (name, file) in [
        ("Azure SNP vTPM, version 2", "az-snp-vtpm/evidence-v2.json"),
        ("Arm CCA token", "cca/cca-example-token.cbor"),
        ("TPM quote (its key trusted by nobody)", "tpm/tpm_evidence.json"),
        ("Hygon CSV (HSK and CEK missing)", "csv/csv_evidence.json"),
    ] {
        let Some(bytes) = vector(file) else { continue };
        let evidence = Evidence::detect(&bytes).expect("the vector");
        let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: NOW };
        measure(name, None, || {
            drop(black_box(verifier.verify(&evidence, &Collateral::none(), &expectation, &[])));
        });
    }
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64().max(1e-9)
}
