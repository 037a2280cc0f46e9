//! The image: real programs and libraries, text, noise, and many small files, in five layers.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cocoon_image::encryption::{LayerEncryptor, annotations, wrap_key};
use cocoon_image::{Algorithm, Digest, Hasher, Platform, Reference};
use cocoon_registry::{Auth, Client};
use cocoon_tests::Registry;
use serde_json::{Value, json};
use tar::{Builder, Header};

/// The kinds of packing, in the order of what [`push`] gives.
pub const KINDS: [&str; 4] = ["gzip", "zstd", "gzip+encrypted", "zstd+encrypted"];
/// The key-encryption key of the encrypted images.
pub const KEK: [u8; 32] = [7; 32];

const MIB: u64 = 1 << 20;
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image in the registry.
pub struct Image {
    /// With a tag.
    pub reference: String,
    /// Of its manifest.
    pub digest: Digest,
    /// Whether its layers are encrypted.
    pub encrypted: bool,
    /// Number of layers.
    pub layers: usize,
    /// Bytes of all blobs.
    pub packed: u64,
    /// Bytes of all tars.
    pub unpacked: u64,
}

/// A small generator, so that every run has the same text and noise.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }

    fn text(&mut self, length: usize) -> Vec<u8> {
        const SYLLABLES: [&str; 16] = [
            "ka", "ro", "mi", "ten", "sol", "ver", "an", "du", "pli", "gor", "es", "tu", "wan", "lo", "ri",
            "be",
        ];
        let mut text = Vec::with_capacity(length + 64);
        while text.len() < length {
            // Squared, so that some words are frequent, as in real text.
            let word = (self.next() % 64) * (self.next() % 64);
            for shift in [0, 4, 8] {
                let syllable = usize::try_from(word >> shift & 15).unwrap_or(0);
                text.extend_from_slice(SYLLABLES.get(syllable).unwrap_or(&"x").as_bytes());
            }
            text.push(if self.next().is_multiple_of(12) { b'\n' } else { b' ' });
        }
        text.truncate(length);
        text
    }
}

type Tar = Builder<BufWriter<File>>;

fn add(tar: &mut Tar, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut h = Header::new_gnu();
    h.set_mode(mode);
    h.set_mtime(1_700_000_000);
    h.set_size(u64::try_from(content.len())?);
    tar.append_data(&mut h, name, content)?;
    Ok(())
}

/// Real files of this machine below `top`, sorted, up to `limit` bytes; what is missing to it is made up.
fn real_files(tar: &mut Tar, top: &str, limit: u64, random: &mut Random) -> Result<()> {
    let mut waiting = vec![PathBuf::from(top)];
    let mut have = 0_u64;
    while let Some(folder) = waiting.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder)?.filter_map(Result::ok).collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() && have < limit && entry.metadata().is_ok_and(|m| m.len() < 64 * MIB) {
                let Ok(content) = std::fs::read(entry.path()) else { continue };
                let name = entry.path().to_string_lossy().trim_start_matches('/').to_owned();
                add(tar, &name, 0o755, &content)?;
                have += u64::try_from(content.len())?;
            }
        }
    }
    let mut n = 0;
    while have < limit {
        let half = usize::try_from(MIB / 2)?;
        add(tar, &format!("usr/lib/made-up/{n}"), 0o644, &[random.text(half), random.noise(half)].concat())?;
        (have, n) = (have + MIB, n + 1);
    }
    Ok(())
}

/// Writes the layers' tars.
fn tars(work: &Path) -> Result<Vec<PathBuf>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut made = Vec::new();
    for layer in ["system", "text", "noise", "small", "changes"] {
        let path = work.join(format!("{layer}.tar"));
        let mut tar = Builder::new(BufWriter::with_capacity(1 << 20, File::create(&path)?));
        match layer {
            "system" => real_files(&mut tar, "/usr/lib", 320 * MIB, &mut random)?,
            "text" => {
                for n in 0..24 {
                    add(&mut tar, &format!("srv/text/{n}.txt"), 0o644, &random.text(4 << 20))?;
                }
            }
            "noise" => {
                for n in 0..6 {
                    add(&mut tar, &format!("srv/noise/{n}.bin"), 0o644, &random.noise(10 << 20))?;
                }
            }
            "small" => {
                for n in 0..20_000 {
                    let length = 256 + usize::try_from(random.next() % 4096)?;
                    add(&mut tar, &format!("srv/small/{}/{n}", n % 200), 0o644, &random.text(length))?;
                }
            }
            _ => {
                add(&mut tar, "srv/text/.wh.3.txt", 0o644, b"")?;
                add(&mut tar, "srv/text/4.txt", 0o644, &random.text(8 << 20))?;
            }
        }
        tar.into_inner()?.flush()?;
        made.push(path);
    }
    Ok(made)
}

fn hash(path: &Path) -> Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        size += u64::try_from(n)?;
    }
}

/// Packs a tar as `kind` says; gives the layer's descriptor.
fn pack(tar: &Path, kind: &str, to: &Path) -> Result<Value> {
    let packed = to.with_extension("packed");
    let input = BufReader::with_capacity(1 << 20, File::open(tar)?);
    let output = BufWriter::with_capacity(1 << 20, File::create(&packed)?);
    if kind.starts_with("gzip") {
        let mut e = flate2::write::GzEncoder::new(output, flate2::Compression::default());
        std::io::copy(&mut { input }, &mut e)?;
        e.finish()?.flush()?;
    } else {
        let mut e = zstd::stream::write::Encoder::new(output, 3)?;
        std::io::copy(&mut { input }, &mut e)?;
        e.finish()?.flush()?;
    }
    let mut notes = Value::Null;
    if kind.ends_with("+encrypted") {
        let mut encryptor = LayerEncryptor::new(File::open(&packed)?)?;
        std::io::copy(&mut encryptor, &mut File::create(to)?)?;
        std::fs::remove_file(&packed)?;
        let sealed = encryptor.finish()?;
        let packet = wrap_key(&KEK, "kbs:///default/bench/1", &sealed.private.to_json()?)?;
        notes = json!(annotations(&[packet], &sealed.public)?);
    } else {
        std::fs::rename(&packed, to)?;
    }
    let (digest, size) = hash(to)?;
    let mut descriptor = json!({"mediaType": format!("{LAYER}+{kind}"), "digest": digest, "size": size});
    if let (Some(object), false) = (descriptor.as_object_mut(), notes.is_null()) {
        object.insert("annotations".to_owned(), notes);
    }
    Ok(descriptor)
}

/// Makes the image in all kinds and pushes them.
pub fn push(work: &Path, registry: &Registry) -> Result<Vec<Image>> {
    let tars = tars(work)?;
    let hashes: Vec<_> = tars.iter().map(|t| hash(t)).collect::<Result<_>>()?;
    let diff_ids: Vec<_> = hashes.iter().map(|(d, _)| d).collect();
    let platform = Platform::host();
    let config = json!({"os": platform.os, "architecture": platform.architecture, "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string()
    .into_bytes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(cocoon_http::Client::new(cocoon_http::Options::default())?, Auth::anonymous());
    let mut images = Vec::new();
    for kind in KINDS {
        let name = registry.reference(&format!("bench:{}", kind.replace('+', "-")));
        let reference = Reference::parse(&name)?;
        let (mut layers, mut packed) = (Vec::new(), 0);
        for tar in &tars {
            let blob = work.join("blob");
            let layer = pack(tar, kind, &blob)?;
            packed += layer.get("size").and_then(Value::as_u64).context("a size")?;
            let digest = layer.get("digest").and_then(Value::as_str).context("a digest")?.parse()?;
            runtime.block_on(client.push_blob_from(&reference, &digest, &mut File::open(&blob)?))?;
            std::fs::remove_file(&blob)?;
            layers.push(layer);
        }
        let stored = runtime.block_on(client.push_blob(&reference, config.clone().into()))?;
        let manifest = json!({"schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": stored, "size": config.len()},
            "layers": layers})
        .to_string();
        let encrypted = kind.ends_with("+encrypted");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let digest = runtime.block_on(client.push_manifest(&reference, kind, manifest.into()))?;
        let unpacked = hashes.iter().map(|(_, n)| n).sum();
        images.push(Image { reference: name, digest, encrypted, layers: layers.len(), packed, unpacked });
    }
    for tar in tars {
        std::fs::remove_file(tar)?;
    }
    Ok(images)
}
