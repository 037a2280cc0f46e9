//! Images made by hand in OCI layouts, and the tools that tests share.
#![allow(dead_code, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

pub mod registry;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cocoon_image::Digest;
use serde_json::{Value, json};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An OCI layout being written.
pub struct Layout(pub PathBuf);

impl Layout {
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout(dir.to_owned())
    }

    pub fn at(dir: &Path) -> Self {
        Layout(dir.to_owned())
    }

    /// `oci:DIR:TAG`.
    pub fn name(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.0.display())
    }

    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.0.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }

    pub fn blob(&self, digest: &str) -> Vec<u8> {
        std::fs::read(self.blob_path(digest)).unwrap()
    }

    pub fn json(&self, digest: &str) -> Value {
        serde_json::from_slice(&self.blob(digest)).unwrap()
    }

    /// Keeps a blob; gives its descriptor.
    pub fn put(&self, kind: &str, content: &[u8]) -> Value {
        let digest = Digest::sha256(content).to_string();
        std::fs::write(self.blob_path(&digest), content).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": content.len()})
    }

    /// An image of one platform with layers of these media types and contents; gives its descriptor.
    pub fn image(&self, arch: &str, layers: &[(&str, &[u8])]) -> Value {
        let ids: Vec<String> = layers.iter().map(|(_, c)| Digest::sha256(c).to_string()).collect();
        let config = json!({"architecture": arch, "os": "linux", "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = self.put(CONFIG, config.to_string().as_bytes());
        let layers: Vec<Value> = layers.iter().map(|(kind, content)| self.put(kind, content)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
            "annotations": {"org.example.kept": "yes"}});
        let mut entry = self.put(MANIFEST, manifest.to_string().as_bytes());
        entry["platform"] = json!({"os": "linux", "architecture": arch});
        entry
    }

    /// Lists a document under a tag.
    pub fn tag(&self, tag: &str, mut entry: Value) {
        let path = self.0.join("index.json");
        let mut index: Value = std::fs::read(&path).map_or_else(
            |_| json!({"schemaVersion": 2, "manifests": []}),
            |text| serde_json::from_slice(&text).unwrap(),
        );
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        index["manifests"].as_array_mut().unwrap().push(entry);
        std::fs::write(&path, index.to_string()).unwrap();
    }

    /// The digest under a tag.
    pub fn tagged(&self, tag: &str) -> Option<String> {
        let index: Value = serde_json::from_slice(&std::fs::read(self.0.join("index.json")).ok()?).unwrap();
        let is = |m: &&Value| m["annotations"]["org.opencontainers.image.ref.name"] == tag;
        index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .find(is)
            .map(|m| m["digest"].as_str().unwrap().to_owned())
    }

    /// The manifest or index under a tag.
    pub fn document(&self, tag: &str) -> Value {
        self.json(&self.tagged(tag).unwrap())
    }

    /// The contents of a manifest's layers.
    pub fn layers(&self, manifest: &Value) -> Vec<Vec<u8>> {
        let layers = manifest["layers"].as_array().unwrap();
        layers.iter().map(|layer| self.blob(layer["digest"].as_str().unwrap())).collect()
    }

    /// All files, hidden ones too.
    pub fn files(&self) -> Vec<PathBuf> {
        fn walk(dir: &Path, all: &mut Vec<PathBuf>) {
            // A layout that was never begun has none.
            for entry in std::fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, all) } else { all.push(path) }
            }
        }
        let mut all = Vec::new();
        walk(&self.0, &mut all);
        all
    }
}

/// Whether a tool is installed; says so if not.
pub fn has(tool: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !found {
        println!("skipped: no {tool}");
    }
    found
}

/// Runs a tool that must succeed.
pub fn tool(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A key pair of OpenSSL's making: paths of the public and the private PEM file.
pub fn key_pair(dir: &Path, kind: &str) -> (String, String) {
    let (private, public) = (dir.join(format!("{kind}.key")), dir.join(format!("{kind}.pub")));
    let (private, public) = (private.display().to_string(), public.display().to_string());
    let algorithm: &[&str] = match kind {
        "rsa" => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        "p384" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        _ => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    };
    tool("openssl", &[&["genpkey", "-out", &private], algorithm].concat());
    tool("openssl", &["pkey", "-in", &private, "-pubout", "-out", &public]);
    (public, private)
}
