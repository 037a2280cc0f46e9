//! Time to the first byte of a container whose image is large, with layers that the node shares: for the first pod on
//! a node, for the second, and for an image with next to nothing in it; and, for contrast, with the guest pulling.
//!
//! `cargo bench -p cocoon-benches --bench layers [-- ROUNDS]`, with `COCOON_BIN` and `COCOON_GUEST_IMAGE` as
//! `make bench` sets them. `COCOON_BENCH_MIB` is the image's size (1024), `COCOON_BENCH_DIR` where all of it lies.
//!
//! The time is taken in this process, from the start of `cocoon run` until its standard output has the container's
//! word. Emulated (`tcg`), so that it runs anywhere; what the host does is not emulated.

#[path = "layers/conversion.rs"]
mod conversion;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use cocoon_benches::content::{self, Random, Tar};
use cocoon_benches::push::{Image, Packing, Pusher};
use cocoon_benches::{first_output, load, median, place, spread};
use cocoon_stage::{Stage, Timeline};
use cocoon_tests::{Registry, cocoon_program, guest_image};
use serde_json::Value;

const MARK: &str = "first-byte";
/// The large image's size in MiB where nothing else is said.
const FULL: u64 = 1024;
/// How much longer the second pod may take than one with an empty image.
const GOAL: f64 = 1.10;
/// Of first pods, no more rounds than this.
const FIRST_ROUNDS: usize = 3;

fn main() -> Result<()> {
    // `cargo bench` adds a flag of its own.
    let rounds = std::env::args().skip(1).find_map(|n| n.parse().ok()).unwrap_or(7);
    let work = tempfile::Builder::new().prefix("cocoon-bench-").tempdir_in(place())?;
    let registry = Registry::start()?;
    let (small, big) = push(work.path(), &registry)?;
    println!(
        "the image: {} layers, {} MiB packed (gzip), {} MiB unpacked; {}",
        big.layers,
        big.packed >> 20,
        big.unpacked >> 20,
        load()
    );
    conversion::measure(&big, work.path())?;
    pods(work.path(), &small, &big, rounds)?;
    println!("{}", load());
    Ok(())
}

/// busybox alone, and busybox below a layer of everything.
fn push(work: &Path, registry: &Registry) -> Result<(Image, Image)> {
    let mib = content::mib(FULL);
    let mut random = Random::default();
    let mut base = Tar::create(&work.join("base.tar"))?;
    base.busybox()?;
    let base = base.finish()?;
    let mut data = Tar::create(&work.join("data.tar"))?;
    data.programs(mib * 50 / 100, &mut random)?;
    data.text(mib * 20 / 100, &mut random)?;
    data.noise(mib * 20 / 100, &mut random)?;
    data.small(mib * 10 / 100, &mut random)?;
    let data = data.finish()?;
    let pusher = Pusher::new(registry, work)?;
    let push = |name, tars: &[PathBuf]| {
        let images = pusher.push(name, tars, Packing::Gzip, &["echo", MARK], None)?;
        images.into_iter().next().context("an image")
    };
    let images = (push("small", std::slice::from_ref(&base))?, push("big", &[base.clone(), data.clone()])?);
    std::fs::remove_file(base)?;
    std::fs::remove_file(data)?;
    Ok(images)
}

/// What was seen of one way to run a container.
#[derive(Default)]
struct Seen {
    first_byte: Vec<Duration>,
    stages: BTreeMap<Stage, Vec<Duration>>,
}

/// `cocoon run` of this machine, with folders of its own.
struct Node<'a> {
    cocoon: PathBuf,
    guest_image: PathBuf,
    work: &'a Path,
    seen: BTreeMap<&'static str, Seen>,
}

impl Node<'_> {
    fn data(&self) -> PathBuf {
        self.work.join("data")
    }

    fn command(&self, image: &Image, flags: &[&str]) -> Command {
        let mut run = Command::new(&self.cocoon);
        run.args(["run", "--accel", "tcg", "--platform", "sim", "--json", "--timings"]).args(flags);
        run.arg(&image.reference);
        run.env("COCOON_DATA_DIR", self.data()).env("COCOON_GUEST_IMAGE", &self.guest_image);
        run.env("XDG_RUNTIME_DIR", self.work);
        run
    }

    /// Runs it, and keeps what was seen under `name`.
    fn run(&mut self, name: &'static str, image: &Image, flags: &[&str]) -> Result<()> {
        // Nobody waits for what the one before left unwritten.
        rustix::fs::sync();
        let first = first_output(&mut self.command(image, flags), MARK.as_bytes())?;
        let seen = self.seen.entry(name).or_default();
        seen.first_byte.push(first.after);
        let timeline = timeline(&first.errors).context("no timings")?;
        for stage in Stage::ALL {
            if let Some((begin, end)) = timeline.span(stage) {
                seen.stages.entry(stage).or_default().push(end.saturating_sub(begin));
            }
        }
        Ok(())
    }

    /// The node, or its owner too, has never seen a layer.
    fn forget(&self, folders: &[&str]) -> Result<()> {
        for folder in folders {
            let path = self.data().join(folder);
            if path.exists() {
                std::fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    fn show(&self, name: &str) {
        let Some(seen) = self.seen.get(name) else { return };
        println!("{name:<36} {}", spread(&seen.first_byte));
        let stages: Vec<String> =
            seen.stages.iter().map(|(stage, took)| format!("{stage} {}", median(took).as_millis())).collect();
        println!("{:<36}   {}", "", stages.join(", "));
    }

    /// Of two medians.
    fn ratio(&self, a: &str, b: &str) -> f64 {
        let of = |name| self.seen.get(name).map_or(0.0, |seen| median(&seen.first_byte).as_secs_f64());
        of(a) / of(b).max(1e-9)
    }
}

/// The timeline among what `cocoon run --json --timings` says.
fn timeline(words: &str) -> Option<Timeline> {
    let lines = words.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let mut timings = lines.filter(|v| v.get("type").is_some_and(|t| t == "timings"));
    serde_json::from_value(timings.next()?.get("timeline")?.clone()).ok()
}

const EMPTY: &str = "an empty image, shared layers";
const EMPTY_GUEST: &str = "an empty image, the guest pulls";
const FIRST: &str = "first pod, roots not known either";
const KNOWN: &str = "first pod on the node, roots known";
const SECOND: &str = "second pod";
const GUEST: &str = "the guest pulls";

fn pods(work: &Path, small: &Image, big: &Image, rounds: usize) -> Result<()> {
    let cocoon = cocoon_program().context("COCOON_BIN names no program; use `make bench`")?;
    let guest_image = guest_image().context("COCOON_GUEST_IMAGE names no guest image; use `make bench`")?;
    let mut node = Node { cocoon, guest_image, work, seen: BTreeMap::new() };
    // The first run makes the simulated processor's keys; it is not counted.
    first_output(&mut node.command(small, &["--layers", "shared"]), MARK.as_bytes())?;
    let memory = format!("{}M", (big.unpacked >> 20) * 2 + 1024);
    for round in 0..rounds {
        if round < FIRST_ROUNDS {
            node.forget(&["layers"])?;
            node.forget(&["roots"])?;
            node.run(FIRST, big, &["--layers", "shared"])?;
            node.forget(&["layers"])?;
            node.run(KNOWN, big, &["--layers", "shared"])?;
        }
        // Its only layer is one of the large image's, so the node has it.
        node.run(EMPTY, small, &["--layers", "shared"])?;
        node.run(SECOND, big, &["--layers", "shared"])?;
        node.run(EMPTY_GUEST, small, &["--layers", "guest"])?;
    }
    // Once: it takes minutes where the guest is emulated.
    node.run(GUEST, big, &["--layers", "guest", "--memory", &memory])?;
    show(&node);
    // Once: it takes minutes where the guest is emulated.
    node.run(GUEST, big, &["--layers", "guest", "--memory", &memory])?;
    node.show(GUEST);
    println!("guest pulling over second pod: {:.2}", node.ratio(GUEST, SECOND));
    Ok(())
}

fn show(node: &Node<'_>) {
    let rounds = node.seen.get(SECOND).map_or(0, |seen| seen.first_byte.len());
    println!("\ntime to the container's first byte, up to {rounds} rounds in turn; stages: medians in ms");
    for name in [EMPTY, EMPTY_GUEST, SECOND, KNOWN, FIRST] {
        node.show(name);
    }
    let (Some(empty), Some(second)) = (node.seen.get(EMPTY), node.seen.get(SECOND)) else { return };
    let pairs: Vec<f64> = second
        .first_byte
        .iter()
        .zip(&empty.first_byte)
        .map(|(second, empty)| second.as_secs_f64() / empty.as_secs_f64())
        .collect();
    let overall = node.ratio(SECOND, EMPTY);
    let verdict = if overall <= GOAL { "met" } else { "MISSED" };
    println!("second pod over empty image: ratio of the medians {overall:.3}, pair by pair {pairs:.3?}");
    println!("goal {GOAL}: {verdict}");
    let (first, known) = (node.ratio(FIRST, EMPTY), node.ratio(KNOWN, EMPTY));
    println!("first pod over empty image: {first:.2}, with known roots {known:.2}");
}
