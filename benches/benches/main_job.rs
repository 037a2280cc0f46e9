//! `cocoon run` against a bare boot: time to the workload's first byte over the time in which the same kernel, on the
//! same emulated machine, reaches an init that does nothing. Then the guest's memory while it pulls 500 MB.
#![allow(missing_docs)]

use std::process::Command;

use anyhow::{Context, Result, bail};
use cocoon_benches::bare::{bare_boot, bare_initrd};
use cocoon_benches::{median, spread, time_to_output};
use cocoon_guest_image::GuestImage;
use cocoon_tests::{Layout, Registry, cocoon_program, guest_image};

const ROUNDS: usize = 5;
const MARK: &str = "first-byte";
/// The image whose pull is watched.
const BIG: usize = 500 << 20;

fn main() -> Result<()> {
    let cocoon = cocoon_program().context("COCOON_BIN names no program; use `make bench`")?;
    let image_dir = guest_image().context("COCOON_GUEST_IMAGE names no guest image; use `make bench`")?;
    let image = GuestImage::open(&image_dir)?;
    let work = tempfile::tempdir()?;
    let registry = Registry::start()?;
    Layout::busybox(&["sh"], &[])?.push(&registry, "small:1")?;
    let bare = bare_initrd(work.path())?;
    println!(
        "initrd {} bytes, guest program and modules uncompressed",
        std::fs::metadata(&image.initrd)?.len()
    );

    let run = |name: &str, flags: &[&str], command: &[&str]| {
        let mut run = Command::new(&cocoon);
        run.args(["run", "--accel", "tcg", "--platform", "sim", "--quiet"]).args(flags);
        run.arg(registry.reference(name)).arg("--").args(command);
        run.env("COCOON_DATA_DIR", work.path().join("data")).env("COCOON_GUEST_IMAGE", &image_dir);
        run.env("XDG_RUNTIME_DIR", work.path());
        run
    };
    // The first run makes the simulated processor's keys; it is not counted.
    time_to_output(&mut run("small:1", &[], &["echo", MARK]), MARK.as_bytes())?;
    let (mut bare_times, mut run_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare_times.push(time_to_output(&mut bare_boot(&image, &bare), MARK.as_bytes())?);
        run_times.push(time_to_output(&mut run("small:1", &[], &["echo", MARK]), MARK.as_bytes())?);
    }
    println!("bare boot to an empty init        {}", spread(&bare_times));
    println!("cocoon run to the first byte      {}", spread(&run_times));
    let ratios: Vec<f64> =
        run_times.iter().zip(&bare_times).map(|(run, bare)| run.as_secs_f64() / bare.as_secs_f64()).collect();
    let overall = median(&run_times).as_secs_f64() / median(&bare_times).as_secs_f64();
    println!("ratio of the medians {overall:.2}, pair by pair {ratios:.2?} (goal 1.25)");

    big_pull(&registry, |flags, command| run("big:1", flags, command))
}

/// Memory of the guest daemon: after a small start, and at its highest during a pull of 500 MB.
fn big_pull(registry: &Registry, run: impl Fn(&[&str], &[&str]) -> Command) -> Result<()> {
    let mut noise = vec![0_u8; BIG];
    // Incompressible enough that the layer stays large: a counter run through a multiplicative hash.
    for (i, chunk) in noise.chunks_mut(8).enumerate() {
        let value = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        chunk.copy_from_slice(value.to_le_bytes().get(..chunk.len()).unwrap_or_default());
    }
    Layout::busybox(&["sh"], &[("big", &noise)])?.push(registry, "big:1")?;
    drop(noise);
    let mut command = run(&["--timings", "--memory", "2G"], &["ls", "-l", "/big"]);
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).filter(|a| a != "--quiet").collect();
    let mut loud = Command::new(command.get_program());
    loud.args(args).envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let output = loud.output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("the large run failed: {words}");
    }
    let interesting = |l: &&str| l.contains("memory") || l.starts_with("pull");
    for line in words.lines().filter(interesting) {
        println!("500 MB image: {line}");
    }
    command.env_clear();
    Ok(())
}
