//! How fast a layer becomes a device: `cargo run --release -p cocoon-erofs --example speed -- LAYER.tar DEVICE`.
//! Prints MiB/s of the tar for building, appending the hash tree, checking and encrypting, and the peak memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use cocoon_erofs::{cipher, verity};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(tar), Some(device)) = (arguments.next(), arguments.next()) else {
        println!("usage: speed LAYER.tar DEVICE");
        return;
    };
    let tar = BufReader::with_capacity(1 << 17, File::open(tar).unwrap());
    let out = File::options().read(true).write(true).create_new(true).open(device).unwrap();
    let limits = cocoon_image::Limits { total_bytes: 1 << 40, ..Default::default() };
    let start = Instant::now();
    let built = cocoon_erofs::build(tar, &out, &limits).unwrap();
    let mib = built.diff_bytes as f64 / f64::from(1 << 20);
    let rate = |what: &str, since: Instant| {
        let seconds = since.elapsed().as_secs_f64();
        println!("{what}: {seconds:.3} s, {:.0} MiB/s", mib / seconds);
    };
    println!("{built:?}");
    rate("build", start);
    let appending = Instant::now();
    let tree = verity::append(&out, built.image_blocks).unwrap();
    rate("append", appending);
    rate("both", start);
    println!("root {}", tree.root_hex());
    let checking = Instant::now();
    verity::check(&out, built.image_blocks, &tree.root).unwrap();
    rate("check", checking);
    let ciphering = Instant::now();
    cipher::encrypt_file(&out, built.image_blocks, &cipher::Xts::new(&[7; 64])).unwrap();
    rate("encrypt", ciphering);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default());
}
