//! Pull, verify and unpack of an image of several layers from a registry on loopback: this repository's engine, skopeo
//! with umoci, and containerd, in turns and into the same file system. gzip and zstd, plain and encrypted; throughput,
//! ratios, processor time, and the peak memory of each.
//!
//! `cargo bench -p cocoon-benches --bench images [-- ROUNDS]`, as root. Needs `docker-registry`; peers that are not
//! installed are left out. `COCOON_BENCH_MIB` is the image's size (560), `COCOON_BENCH_DIR` where all of it lies (the
//! folder for temporary files).
//!
//! The program runs itself as the pull under test, so that its memory is its own. Encrypted layers are wrapped twice,
//! for this engine's key packets and for a JWE recipient, so that skopeo opens the very same blobs.

#[path = "images/ours.rs"]
mod ours;
#[path = "images/peers.rs"]
mod peers;
#[path = "images/watch.rs"]
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cocoon_benches::content::{self, Random, Tar};
use cocoon_benches::push::{Image, Packing, Pusher};
use cocoon_benches::{load, place};
use cocoon_tests::Registry;

use crate::peers::{Containerd, Opener};
use crate::watch::Run;

/// The image's size in MiB where nothing else is said.
const FULL: u64 = 560;
/// The most that the engine's heap may have, in MiB.
const HEAP_GOAL: u64 = 64;

fn main() -> Result<()> {
    // `cargo bench` adds a flag of its own.
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    match arguments.next().as_deref() {
        Some(ours::MODE) => ours::child(arguments.collect()),
        first => {
            let rounds = first.and_then(|n| n.parse().ok()).unwrap_or(3);
            compare(rounds)
        }
    }
}

/// Who pulls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Cocoon,
    Skopeo,
    Containerd,
}

impl Way {
    const ALL: [Way; 3] = [Way::Cocoon, Way::Skopeo, Way::Containerd];

    fn name(self, containerd: Option<&Containerd>) -> String {
        match self {
            Way::Cocoon => "cocoon".to_owned(),
            Way::Skopeo => "skopeo copy + umoci unpack".to_owned(),
            Way::Containerd => {
                format!("containerd, {}", containerd.map_or("absent", |c| c.snapshotter))
            }
        }
    }

    /// Why it cannot pull such an image; empty where it can.
    fn unable(self, image: &Image) -> &'static str {
        match (self, image.encrypted, image.packing) {
            (Way::Skopeo, _, Packing::Zstd) => "umoci does not read zstd",
            (Way::Containerd, true, _) => "its own client gives no keys to decryption",
            _ => "",
        }
    }
}

fn compare(rounds: usize) -> Result<()> {
    let work = tempfile::Builder::new().prefix("cocoon-bench-").tempdir_in(place())?;
    let target = tempfile::Builder::new().prefix("cocoon-bench-").tempdir_in(place())?;
    let registry = Registry::start()?;
    let opener = Opener::new(work.path()).inspect_err(|e| println!("no JWE key: {e:#}")).ok();
    let images = push(work.path(), &registry, opener.as_ref())?;
    println!("{rounds} rounds in turn, unpacked in {}; {}", place().display(), load());
    let containerd = Containerd::start(work.path(), target.path(), images.first())
        .inspect_err(|e| println!("containerd is left out: {e:#}"))
        .ok();
    let mut missed = Vec::new();
    for image in &images {
        println!(
            "\n{}{}: {} layers, {} MiB packed, {} MiB unpacked",
            image.packing.name(),
            if image.encrypted { ", encrypted" } else { "" },
            image.layers,
            image.packed >> 20,
            image.unpacked >> 20
        );
        missed.extend(one_image(
            image,
            &target.path().join("t"),
            opener.as_ref(),
            containerd.as_ref(),
            rounds,
        )?);
    }
    println!("\n{}", load());
    match missed.as_slice() {
        [] => println!("goals met: faster than each peer that there is, heap at most {HEAP_GOAL} MiB"),
        missed => println!("GOALS MISSED: {}", missed.join("; ")),
    }
    Ok(())
}

/// The image in five layers, in each way of packing.
fn push(work: &Path, registry: &Registry, opener: Option<&Opener>) -> Result<Vec<Image>> {
    let mib = content::mib(FULL);
    let mut random = Random::default();
    let mut tars: Vec<PathBuf> = Vec::new();
    for layer in ["programs", "text", "noise", "small", "changes"] {
        let mut tar = Tar::create(&work.join(layer))?;
        match layer {
            "programs" => tar.programs(mib * 60 / 100, &mut random)?,
            "text" => tar.text(mib * 18 / 100, &mut random)?,
            "noise" => tar.noise(mib * 12 / 100, &mut random)?,
            "small" => tar.small(mib * 10 / 100, &mut random)?,
            _ => {
                tar.file("srv/text/.wh.0.txt", 0o644, b"")?;
                tar.file("srv/text/1.txt", 0o644, b"changed\n")?;
            }
        }
        tars.push(tar.finish()?);
    }
    let pusher = Pusher::new(registry, work)?;
    let recipient = opener.map(|o| &o.recipient);
    let mut images = Vec::new();
    for packing in [Packing::Gzip, Packing::Zstd] {
        images.extend(pusher.push("bench", &tars, packing, &[], Some(recipient))?);
    }
    for tar in tars {
        std::fs::remove_file(tar)?;
    }
    Ok(images)
}

/// Rounds of all that can pull it, and what they took; gives the goals that were missed.
fn one_image(
    image: &Image,
    target: &Path,
    opener: Option<&Opener>,
    containerd: Option<&Containerd>,
    rounds: usize,
) -> Result<Vec<String>> {
    let mut runs: Vec<(Way, Vec<Run>)> = Vec::new();
    for way in Way::ALL {
        match way.unable(image) {
            "" => runs.push((way, Vec::new())),
            why => println!("{:<28} no peer here: {why}", way.name(containerd)),
        }
    }
    let mut failed: Vec<Way> = Vec::new();
    for _ in 0..rounds {
        for (way, runs) in &mut runs {
            if failed.contains(way) {
                continue;
            }
            std::fs::create_dir(target).context("the target")?;
            // Nobody waits for what the one before left unwritten.
            rustix::fs::sync();
            let run = match way {
                Way::Cocoon => ours::run(image, target).map(Some),
                Way::Skopeo => peers::skopeo(image, target, opener).map(Some),
                Way::Containerd => containerd.map(|c| c.pull(image)).transpose(),
            };
            cocoon_image::remove_tree(target)?;
            match run {
                Ok(run) => runs.extend(run),
                Err(e) if *way == Way::Cocoon => return Err(e),
                Err(e) => {
                    println!("{:<28} fails: {e:#}", way.name(containerd));
                    failed.push(*way);
                }
            }
        }
    }
    let what = format!("{}{}", image.packing.name(), if image.encrypted { ", encrypted" } else { "" });
    let ours = runs.first().and_then(|(_, runs)| watch::median(runs)).context("a round")?;
    let mut missed = Vec::new();
    println!(
        "{:<28} {:>8} {:>18} {:>8} {:>8} {:>10} {:>8}",
        "", "MiB/s", "(range)", "s", "CPU s", "x ours", "RSS MiB"
    );
    for (way, runs) in &runs {
        let Some(median) = watch::median(runs) else { continue };
        let rate = |seconds: f64| image.unpacked as f64 / content::MIB as f64 / seconds;
        let (slowest, fastest) = watch::range(runs);
        let peak = |of: fn(&Run) -> u64| runs.iter().map(of).max().unwrap_or(0) / 1024;
        let ratio = median.seconds / ours.seconds;
        println!(
            "{:<28} {:>8.1} {:>18} {:>8.2} {:>8.2} {ratio:>10.2} {:>8}",
            way.name(containerd),
            rate(median.seconds),
            format!("({:.1} to {:.1})", rate(slowest), rate(fastest)),
            median.seconds,
            median.processor,
            peak(|r| r.peak_kib),
        );
        if *way != Way::Cocoon {
            if ratio < 1.0 {
                missed.push(format!("{what}: {} is faster", way.name(containerd)));
            }
            continue;
        }
        let heap = peak(|r| r.anonymous_kib);
        println!("{:<28} heap and stacks at most {heap} MiB (goal {HEAP_GOAL})", "");
        if heap > HEAP_GOAL {
            missed.push(format!("{what}: {heap} MiB of heap"));
        }
    }
    Ok(missed)
}
