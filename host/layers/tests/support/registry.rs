//! A registry on loopback that serves blobs, and can lie.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cocoon_image::{Config, Descriptor, Digest, Manifest, Reference};
use cocoon_registry::{Auth, Client, Retry};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::Layer;

#[derive(Clone)]
pub struct Registry {
    pub address: String,
    blobs: Arc<Mutex<HashMap<String, Arc<Vec<u8>>>>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    pub async fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let registry = Registry { address, blobs: Arc::default(), log: Arc::default() };
        let serving = registry.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, serving.clone()));
            }
        });
        registry
    }

    /// An image of these layers. Its blobs are there.
    pub fn image(&self, layers: &[Layer]) -> (Manifest, Config) {
        for layer in layers {
            self.put(&layer.descriptor.digest, layer.blob.clone());
        }
        let diff_ids: Vec<Digest> = layers.iter().map(|l| l.diff_id).collect();
        let config = json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
        let descriptors: Vec<Descriptor> = layers.iter().map(|l| l.descriptor.clone()).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "config": crate::support::descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": descriptors,
        });
        (Manifest::parse(manifest.to_string().as_bytes()).unwrap(), Config::parse(config.as_bytes()).unwrap())
    }

    pub fn put(&self, digest: &Digest, content: Vec<u8>) {
        self.blobs.lock().unwrap().insert(digest.to_string(), Arc::new(content));
    }

    pub fn remove(&self, digest: &Digest) {
        self.blobs.lock().unwrap().remove(&digest.to_string());
    }

    pub fn requests(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// How often somebody asked for this.
    pub fn asked_for(&self, digest: &Digest) -> usize {
        self.log.lock().unwrap().iter().filter(|path| path.ends_with(&digest.to_string())).count()
    }

    pub fn reference(&self) -> Reference {
        Reference::parse(&format!("{}/image", self.address)).unwrap()
    }
}

pub fn client() -> Client {
    let http = cocoon_http::Client::new(cocoon_http::Options::default()).unwrap();
    let retry = Retry { attempts: 2, pause: Duration::from_millis(1), ..Retry::default() };
    Client::new(http, Auth::anonymous()).with_retry(retry)
}

async fn serve(mut tcp: TcpStream, registry: Registry) {
    let mut buffer = Vec::new();
    loop {
        while !buffer.ends_with(b"\r\n\r\n") {
            if tcp.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        registry.log.lock().unwrap().push(path.clone());
        let blob = registry.blobs.lock().unwrap().get(path.rsplit('/').next().unwrap()).cloned();
        let status = if blob.is_some() { 200 } else { 404 };
        let blob = blob.unwrap_or_default();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", blob.len());
        if tcp.write_all(head.as_bytes()).await.is_err() || tcp.write_all(&blob).await.is_err() {
            return;
        }
    }
}
