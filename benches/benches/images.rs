//! Pull, verify and unpack of a real image of several layers (more than 500 MB) from a registry on loopback: this
//! repository's engine, skopeo with umoci, and containerd, in turns and into the same file system. gzip and zstd, plain
//! and encrypted; throughput, ratios, and the peak memory of each.
//!
//! `cargo bench -p cocoon-benches --bench images [-- ROUNDS]`, as root. Needs `docker-registry`; peers that are not
//! installed are left out. `COCOON_BENCH_DIR` says where to unpack (default: `/dev/shm`, where it has 6 GiB).
//!
//! The program runs itself as the pull under test, so that its memory is its own. Encrypted images are pulled by this
//! engine only, to be compared with the plain ones; umoci does not read zstd.

#[path = "images/content.rs"]
mod content;
#[path = "images/ours.rs"]
mod ours;
#[path = "images/peers.rs"]
mod peers;
#[path = "images/watch.rs"]
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cocoon_tests::Registry;

use crate::content::{Image, KINDS};
use crate::watch::Run;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(ours::MODE) => ours::child(arguments.collect()),
        first => {
            let rounds = first.and_then(|n| n.parse().ok()).unwrap_or(3);
            compare(rounds)
        }
    }
}

/// One way to pull, and what it took in each round.
struct Way {
    name: &'static str,
    runs: Vec<Run>,
    /// It cannot do this kind of image.
    failed: bool,
}

fn compare(rounds: usize) -> Result<()> {
    let work = tempfile::tempdir()?;
    let target = tempfile::Builder::new().prefix("cocoon-bench-").tempdir_in(place())?;
    let registry = Registry::start()?;
    let images = content::push(work.path(), &registry)?;
    println!("unpacking into {}", target.path().display());
    let containerd = peers::Containerd::start(work.path(), target.path())
        .inspect_err(|e| println!("left out: containerd: {e:#}"))
        .ok();
    for (image, kind) in images.iter().zip(KINDS) {
        println!(
            "\n{kind}: {} layers, {} MiB packed, {} MiB unpacked",
            image.layers,
            image.packed >> 20,
            image.unpacked >> 20
        );
        one_kind(image, &target.path().join("t"), containerd.as_ref(), rounds)?;
    }
    Ok(())
}

fn one_kind(
    image: &Image,
    target: &Path,
    containerd: Option<&peers::Containerd>,
    rounds: usize,
) -> Result<()> {
    let mut ways: Vec<Way> =
        ["cocoon", "skopeo copy + umoci unpack", "containerd, overlayfs", "containerd, native"]
            .map(|name| Way { name, runs: Vec::new(), failed: false })
            .into();
    for _ in 0..rounds {
        for way in ways.iter_mut().filter(|w| !w.failed && (w.name == "cocoon" || !image.encrypted)) {
            std::fs::create_dir(target).context("the target")?;
            let run = match way.name {
                "cocoon" => ours::run(image, target).map(Some),
                "containerd, overlayfs" => containerd.map(|c| c.pull(image, "overlayfs")).transpose(),
                "containerd, native" => containerd.map(|c| c.pull(image, "native")).transpose(),
                _ => peers::skopeo(image, target).map(Some),
            };
            cocoon_image::remove_tree(target)?;
            match run {
                Ok(Some(run)) => way.runs.push(run),
                Ok(None) => {}
                Err(e) if way.name == "cocoon" => return Err(e),
                Err(e) => {
                    println!("left out: {}: {e:#}", way.name);
                    way.failed = true;
                }
            }
        }
    }
    let ours = ways.first().and_then(|w| watch::median(&w.runs));
    for way in &ways {
        let Some(median) = watch::median(&way.runs) else { continue };
        let rate = |seconds: f64| image.unpacked as f64 / f64::from(1 << 20) / seconds;
        let (slowest, fastest) = watch::range(&way.runs);
        let ratio = ours.map_or(1.0, |o| median.seconds / o.seconds);
        println!(
            "{:<28} {:>7.1} MiB/s ({:.1} to {:.1})  {:>6.2} s  {ratio:>5.2} times ours  peak {:>5} MiB",
            way.name,
            rate(median.seconds),
            rate(slowest),
            rate(fastest),
            median.seconds,
            way.runs.iter().map(|r| r.peak_kib).max().unwrap_or(0) / 1024,
        );
    }
    Ok(())
}

/// Where to unpack: memory, as guests do, where there is enough of it.
fn place() -> PathBuf {
    if let Some(given) = std::env::var_os("COCOON_BENCH_DIR") {
        return given.into();
    }
    let shm = PathBuf::from("/dev/shm");
    let free = rustix::fs::statvfs(&shm).map_or(0, |s| s.f_bavail * s.f_frsize);
    if free > 6 << 30 { shm } else { std::env::temp_dir() }
}
