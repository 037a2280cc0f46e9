//! Layers, and where tests get them from.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cocoon_image::{Descriptor, Digest};
use cocoon_layers::{Cache, Error, Lease, Source, Wanted};

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const LIMIT: u64 = 1 << 30;

/// A layer: its tar, packed.
#[derive(Clone)]
pub struct Layer {
    pub diff_id: Digest,
    pub descriptor: Descriptor,
    pub blob: Vec<u8>,
}

/// A layer with one file of so many bytes that do not compress; another seed is another layer.
pub fn layer(seed: u64, bytes: usize) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let content = noise(seed, bytes);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "data/file", &content[..]).unwrap();
    of_tar(&tar.into_inner().unwrap())
}

pub fn of_tar(tar: &[u8]) -> Layer {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar).unwrap();
    let blob = gzip.finish().unwrap();
    Layer { diff_id: Digest::sha256(tar), descriptor: descriptor(GZIP, &blob), blob }
}

pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(bytes).collect()
}

pub fn descriptor(kind: &str, blob: &[u8]) -> Descriptor {
    Descriptor {
        media_type: kind.into(),
        digest: Digest::sha256(blob),
        size: blob.len() as u64,
        annotations: Default::default(),
        artifact_type: None,
        platform: None,
    }
}

impl Layer {
    pub fn wanted(&self) -> Wanted {
        Wanted { diff_id: self.diff_id, pinned: None }
    }

    pub fn source(&self) -> Memory {
        Memory {
            descriptor: self.descriptor.clone(),
            blob: self.blob.clone(),
            opened: Arc::default(),
            pace: Duration::ZERO,
        }
    }

    pub async fn get(&self, cache: &Cache) -> Result<Lease, Error> {
        cache.layer(&self.wanted(), &self.source()).await
    }
}

/// A blob in memory; it tells how often it was opened.
#[derive(Clone)]
pub struct Memory {
    pub descriptor: Descriptor,
    pub blob: Vec<u8>,
    pub opened: Arc<AtomicUsize>,
    /// Pause before each 64 KiB.
    pub pace: Duration,
}

#[async_trait]
impl Source for Memory {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    async fn open(&self) -> Result<Box<dyn Read + Send>, Error> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Paced(io::Cursor::new(self.blob.clone()), self.pace)))
    }
}

struct Paced(io::Cursor<Vec<u8>>, Duration);

impl Read for Paced {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.1.is_zero() {
            std::thread::sleep(self.1);
        }
        let most = buf.len().min(64 << 10);
        self.0.read(&mut buf[..most])
    }
}

/// Names in a folder of the cache, sorted.
pub fn names(cache: &Path, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(cache.join(folder)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Nothing is left but layers and their entries.
pub fn assert_tidy(cache: &Path) {
    assert_eq!(names(cache, "tmp"), [""; 0]);
    assert_eq!(names(cache, "locks"), [""; 0]);
    for (folder, ok) in [("layers", 64), ("index", 69)] {
        assert!(names(cache, folder).iter().all(|n| n.len() >= ok), "{:?}", names(cache, folder));
    }
}

pub fn open(dir: &Path) -> Cache {
    Cache::open(dir, LIMIT).unwrap()
}

pub fn layer_path(cache: &Path, lease: &Lease) -> PathBuf {
    cache.join("layers").join(lease.root_hex())
}
