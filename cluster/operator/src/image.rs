//! The container image of all roles, as an OCI layout: the program, what it is linked with, the shim and a guest image. The same
//! input makes the same bytes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The program in the image.
const PROGRAM: &str = "usr/bin/cocoon";
/// Folder of shim and guest image.
const PAYLOAD: &str = "usr/share/cocoon";

/// Makes a layout in `out`, which must not exist, with one image called `tag`. Its manifest's digest. To a registry it goes with
/// `skopeo copy oci:OUT:TAG docker://…`.
///
/// # Errors
/// Where something cannot be read or written, or a library of the program is not found.
pub fn make(program: &Path, shim: &Path, guest: &Path, out: &Path, tag: &str) -> io::Result<String> {
    fs::create_dir(out).map_err(|e| named(out, &e))?;
    let blobs = out.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    if !guest.join("manifest.json").is_file() {
        return Err(io::Error::other(format!(
            "{} is no guest image: it has no manifest.json",
            guest.display()
        )));
    }
    let mut base = vec![(PathBuf::from(PROGRAM), program.to_path_buf(), 0o755)];
    for library in libraries(program)? {
        let inside = library.strip_prefix("/").unwrap_or(&library).to_path_buf();
        base.push((inside, library, 0o755));
    }
    let payload = Path::new(PAYLOAD);
    let host = vec![(payload.join("bin/containerd-shim-cocoon-v2"), shim.to_path_buf(), 0o755)];
    let mut files = Vec::new();
    for entry in fs::read_dir(guest).map_err(|e| named(guest, &e))? {
        let path = entry?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            files.push((payload.join("guest").join(name), path.clone(), 0o644));
        }
    }
    files.sort();
    let layers =
        [base, host, files].iter().map(|files| layer(files, &blobs)).collect::<io::Result<Vec<_>>>()?;
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": ["/usr/bin/cocoon"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| l.diff_id.clone()).collect::<Vec<_>>()},
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(&config, "application/vnd.oci.image.config.v1+json", &blobs)?,
        "layers": layers.iter().map(|l| json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": l.digest, "size": l.size,
        })).collect::<Vec<_>>(),
    });
    let mut described = blob(&manifest, "application/vnd.oci.image.manifest.v1+json", &blobs)?;
    let digest = described.get("digest").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(map) = described.as_object_mut() {
        map.insert("annotations".into(), json!({"org.opencontainers.image.ref.name": tag}));
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [described],
    });
    fs::write(out.join("index.json"), index.to_string())?;
    fs::write(out.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    Ok(digest)
}

fn named(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// What the program is linked with, the dynamic linker too; nothing for a static one. Debian's `ldd` says it.
fn libraries(program: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let said = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() || text.contains("statically linked") {
        return Ok(BTreeSet::new());
    }
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.contains("not found") {
            return Err(io::Error::other(format!("{}: {}", program.display(), line.trim())));
        }
        found.extend(line.split_whitespace().find(|w| w.starts_with('/')).map(PathBuf::from));
    }
    Ok(found)
}

struct Layer {
    digest: String,
    diff_id: String,
    size: u64,
}

/// Counts and hashes what goes through.
struct Hashed<W> {
    inner: W,
    digest: Sha256,
    size: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Hashed { inner, digest: Sha256::new(), size: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..n).unwrap_or_default());
        self.size += u64::try_from(n).unwrap_or(0);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hash(digest: Sha256) -> String {
    format!("sha256:{}", hex::encode(digest.finalize()))
}

/// Writes a layer: `(path in the image, file, mode)`, with the folders above each.
fn layer(files: &[(PathBuf, PathBuf, u32)], blobs: &Path) -> io::Result<Layer> {
    let temp = blobs.join("layer");
    let packed = GzEncoder::new(Hashed::new(io::BufWriter::new(File::create(&temp)?)), Compression::fast());
    let mut tar = tar::Builder::new(Hashed::new(packed));
    let mut folders = BTreeSet::new();
    for (path, _, _) in files {
        folders.extend(path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).map(Path::to_path_buf));
    }
    let header = |kind: tar::EntryType, size: u64, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(0);
        header
    };
    for folder in folders {
        let mut header = header(tar::EntryType::Directory, 0, 0o755);
        tar.append_data(&mut header, folder, io::empty())?;
    }
    for (path, from, mode) in files {
        let file = File::open(from).map_err(|e| named(from, &e))?;
        let mut header = header(tar::EntryType::Regular, file.metadata()?.len(), *mode);
        tar.append_data(&mut header, path, file).map_err(|e| named(from, &e))?;
    }
    let plain = tar.into_inner()?;
    let diff_id = hash(plain.digest);
    let mut packed = plain.inner.finish()?;
    packed.flush()?;
    let (size, digest) = (packed.size, hash(packed.digest));
    let name = digest.trim_start_matches("sha256:");
    fs::rename(&temp, blobs.join(name))?;
    Ok(Layer { digest, diff_id, size })
}

/// Writes a document, and describes it.
fn blob(value: &Value, media: &str, blobs: &Path) -> io::Result<Value> {
    let text = value.to_string();
    let digest = hash(Sha256::new_with_prefix(&text));
    fs::write(blobs.join(digest.trim_start_matches("sha256:")), &text)?;
    Ok(json!({"mediaType": media, "digest": digest, "size": text.len()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_makes_the_same_image() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let shim = put("shim", "shim");
        put("guest/manifest.json", "{}");
        put("guest/vmlinuz", "kernel");
        let program = Path::new("/bin/true");
        let make = |out: &str| make(program, &shim, &dir.path().join("guest"), &dir.path().join(out), "t");
        let one = make("a").unwrap();
        assert_eq!(one, make("b").unwrap());
        assert!(make("a").is_err(), "a layout that is there is not overwritten");
        let list = Command::new("skopeo")
            .args(["inspect", "--config", &format!("oci:{}:t", dir.path().join("a").display())])
            .output();
        if let Ok(list) = list {
            assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
            assert!(String::from_utf8_lossy(&list.stdout).contains("/usr/bin/cocoon"));
        }
        fs::remove_file(dir.path().join("guest/manifest.json")).unwrap();
        assert!(make("c").unwrap_err().to_string().contains("manifest.json"));
    }
}
