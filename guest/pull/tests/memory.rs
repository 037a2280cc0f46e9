//! The heap does not grow with the image. Alone in its program, because it measures the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::io::{Read, Write};
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_image::{Algorithm, AnnotationPacket, Digest, Hasher, Platform, Reference};
use cocoon_pull::{KeyProvider, PullRequest, Store};
use cocoon_registry::{Auth, Client};
use cocoon_stage::{Code, Failure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

const SIZE: u64 = 300 << 20;
const ALLOWED_KIB: u64 = 64 << 10;

struct NoKeys;

#[async_trait]
impl KeyProvider for NoKeys {
    async fn unwrap(&self, _: &AnnotationPacket) -> Result<Zeroizing<Vec<u8>>, Failure> {
        Err(Failure::new(Code::ImageKeyUnavailable, "none"))
    }
}

/// A tar with one file of zeros, never in memory as a whole.
fn layer(name: &str) -> impl Read + Send + use<> {
    let mut h = tar::Header::new_gnu();
    h.set_path(name).unwrap();
    h.set_size(SIZE);
    h.set_mode(0o644);
    h.set_cksum();
    let header = std::io::Cursor::new(h.as_bytes().to_vec());
    Read::chain(header, Read::take(std::io::repeat(0), SIZE + 1024))
}

fn digest_of(mut content: impl Read) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match content.read(&mut buffer).unwrap() {
            0 => return hasher.finish(),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_image_passes_through_a_small_heap() {
    let plain = digest_of(layer("plain"));
    let zipped_tar = digest_of(layer("zipped"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut layer("zipped"), &mut encoder).unwrap();
    let zipped = encoder.finish().unwrap();
    let config =
        json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [plain, zipped_tar]}}).to_string();
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let manifest = json!({"schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
                   "digest": Digest::sha256(config.as_bytes())},
        "layers": [{"mediaType": kind, "size": SIZE + 1536, "digest": plain},
                   {"mediaType": format!("{kind}+gzip"), "size": zipped.len(), "digest": Digest::sha256(&zipped)}]})
    .to_string();
    let pinned = Digest::sha256(manifest.as_bytes());

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers: Arc<Vec<(String, Vec<u8>)>> = Arc::new(vec![
        (pinned.to_string(), manifest.into_bytes()),
        (Digest::sha256(config.as_bytes()).to_string(), config.into_bytes()),
        (Digest::sha256(&zipped).to_string(), zipped),
    ]);
    let big = plain.to_string();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let (answers, big) = (answers.clone(), big.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if tcp.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let small = answers.iter().find(|(name, _)| head.contains(name.as_str()));
                let length = small.map_or(SIZE + 1536, |(_, body)| body.len() as u64);
                let start =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
                tcp.write_all(start.as_bytes()).await.unwrap();
                let Some((_, body)) = small else {
                    assert!(head.contains(&big), "{head}");
                    let mut content = layer("plain");
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(n @ 1..) = content.read(&mut buffer) {
                        if tcp.write_all(&buffer[..n]).await.is_err() {
                            return;
                        }
                    }
                    return;
                };
                let _ = tcp.write_all(body).await;
            });
        }
    });

    let dir = tempfile::tempdir().unwrap();
    let http = cocoon_http::Client::new(cocoon_http::Options::default()).unwrap();
    let registry = Client::new(http, Auth::anonymous());
    let reference = Reference::parse(&format!("{address}/big")).unwrap();
    let request = PullRequest { platform: Platform::linux("amd64"), ..PullRequest::new(reference, pinned) };
    let store = Store::open(dir.path(), 4 << 30).unwrap();
    let before = peak_kib();
    store.pull(request, &registry, &NoKeys, Arc::new(|_| {})).await.map_err(Failure::from).unwrap();
    let grown = peak_kib() - before;
    println!("peak grew by {grown} KiB for {} MiB", (2 * SIZE) >> 20);
    assert!(grown < ALLOWED_KIB, "{grown} KiB");
    std::io::stdout().flush().unwrap();
}
