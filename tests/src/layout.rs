//! OCI images for tests, as layouts on disk.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cocoon_image::encryption::{AnnotationPacket, LayerEncryptor, annotations};
use cocoon_image::{Descriptor, Digest, Index, Manifest};
use tempfile::TempDir;

use crate::{Registry, run};

/// Programs of busybox that test images have in `/bin`.
const APPLETS: &[&str] = &[
    "cat",
    "date",
    "echo",
    "env",
    "false",
    "head",
    "id",
    "kill",
    "ls",
    "mount",
    "ps",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "tail",
    "tar",
    "test",
    "touch",
    "tr",
    "true",
    "wc",
    "wget",
    "yes",
];

/// An OCI layout with one image, tagged `image`.
pub struct Layout {
    folder: TempDir,
}

impl Layout {
    /// An image made of Debian's static busybox, with that command and these extra files (absolute path,
    /// content).
    ///
    /// # Errors
    /// Where busybox or umoci is not installed or fails.
    pub fn busybox(cmd: &[&str], files: &[(&str, &[u8])]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().join("root");
        for dir in ["bin", "etc", "tmp", "root"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static is not installed")?;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n",
        )?;
        fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
        for (path, content) in files {
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().context("a file needs a name")?)?;
            fs::write(path, content)?;
        }
        let layout = Layout { folder };
        let image = format!("{}:image", layout.path().display());
        run("umoci", [&*"init".to_owned(), "--layout", &layout.path().display().to_string()])?;
        run("umoci", ["new", "--image", &image])?;
        let root_text = root.display().to_string();
        let mut insert = vec!["insert"];
        if !rustix::process::geteuid().is_root() {
            insert.push("--rootless");
        }
        insert.extend(["--image", &image, &root_text, "/"]);
        run("umoci", insert)?;
        let mut config = vec!["config", "--image", &image, "--config.env", "PATH=/bin"];
        config.extend(cmd.iter().flat_map(|word| ["--config.cmd", word]));
        run("umoci", config)?;
        fs::remove_dir_all(root)?;
        Ok(layout)
    }

    /// Adds a layer: files (absolute path, content), then what it deletes of the layers below.
    ///
    /// # Errors
    /// Where umoci fails.
    pub fn layer(&self, files: &[(&str, &[u8])], deleted: &[&str]) -> Result<()> {
        let image = format!("{}:image", self.path().display());
        let rootless: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--rootless"] };
        let insert = |what: &[&str]| {
            let words = [&["insert"], rootless, &["--image", &image], what].concat();
            run("umoci", words).map(|_| ())
        };
        for (path, content) in files {
            let file = self.folder.path().join("file");
            fs::write(&file, content)?;
            insert(&[&file.display().to_string(), path])?;
            fs::remove_file(file)?;
        }
        for path in deleted {
            insert(&["--whiteout", path])?;
        }
        Ok(())
    }

    /// The layout's folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("layout")
    }

    /// Pushes the image as `name` (e.g. `demo:plain`) with skopeo; gives its reference.
    ///
    /// # Errors
    /// Where skopeo is not installed or fails.
    pub fn push(&self, registry: &Registry, name: &str) -> Result<String> {
        let reference = registry.reference(name);
        let source = format!("oci:{}:image", self.path().display());
        let target = format!("docker://{reference}");
        run("skopeo", ["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", &source, &target])?;
        Ok(reference)
    }

    /// Encrypts every layer in place, each under a fresh key; `wrap` turns a layer's private options (JSON,
    /// secret) into a packet, as a key provider does.
    ///
    /// # Errors
    /// Where the layout is not as umoci writes it, or `wrap` fails.
    pub fn encrypt(&self, mut wrap: impl FnMut(&[u8]) -> Result<AnnotationPacket>) -> Result<()> {
        let index_path = self.path().join("index.json");
        let mut index: Index = serde_json::from_slice(&fs::read(&index_path)?)?;
        let entry = index.manifests.first_mut().context("the layout has no image")?;
        let mut manifest = Manifest::parse(&fs::read(self.blob(&entry.digest))?)?;
        for layer in &mut manifest.layers {
            self.encrypt_layer(layer, &mut wrap)?;
        }
        let bytes = serde_json::to_vec(&manifest)?;
        entry.digest = Digest::sha256(&bytes);
        entry.size = bytes.len() as u64;
        fs::write(self.blob(&entry.digest), bytes)?;
        fs::write(index_path, serde_json::to_vec(&index)?)?;
        Ok(())
    }

    fn encrypt_layer(
        &self,
        layer: &mut Descriptor,
        wrap: &mut impl FnMut(&[u8]) -> Result<AnnotationPacket>,
    ) -> Result<()> {
        ensure!(!layer.media_type.ends_with("+encrypted"), "the layer is encrypted already");
        let mut encryptor = LayerEncryptor::new(File::open(self.blob(&layer.digest))?)?;
        let mut sealed_bytes = Vec::new();
        encryptor.read_to_end(&mut sealed_bytes)?;
        let sealed = encryptor.finish()?;
        let packet = wrap(&sealed.private.to_json()?)?;
        fs::write(self.blob(&sealed.digest), sealed_bytes)?;
        layer.annotations.extend(annotations(&[packet], &sealed.public)?);
        layer.media_type.push_str("+encrypted");
        layer.digest = sealed.digest;
        layer.size = sealed.size;
        Ok(())
    }

    /// The file of a blob.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        Path::new(&self.path()).join("blobs/sha256").join(digest.hex())
    }
}

#[cfg(test)]
mod tests {
    use cocoon_image::encryption::{read_annotations, unwrap_key, wrap_key};

    use super::*;

    #[test]
    fn images_are_made_encrypted_and_pushed() {
        if let Some(tool) = crate::missing(&["busybox", "umoci", "skopeo", "docker-registry"]) {
            println!("skipped: {tool} is not installed");
            return;
        }
        let registry = Registry::start().unwrap();
        let layout = Layout::busybox(&["/bin/sh", "-c", "echo hi"], &[("/data/x", b"42")]).unwrap();
        layout.push(&registry, "demo:plain").unwrap();
        let kek = [7; 32];
        layout.encrypt(|options| Ok(wrap_key(&kek, "kbs:///default/image-key/demo", options)?)).unwrap();
        let reference = layout.push(&registry, "demo:encrypted").unwrap();
        let raw = format!("docker://{reference}");
        let raw = run("skopeo", ["inspect", "--raw", "--tls-verify=false", &raw]).unwrap();
        let manifest = Manifest::parse(&raw).unwrap();
        for layer in &manifest.layers {
            assert!(layer.media_type.ends_with("tar+gzip+encrypted"), "{}", layer.media_type);
            let (packets, _) = read_annotations(layer).unwrap();
            unwrap_key(&kek, &packets[0]).unwrap();
            assert!(registry.blobs().join("sha256").join(&layer.digest.hex()[..2]).is_dir());
        }
    }
}
