//! Images made by the test and put into the fake registry.
#![allow(dead_code)]

use std::io::{Read, Write};

use cocoon_image::Digest;
use cocoon_image::encryption::{LayerEncryptor, annotations, wrap_key};
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::fake::Fake;

pub const OCI: &str = "application/vnd.oci.image.layer.v1.tar";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The key-encryption key of all encrypted test layers.
pub const KEK: [u8; 32] = [9; 32];

type Tar = tar::Builder<Vec<u8>>;

pub fn tar_of(build: impl FnOnce(&mut Tar)) -> Vec<u8> {
    let mut b = tar::Builder::new(Vec::new());
    build(&mut b);
    b.into_inner().unwrap()
}

/// An entry whose names are written as they are.
pub fn raw(b: &mut Tar, name: &str, kind: EntryType, link: &str, content: &[u8]) {
    let mut h = Header::new_gnu();
    h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    h.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    h.set_entry_type(kind);
    h.set_mode(0o755);
    h.set_size(content.len() as u64);
    h.set_cksum();
    b.append(&h, content).unwrap();
}

pub fn file(b: &mut Tar, name: &str, content: &[u8]) {
    raw(b, name, EntryType::Regular, "", content);
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

/// One bit in the middle flipped.
pub fn altered(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let middle = data.len() / 2;
    data[middle] ^= 1;
    data
}

/// A zstd layer with one file of `claimed` zeros, of which `given` are there.
pub fn zero_bomb(claimed: u64, given: u64) -> Vec<u8> {
    let mut h = Header::new_gnu();
    h.set_path("zeros").unwrap();
    h.set_size(claimed);
    h.set_mode(0o644);
    h.set_cksum();
    zstd::encode_all(h.as_bytes().chain(std::io::repeat(0).take(given)), 1).unwrap()
}

pub struct Builder<'a> {
    fake: &'a Fake,
    pub layers: Vec<Value>,
    pub diff_ids: Vec<Digest>,
    manifest: Vec<u8>,
}

impl<'a> Builder<'a> {
    pub fn new(fake: &'a Fake) -> Self {
        Builder { fake, layers: Vec::new(), diff_ids: Vec::new(), manifest: Vec::new() }
    }

    pub fn layer(&mut self, kind: &str, blob: Vec<u8>, plain: &[u8]) {
        let size = blob.len();
        let digest = self.fake.blob(blob);
        self.layers.push(json!({"mediaType": kind, "digest": digest, "size": size}));
        self.diff_ids.push(Digest::sha256(plain));
    }

    /// Encrypts the blob under [`KEK`]; gives the ciphertext.
    pub fn encrypted(&mut self, kind: &str, blob: Vec<u8>, plain: &[u8]) -> Vec<u8> {
        let mut encryptor = LayerEncryptor::new(&blob[..]).unwrap();
        let mut cipher = Vec::new();
        encryptor.read_to_end(&mut cipher).unwrap();
        let sealed = encryptor.finish().unwrap();
        let packet =
            wrap_key(&KEK, "kbs:///default/image-kek/1", &sealed.private.to_json().unwrap()).unwrap();
        self.layer(&format!("{kind}+encrypted"), cipher.clone(), plain);
        let annotations = annotations(&[packet], &sealed.public).unwrap();
        self.layers.last_mut().unwrap()["annotations"] = json!(annotations);
        cipher
    }

    pub fn push(&mut self) -> Digest {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/tool"]},
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        })
        .to_string();
        let size = config.len();
        let config = json!({"mediaType": CONFIG, "digest": self.fake.blob(config), "size": size});
        self.manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": self.layers})
                .to_string()
                .into_bytes();
        self.fake.manifest("latest", MANIFEST, self.manifest.clone())
    }

    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }
}
