//! What a node does for a layer: makes it a block device once, and finds it from then on.

use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cocoon_benches::content::MIB;
use cocoon_benches::push::Image;
use cocoon_erofs::verity;
use cocoon_image::{Config, Limits, Manifest, Reference};
use cocoon_layers::{Cache, Pinned, Roots, Wanted, plan_roots, prepare};
use cocoon_registry::{Auth, Client};
use cocoon_tests::missing;

/// Cache hits of the whole image that are timed.
const HITS: u32 = 500;
/// The cache's limit in these measurements, in bytes: it evicts nothing.
const LIMIT: u64 = 64 << 30;

fn rate(name: &str, bytes: u64, took: Duration) {
    let rate = bytes as f64 / MIB as f64 / took.as_secs_f64();
    println!("{name:<64} {rate:>8.1} MiB/s  {:>7.2} s", took.as_secs_f64());
}

/// Converts the image's layers, step by step and as a node does, and looks them up.
pub fn measure(image: &Image, work: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(work)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let client = Client::new(cocoon_http::Client::new(cocoon_http::Options::default())?, Auth::anonymous());
    let reference = Reference::parse(&image.reference)?;
    let (manifest, config) = runtime.block_on(described(&client, &reference, image))?;
    let whole = |name: &str, took| rate(name, image.unpacked, took);

    runtime.block_on(async {
        let quiet: cocoon_layers::OnProgress = Arc::new(|_| {});
        let cache = Cache::open(&work.path().join("layers"), LIMIT)?;
        let roots = Roots::open(&work.path().join("roots"))?;
        let began = Instant::now();
        let plan = plan_roots(&roots, Some(&cache), &client, &reference, &manifest, &config, quiet.clone());
        let planned = plan.await?;
        whole("download, verify, gunzip, EROFS, tree, sync: the image", began.elapsed());
        let wanted: Vec<Wanted> = planned
            .layers
            .iter()
            .map(|k| Wanted { diff_id: k.diff_id, pinned: Some(Pinned { root: k.root, blocks: k.blocks }) })
            .collect();
        let began = Instant::now();
        for _ in 0..HITS {
            let plan =
                plan_roots(&roots, Some(&cache), &client, &reference, &manifest, &config, quiet.clone());
            plan.await?;
            prepare(&cache, &client, &reference, &manifest, &config, &wanted, quiet.clone()).await?;
        }
        let hit = began.elapsed().as_secs_f64() * 1e3 / f64::from(HITS);
        println!(
            "{:<64} {hit:>8.3} ms",
            format!("a hit: roots, leases and disks of {} layers", wanted.len())
        );
        anyhow::Ok(())
    })?;
    std::fs::remove_dir_all(work.path().join("layers"))?;

    let layer = manifest.layers.last().context("a layer")?;
    let (packed, tar) = (work.path().join("layer.tar.gz"), work.path().join("layer.tar"));
    runtime.block_on(fetch(&client, &reference, layer, &packed))?;
    let began = Instant::now();
    let mut unpacked = flate2::read::GzDecoder::new(BufReader::with_capacity(1 << 20, File::open(&packed)?));
    let bytes = std::io::copy(&mut unpacked, &mut std::io::sink())?;
    rate("gunzip alone: the large layer, by flate2", bytes, began.elapsed());
    std::io::copy(
        &mut flate2::read::GzDecoder::new(BufReader::new(File::open(&packed)?)),
        &mut File::create(&tar)?,
    )?;
    rustix::fs::sync();
    let device = work.path().join("device");
    let out = OpenOptions::new().read(true).write(true).create_new(true).open(&device)?;
    let began = Instant::now();
    let built = cocoon_erofs::build(
        BufReader::with_capacity(256 << 10, File::open(&tar)?),
        &out,
        &Limits::default(),
    )?;
    rate("EROFS alone: tar to image, not synced", bytes, began.elapsed());
    let began = Instant::now();
    verity::append(&out, built.image_blocks)?;
    rate("tree alone: read back and hashed", built.image_blocks * 4096, began.elapsed());
    drop(out);
    std::fs::remove_file(device)?;
    peers(&packed, bytes, work.path())
}

async fn described(client: &Client, reference: &Reference, image: &Image) -> Result<(Manifest, Config)> {
    let manifest = client.manifest(reference, &image.digest).await?;
    let manifest = Manifest::parse(&manifest)?;
    let config = Config::parse(&client.blob_bytes(reference, &manifest.config, 1 << 20).await?)?;
    Ok((manifest, config))
}

async fn fetch(
    client: &Client,
    reference: &Reference,
    layer: &cocoon_image::Descriptor,
    to: &Path,
) -> Result<()> {
    let mut blob = client.blob(reference, layer, 0).await?;
    let mut file = File::create(to)?;
    while let Some(chunk) = blob.chunk().await? {
        std::io::copy(&mut chunk.as_ref(), &mut file)?;
    }
    Ok(())
}

/// The same with the tools that Debian has: unpacked to a folder, since this mkfs.erofs reads no tar.
fn peers(packed: &Path, bytes: u64, work: &Path) -> Result<()> {
    if let Some(tool) = missing(&["tar", "mkfs.erofs", "veritysetup"]) {
        println!("{:<64} no peer: {tool} is not installed", "");
        return Ok(());
    }
    let (folder, image, tree) = (work.join("folder"), work.join("peer"), work.join("tree"));
    std::fs::create_dir(&folder)?;
    rustix::fs::sync();
    let began = Instant::now();
    run(Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(&folder))?;
    run(Command::new("mkfs.erofs").arg(&image).arg(&folder))?;
    run(Command::new("veritysetup").arg("format").arg(&image).arg(&tree))?;
    rate("the same by tar -xzf, mkfs.erofs, veritysetup format", bytes, began.elapsed());
    cocoon_image::remove_tree(&folder)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
