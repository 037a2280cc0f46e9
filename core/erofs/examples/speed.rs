//! How fast a layer becomes a device: `cargo run --release -p cocoon-erofs --example speed -- LAYER.tar DEVICE`.
//! Prints, of the tar's bytes, MiB/s by the clock and MiB per second of processor time (all threads together) for
//! building, appending the hash tree, checking and encrypting; and the peak memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, Instant};

use cocoon_erofs::{cipher, verity};
use rustix::time::{ClockId, clock_gettime};

fn processor() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap()
}

fn timed<T>(what: &str, mib: f64, work: impl FnOnce() -> T) -> T {
    let (clock, used) = (Instant::now(), processor());
    let done = work();
    let (clock, used) = (clock.elapsed().as_secs_f64(), (processor() - used).as_secs_f64());

    println!("{what:8} {:6.0} MiB/s, {:6.0} MiB per processor second", mib / clock, mib / used);
    done
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(tar), Some(device)) = (arguments.next(), arguments.next()) else {
        println!("usage: speed LAYER.tar DEVICE");
        return;
    };
    let tar = File::open(tar).unwrap();
    let mib = tar.metadata().unwrap().len() as f64 / f64::from(1 << 20);
    let out = File::options().read(true).write(true).create_new(true).open(device).unwrap();
    let limits = cocoon_image::Limits { total_bytes: 1 << 40, ..Default::default() };
    let (built, tree) = timed("both", mib, || {
        let tar = BufReader::with_capacity(1 << 17, tar);
        let built = timed("build", mib, || cocoon_erofs::build(tar, &out, &limits).unwrap());
        let tree = timed("append", mib, || verity::append(&out, built.image_blocks).unwrap());
        (built, tree)
    });
    timed("check", mib, || verity::check(&out, built.image_blocks, &tree.root).unwrap());
    let key = cipher::Xts::new(&[7; 64]);
    timed("encrypt", mib, || cipher::encrypt_file(&out, built.image_blocks, &key).unwrap());
    println!("{built:?}, root {}", tree.root_hex());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default());
}
