//! What reading evidence costs in memory: no more than a small multiple of the evidence, whatever it promises, and no stack
//! that grows with it. Every parser of hostile bytes has its line in [`readers`].

// An allocator is unsafe to implement; this one counts and hands on.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;

use cocoon_evidence::{cca, sample, snp, x509};
use serde_json::{Value, json};

/// At most so many bytes are held at a time for each byte of input, beside [`SLACK`].
const MOST_HELD: usize = 64;
/// At most so many bytes are allocated in all for each byte of input: what is grown is counted again at each step.
const MOST_TOTAL: usize = 128;
/// The same for who reads JSON text itself: `serde_json` takes 72 bytes for a number of two digits, three times while its
/// array grows. What bounds it is the limit on the text.
const JSON_TEXT: usize = 4;
/// For the error text and what is small and fixed.
const SLACK: usize = 4096;
/// Stack of the thread that reads: a quarter of what a server's threads have.
const STACK: usize = 512 * 1024;

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

fn count(grown: isize) {
    // A thread's end also frees; its counters are gone by then.
    let held = HELD.try_with(|held| {
        held.set(held.get() + grown);
        held.get()
    });
    if let Ok(held) = held {
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held)));
    }
    if let Ok(grown) = usize::try_from(grown) {
        let _ = TOTAL.try_with(|total| total.set(total.get() + grown));
    }
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The worst case: both are held while the old is copied.
        count(size as isize);
        count(-(layout.size() as isize));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes held at a time, and all that were allocated, while `read` ran.
fn measure(read: impl FnOnce() -> bool) -> (usize, usize, bool) {
    let before = HELD.get();
    PEAK.set(before);
    TOTAL.set(0);
    let accepted = read();
    ((PEAK.get() - before).unsigned_abs(), TOTAL.get(), accepted)
}

/// A parser, and what it reads.
#[derive(Clone, Copy)]
enum Read {
    Bytes(fn(&[u8]) -> bool),
    /// JSON text; its value is made and measured too.
    Text(fn(&[u8]) -> bool),
    /// A JSON value, which others have made from the text.
    Json(fn(&Value) -> bool),
}

impl Read {
    /// Most bytes held at a time, all that were allocated, and whether the input is accepted.
    fn measure(self, bytes: &[u8]) -> (usize, usize, bool) {
        match self {
            Read::Bytes(read) | Read::Text(read) => measure(|| read(bytes)),
            Read::Json(read) => match serde_json::from_slice(bytes) {
                Ok(value) => measure(|| read(&value)),
                Err(_) => (0, 0, false),
            },
        }
    }

    fn factor(self) -> usize {
        if matches!(self, Read::Text(_)) { JSON_TEXT } else { 1 }
    }
}

/// Every public parser: its name, an example that it accepts (a vector, or made here), and itself.
fn readers() -> Vec<(&'static str, Option<Vec<u8>>, Read)> {
    let token = "cca/cca-example-token.cbor";
    let sample = json!({ "svn": "1", "report_data": "AAAA" });
    vec![
        ("snp report", vector("snp/test-report.bin"), Read::Bytes(|b| snp::Report::parse(b).is_ok())),
        (
            "snp evidence, text",
            vector("snp/genoa-v3-evidence.json"),
            Read::Text(|b| snp::Evidence::parse(b).is_ok()),
        ),
        (
            "snp evidence",
            vector("snp/genoa-v3-evidence.json"),
            Read::Json(|v| snp::Evidence::from_json(v).is_ok()),
        ),
        ("cca token", vector(token), Read::Bytes(|b| cca::Evidence::parse(b.to_vec()).is_ok())),
        ("cca evidence", vector(token).map(cca_json), Read::Json(|v| cca::Evidence::from_json(v).is_ok())),
        (
            "cca trust anchors",
            vector("cca/tastore.json"),
            Read::Json(|v| cca::Store::from_json(v, &json!({})).is_ok()),
        ),
        (
            "cca reference values",
            vector("cca/rvstore.json"),
            Read::Json(|v| cca::Store::from_json(&json!([]), v).is_ok()),
        ),
        (
            "x509 certificate",
            vector("snp/test-vcek.der"),
            Read::Bytes(|b| x509::Certificate::parse(b).is_ok()),
        ),
        ("x509 revocation list", None, Read::Bytes(|b| x509::Crl::parse(b).is_ok())),
        (
            "sample evidence",
            Some(sample.to_string().into_bytes()),
            Read::Json(|v| sample::Evidence::from_json(v).is_ok()),
        ),
    ]
}

fn cca_json(token: Vec<u8>) -> Vec<u8> {
    json!({ "token": token }).to_string().into_bytes()
}

/// A test vector, or `None` (and a note) where the vectors are not at hand.
fn vector(name: &str) -> Option<Vec<u8>> {
    let base = std::env::var_os("COCOON_VECTORS").map(PathBuf::from);
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors"));
    let path = base.unwrap_or_else(default).join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}

/// Reads `bytes` on a thread with a small stack and asserts the bounds.
fn bounded(name: &str, case: &str, bytes: &[u8], read: Read) -> (usize, usize, bool) {
    let run = || {
        let (_, _, first) = read.measure(bytes);
        let (held, total, accepted) = read.measure(bytes);
        assert_eq!(first, accepted, "{name}, {case}: a parser has no memory");
        (held, total, accepted)
    };
    let (held, total, accepted) = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name(format!("{name}: {case}")).stack_size(STACK);
        builder.spawn_scoped(scope, run).unwrap().join().unwrap()
    });
    let input = bytes.len() * read.factor();
    assert!(held <= MOST_HELD * input + SLACK, "{name}, {case}: {held} bytes held for {}", bytes.len());
    assert!(total <= MOST_TOTAL * input + SLACK, "{name}, {case}: {total} bytes for {}", bytes.len());
    (held, total, accepted)
}

#[test]
fn the_counter_counts() {
    let (held, total, _) = measure(|| {
        let one = vec![0u8; 1000];
        drop(std::hint::black_box(one));
        let two = vec![0u8; 500];
        std::hint::black_box(&two);
        true
    });
    assert_eq!((held, total), (1000, 1500));
}

#[test]
fn what_is_genuine_costs_a_multiple_of_its_size() {
    for (name, example, read) in readers() {
        let Some(example) = example else { continue };
        let (held, total, accepted) = bounded(name, "genuine", &example, read);
        assert!(accepted, "{name}");
        let size = example.len();
        println!(
            "{name}: {size} bytes; {held} held at most ({}x), {total} allocated in all ({}x)",
            held.div_ceil(size),
            total.div_ceil(size)
        );
    }
}

/// Bytes that promise more than they hold, nest without end, or say the same twice.
fn hostile() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| cases.push((name.to_owned(), bytes));
    // CBOR: with and without the token's tag before it, just below and far beyond the token's limit.
    for (limit, size) in [("below", 60_000), ("beyond", 100_000)] {
        for (what, byte) in [("tags", 0xc1), ("arrays", 0x81), ("maps", 0xa1), ("indefinite arrays", 0x9f)] {
            let nested = vec![byte; size];
            add(&format!("{what}, {limit} the limit"), nested.clone());
            add(&format!("tagged {what}, {limit} the limit"), [&[0xd9, 1, 0x8f][..], &nested].concat());
        }
    }
    let lengths: [&[u8]; 6] = [
        &[0x1a, 0xff, 0xff, 0xff, 0xff],
        &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x1b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0x19, 0xff, 0xff],
        &[0x1f],
    ];
    for major in 0..8u8 {
        for length in lengths {
            let head: Vec<u8> =
                length.iter().enumerate().map(|(i, b)| if i == 0 { b | major << 5 } else { *b }).collect();
            let name = format!("major type {major} of length {}", length.len());
            add(&name, head.clone());
            add(&format!("{name}, tagged"), [&[0xd9, 1, 0x8f][..], &head].concat());
            // As the value of the platform token, and as the items of a COSE_Sign1 in it.
            add(
                &format!("{name}, in the collection"),
                [&[0xd9, 1, 0x8f, 0xa2, 0x19, 0xac, 0xca][..], &head].concat(),
            );
            let inner = [&[0xd2, 0x84][..], &head].concat();
            let mut token =
                vec![0xd9, 1, 0x8f, 0xa2, 0x19, 0xac, 0xca, 0x58, u8::try_from(inner.len()).unwrap()];
            token.extend(inner);
            token.extend([0x19, 0xac, 0xd1, 0x41, 0]);
            add(&format!("{name}, in a COSE_Sign1"), token);
        }
    }
    add("a bignum", [&[0xd9, 1, 0x8f, 0xa1, 0xc2, 0x59, 0xea, 0x60][..], &vec![0xff; 60_000]].concat());
    add("floats", [&[0xd9, 1, 0x8f, 0xa2][..], &[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 1].repeat(4)].concat());
    add(
        "the same key often",
        [&[0xd9, 1, 0x8f, 0xa2][..], &[0x19, 0xac, 0xca, 0x40].repeat(15_000)].concat(),
    );
    add("zeros", vec![0; 200_000]);
    add("ones", vec![0xff; 200_000]);
    // JSON.
    add("brackets", vec![b'['; 100_000]);
    add("braces", b"{\"a\":".repeat(20_000));
    for name in ["token", "cert_chain", "attestation_report", "svn", "platform"] {
        let array = |item: &str| format!("{{\"{name}\":[{}]}}", vec![item; 100_000].join(",")).into_bytes();
        add(&format!("a long {name}"), array("0"));
        add(&format!("a long {name} of nulls"), array("null"));
        add(&format!("a long {name} of objects"), array("{}"));
    }
    add("a huge number", [&b"{\"token\":"[..], &[b'9'; 100_000], b"}"].concat());
    add("many members", {
        let members: Vec<String> = (0..20_000).map(|i| format!("\"{i}\":{i}")).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    });
    // DER: lengths that promise 4 GiB, and SEQUENCEs without end.
    add("a long SEQUENCE", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]);
    add("nested SEQUENCEs", [0x30, 0x80].repeat(5000));
    add("nested definite SEQUENCEs", {
        let mut der = Vec::new();
        for _ in 0..4000 {
            let [.., high, low] = der.len().to_be_bytes();
            der.splice(0..0, [0x30, 0x82, high, low]);
        }
        der
    });
    cases
}

#[test]
fn what_is_hostile_costs_no_more() {
    let (mut worst, mut runs) = ((0, String::new()), 0);
    let cases = hostile();
    for (name, _, read) in readers() {
        for (case, bytes) in &cases {
            let (held, _, accepted) = bounded(name, case, bytes, read);
            assert!(!accepted, "{name}: {case}");
            let ratio = held.saturating_sub(SLACK) / bytes.len();
            worst = worst
                .max((ratio / read.factor(), format!("{name}, {case}: {held} bytes for {}", bytes.len())));
            runs += 1;
        }
    }
    println!("{runs} readings; the dearest: {}", worst.1);
}

/// Genuine evidence cut off, at many lengths: what was promised before the cut must not have been reserved.
#[test]
fn what_is_cut_off_costs_no_more() {
    for (name, example, read) in readers() {
        let Some(example) = example else { continue };
        for length in (0..example.len()).step_by(example.len() / 40 + 1) {
            let (_, _, accepted) = bounded(name, "cut off", &example[..length], read);
            assert!(!accepted, "{name} at {length}");
        }
    }
}
