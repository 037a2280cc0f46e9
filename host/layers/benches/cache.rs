//! What a layer costs that is in the cache, and how fast one is made that is not. `cargo bench -p cocoon-layers`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/registry.rs"]
mod registry;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use cocoon_layers::prepare;
use support::{GZIP, Layer, descriptor, layer, noise, open};

const MIB: usize = 1 << 20;

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let small = layer(1, 4 * MIB);
    small.get(&cache).await.unwrap();
    let (source, wanted) = (small.source(), small.wanted());
    const HITS: u32 = 2000;
    let began = Instant::now();
    for _ in 0..HITS {
        assert!(!cache.layer(&wanted, &source).await.unwrap().computed);
    }
    println!("a hit costs {:.3} ms", began.elapsed().as_secs_f64() * 1000.0 / f64::from(HITS));

    let registry = registry::Registry::start().await;
    let client = registry::client();
    for (name, layers) in [("1 layer", 1_u64), ("2 layers", 2), ("4 layers", 4)] {
        let layers: Vec<Layer> =
            (0..layers).map(|n| mixed(n, 512 / usize::try_from(layers).unwrap())).collect();
        let (manifest, config) = registry.image(&layers);
        let wanted: Vec<_> = layers.iter().map(Layer::wanted).collect();
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path());
        let began = Instant::now();
        let leases =
            prepare(&cache, &client, &registry.reference(), &manifest, &config, &wanted, Arc::new(|_| {}))
                .await;
        let (leases, took) = (leases.unwrap(), began.elapsed());
        let bytes: u64 = leases.iter().map(|l| l.blocks * 4096).sum();
        let packed: u64 = layers.iter().map(|l| l.descriptor.size).sum();
        println!(
            "{name}: {} MiB ({} MiB gzip) downloaded, verified, converted and synced in {:.2} s, {:.0} MiB/s",
            bytes >> 20,
            packed >> 20,
            took.as_secs_f64(),
            f64::from(u32::try_from(bytes >> 20).unwrap()) / took.as_secs_f64()
        );
    }
}

/// Content that packs to about half, as programs do, in files of 1 MiB.
fn mixed(seed: u64, mib: usize) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    for n in 0..mib {
        let mut content = noise(seed << 32 | n as u64, MIB / 2);
        content.extend(b"the same words again and again, ".iter().cycle().take(MIB / 2));
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append_data(&mut header, format!("usr/lib/file-{n}"), &content[..]).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    let blob = gzip.finish().unwrap();
    Layer { diff_id: cocoon_image::Digest::sha256(&tar), descriptor: descriptor(GZIP, &blob), blob }
}
