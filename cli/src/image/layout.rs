//! An OCI image layout in a folder (image-spec, image-layout.md): `oci-layout`, `index.json`, `blobs/ALGORITHM/HEX`.
//!
//! What is read is as little trusted as a registry: blobs are regular files, bounded, and checked against their digest by
//! whoever reads them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cocoon_image::{Descriptor, Digest, MAX_MANIFEST_BYTES};
use cocoon_stage::{Code, Failure};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use serde_json::{Value, json};

use super::spool::Spool;

/// Annotation of a tag in `index.json`.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Most images in one layout.
const MAX_IMAGES: usize = 4096;

/// A layout.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

fn failed(path: &Path, e: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::ImagePullFailed, format!("{}: {e}", path.display()))
}

/// Opens a regular file for reading, following no link and waiting for nothing.
fn regular(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("is not a regular file"));
    }
    Ok(file)
}

fn bounded(file: File, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(std::io::Error::other(format!("is larger than {limit} bytes")));
    }
    Ok(bytes)
}

impl Layout {
    /// The layout in a folder, be it there or not.
    pub fn new(dir: &Path) -> Self {
        Layout { dir: dir.to_owned() }
    }

    /// Makes an empty layout where there is none.
    pub fn create(&self) -> Result<(), Failure> {
        let blobs = self.blobs();
        std::fs::create_dir_all(&blobs).map_err(|e| failed(&blobs, &e))?;
        let marker = self.dir.join("oci-layout");
        match File::create_new(&marker) {
            Ok(mut file) => file.write_all(VERSION.as_bytes()).map_err(|e| failed(&marker, &e)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(failed(&marker, &e)),
        }
    }

    /// Where new blobs are written.
    pub fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let text = digest.to_string();
        let (algorithm, hex) = text.split_once(':').unwrap_or(("sha256", &text));
        self.dir.join("blobs").join(algorithm).join(hex)
    }

    fn index(&self) -> Result<Value, Failure> {
        let path = self.dir.join("index.json");
        let file = regular(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Failure::new(Code::ImageNotFound, format!("there is no OCI layout in {}", self.dir.display()))
            }
            _ => failed(&path, &e),
        })?;
        let bytes = bounded(file, MAX_MANIFEST_BYTES).map_err(|e| failed(&path, &e))?;
        let malformed =
            || Failure::new(Code::ImageManifestInvalid, format!("{} is malformed", path.display()));
        let index: Value = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        let images = index.get("manifests").and_then(Value::as_array).ok_or_else(malformed)?;
        if images.len() > MAX_IMAGES {
            return Err(malformed());
        }
        Ok(index)
    }

    /// The descriptor of a tag; without one, of the only image.
    pub fn resolve(&self, tag: Option<&str>) -> Result<Descriptor, Failure> {
        let index = self.index()?;
        let images = index.get("manifests").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let fits = |image: &&Value| tag.is_none() || name(image) == tag;
        let mut fitting = images.iter().filter(fits);
        let (Some(image), None) = (fitting.next(), fitting.next()) else {
            let what = match tag {
                Some(tag) => format!("not exactly one image {tag:?}"),
                None => format!("{} images; name one as oci:DIR:TAG", images.len()),
            };
            let why = format!("the OCI layout in {} holds {what}", self.dir.display());
            return Err(Failure::new(Code::ImageNotFound, why));
        };
        serde_json::from_value(image.clone())
            .map_err(|e| Failure::new(Code::ImageManifestInvalid, format!("index.json: {e}")))
    }

    /// A blob's file; its content is for the reader to check.
    pub fn open(&self, digest: &Digest) -> Result<File, Failure> {
        regular(&self.path(digest)).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Failure::new(
                Code::ImageNotFound,
                format!("the OCI layout in {} has no blob {digest}", self.dir.display()),
            ),
            _ => failed(&self.path(digest), &e),
        })
    }

    /// A small blob, checked.
    pub fn bytes(&self, digest: &Digest, limit: usize) -> Result<Bytes, Failure> {
        let bytes = bounded(self.open(digest)?, limit)
            .map_err(|e| Failure::new(Code::ImageTooLarge, format!("blob {digest} {e}")))?;
        digest.check(&bytes, "the blob")?;
        Ok(bytes.into())
    }

    /// Whether a blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Keeps a blob.
    pub fn keep(&self, blob: Spool) -> Result<(), Failure> {
        let path = self.path(&blob.digest);
        let folder = path.parent().unwrap_or(&self.dir);
        std::fs::create_dir_all(folder).and_then(|()| blob.keep(&path)).map_err(|e| failed(&path, &e))
    }

    /// Lists an image under a tag, in the place of the one that had it.
    pub fn tag(&self, tag: Option<&str>, kind: &str, digest: &Digest, size: usize) -> Result<(), Failure> {
        // Two programs that write into one layout take turns.
        let marker = self.dir.join("oci-layout");
        let lock = File::open(&marker).map_err(|e| failed(&marker, &e))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed(&marker, &e))?;
        let path = self.dir.join("index.json");
        let mut index = match self.index() {
            Err(e) if e.code == Code::ImageNotFound => json!({"schemaVersion": 2, "manifests": []}),
            other => other?,
        };
        let mut entry = json!({"mediaType": kind, "digest": digest, "size": size});
        if let (Some(tag), Some(entry)) = (tag, entry.as_object_mut()) {
            entry.insert("annotations".into(), json!({REF_NAME: tag}));
        }
        if let Some(images) = index.get_mut("manifests").and_then(Value::as_array_mut) {
            images.retain(|image| name(image) != tag);
            images.push(entry);
        }
        let text = index.to_string().into_bytes();
        let write = |out: &mut dyn Write| out.write_all(&text).map(|()| (Digest::sha256(&text), ()));
        let partial = self.dir.join(format!(".index-{}", crate::dirs::random_hex(8)?));
        let written = Spool::write(&self.dir, write)
            .and_then(|(spool, ())| spool.keep(&partial))
            .and_then(|()| std::fs::rename(&partial, &path));
        written.map_err(|e| {
            let _ = std::fs::remove_file(&partial);
            failed(&path, &e)
        })
    }
}

fn name(image: &Value) -> Option<&str> {
    image.get("annotations")?.get(REF_NAME)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(layout: &Layout, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let (spool, ()) =
            Spool::write(&layout.blobs(), |out| out.write_all(content).map(|()| (digest, ()))).unwrap();
        layout.keep(spool).unwrap();
        digest
    }

    #[test]
    fn tags_are_replaced_and_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("l"));
        assert_eq!(layout.resolve(None).unwrap_err().code, Code::ImageNotFound);
        layout.create().unwrap();
        let (one, two) = (blob(&layout, b"1"), blob(&layout, b"2"));
        layout.tag(Some("a"), "m", &one, 1).unwrap();
        assert_eq!(layout.resolve(None).unwrap().digest, one);
        layout.tag(Some("b"), "m", &two, 1).unwrap();
        layout.tag(Some("a"), "m", &two, 1).unwrap();
        assert_eq!(layout.resolve(Some("a")).unwrap().digest, two);
        assert!(layout.resolve(None).is_err() && layout.resolve(Some("c")).is_err());
        assert_eq!(&layout.bytes(&one, 1).unwrap()[..], b"1");
        assert_eq!(layout.bytes(&one, 0).unwrap_err().code, Code::ImageTooLarge);
        let left: Vec<_> =
            std::fs::read_dir(dir.path().join("l")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[test]
    fn hostile_layouts_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let outside = dir.path().join("secret");
        std::fs::write(&outside, "x").unwrap();
        let linked = Digest::sha256(b"x");
        std::os::unix::fs::symlink(&outside, layout.path(&linked)).unwrap();
        assert!(layout.bytes(&linked, 10).is_err(), "a link is not followed");
        let altered = blob(&layout, b"good");
        std::fs::write(layout.path(&altered), "evil").unwrap();
        assert_eq!(layout.bytes(&altered, 10).unwrap_err().code, Code::ImageDigestMismatch);
        for bad in
            ["", "[]", "{}", r#"{"manifests":{}}"#, r#"{"manifests":[{"digest":"sha256:../x","size":1}]}"#]
        {
            std::fs::write(dir.path().join("index.json"), bad).unwrap();
            assert_eq!(layout.resolve(None).unwrap_err().code, Code::ImageManifestInvalid, "{bad}");
        }
    }
}
