//! Where an image is: a repository of a registry, or an OCI layout in a folder. Both are read and written alike.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cocoon_image::{Descriptor, Digest, MAX_MANIFEST_BYTES, Reference};
use cocoon_registry::{BlobStream, Client};
use cocoon_stage::Failure;

use super::layout::Layout;
use super::spool::Spool;
use super::{internal, usage};
use crate::registry;

/// Bytes read from a file at a time.
const CHUNK: usize = 64 * 1024;

/// A place that images are read from and written to.
pub struct Place {
    home: Home,
    name: String,
}

enum Home {
    Registry { client: Box<Client>, reference: Box<Reference> },
    Layout { layout: Layout, tag: Option<String> },
}

/// A blob being read.
pub enum Blob {
    Registry(Box<BlobStream>),
    File(File),
}

/// `oci:DIR[:TAG]`; `None` for anything else.
fn layout_of(text: &str) -> Option<Result<(&Path, Option<&str>), Failure>> {
    let rest = text.strip_prefix("oci:")?;
    let (dir, tag) = rest.split_once(':').map_or((rest, None), |(dir, tag)| (dir, Some(tag)));
    if dir.is_empty() || tag.is_some_and(|t| t.is_empty() || t.len() > 255 || t.contains(char::is_control)) {
        return Some(Err(usage(format!("{text:?} is not oci:DIR[:TAG]"))));
    }
    Some(Ok((Path::new(dir), tag)))
}

impl Place {
    /// Where an image is to be read. Nothing is looked at yet.
    pub fn source(text: &str) -> Result<Place, Failure> {
        let home = match layout_of(text) {
            Some(found) => {
                let (dir, tag) = found?;
                Home::Layout { layout: Layout::new(dir), tag: tag.map(str::to_owned) }
            }
            None => {
                let reference = registry::reference(text)?;
                let auth = registry::auth_json();
                let client = Box::new(registry::client(auth.as_deref().map(String::as_str))?);
                Home::Registry { client, reference: Box::new(reference) }
            }
        };
        Ok(Place { home, name: text.to_owned() })
    }

    /// Where an image is to be written.
    pub fn target(text: &str) -> Result<Place, Failure> {
        let mut place = Place::source(text)?;
        match &mut place.home {
            Home::Registry { reference, .. } if reference.digest.is_some() => {
                return Err(usage(format!("{text:?}: a target has a tag, its digest comes of its content")));
            }
            Home::Registry { reference, .. } if reference.tag.is_none() => {
                **reference = reference.with_tag("latest");
            }
            Home::Registry { .. } | Home::Layout { .. } => {}
        }
        Ok(place)
    }

    /// Makes the layout where there is none: before the first blob is written.
    pub fn prepare(&self) -> Result<(), Failure> {
        match &self.home {
            Home::Registry { .. } => Ok(()),
            Home::Layout { layout, .. } => layout.create(),
        }
    }

    /// As its user wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to call an image here by its digest: in a layout as it was written.
    pub fn pinned(&self, digest: &Digest) -> String {
        match &self.home {
            Home::Registry { reference, .. } => format!("{}@{digest}", reference.name()),
            Home::Layout { .. } => format!("{} ({digest})", self.name),
        }
    }

    /// The registry's client and the reference, if it is in one.
    pub fn registry(&self) -> Option<(&Client, &Reference)> {
        match &self.home {
            Home::Registry { client, reference } => Some((client, reference)),
            Home::Layout { .. } => None,
        }
    }

    /// The manifest or index that the name stands for.
    pub async fn resolve(&self) -> Result<(Digest, Bytes), Failure> {
        match &self.home {
            Home::Registry { client, reference } => Ok(client.resolve(reference).await?),
            Home::Layout { layout, tag } => {
                let found = layout.resolve(tag.as_deref())?;
                Ok((found.digest, layout.bytes(&found.digest, MAX_MANIFEST_BYTES)?))
            }
        }
    }

    /// The manifest of a digest, checked.
    pub async fn manifest(&self, digest: &Digest) -> Result<Bytes, Failure> {
        match &self.home {
            Home::Registry { client, reference } => Ok(client.manifest(reference, digest).await?),
            Home::Layout { layout, .. } => layout.bytes(digest, MAX_MANIFEST_BYTES),
        }
    }

    /// A small blob, checked.
    pub async fn blob_bytes(&self, blob: &Descriptor, limit: usize) -> Result<Bytes, Failure> {
        match &self.home {
            Home::Registry { client, reference } => Ok(client.blob_bytes(reference, blob, limit).await?),
            Home::Layout { layout, .. } => layout.bytes(&blob.digest, limit),
        }
    }

    /// A blob as a stream; size and digest are for the reader to check.
    pub async fn blob(&self, blob: &Descriptor) -> Result<Blob, Failure> {
        match &self.home {
            Home::Registry { client, reference } => {
                Ok(Blob::Registry(Box::new(client.blob(reference, blob, 0).await?)))
            }
            Home::Layout { layout, .. } => Ok(Blob::File(layout.open(&blob.digest)?)),
        }
    }

    /// Whether a blob is there already.
    pub async fn has(&self, digest: &Digest) -> Result<bool, Failure> {
        match &self.home {
            Home::Registry { client, reference } => Ok(client.has_blob(reference, digest).await?),
            Home::Layout { layout, .. } => Ok(layout.has(digest)),
        }
    }

    /// The folder in which blobs for this place wait until they are complete.
    pub fn spool(&self) -> PathBuf {
        match &self.home {
            Home::Registry { .. } => super::spool::folder(),
            Home::Layout { layout, .. } => layout.blobs(),
        }
    }

    /// Writes a blob.
    pub async fn put(&self, mut blob: Spool) -> Result<(), Failure> {
        match &self.home {
            Home::Registry { client, reference } => {
                let digest = blob.digest;
                let file = blob.reader().map_err(|e| internal(&e))?;
                Ok(client.push_blob_from(reference, &digest, file).await?)
            }
            Home::Layout { layout, .. } => layout.keep(blob),
        }
    }

    /// Writes a manifest that an index names, under its digest alone.
    pub async fn put_manifest(&self, kind: &str, manifest: Bytes) -> Result<Digest, Failure> {
        let digest = Digest::sha256(&manifest);
        match &self.home {
            Home::Registry { client, reference } => {
                let by_digest = Reference { tag: None, ..reference.with_digest(digest) };
                Ok(client.push_manifest(&by_digest, kind, manifest).await?)
            }
            Home::Layout { layout, .. } => {
                self.put_small(layout, digest, &manifest)?;
                Ok(digest)
            }
        }
    }

    /// Gives the image its name: the last step.
    pub async fn publish(&self, kind: &str, manifest: Bytes) -> Result<Digest, Failure> {
        match &self.home {
            Home::Registry { client, reference } => {
                Ok(client.push_manifest(reference, kind, manifest).await?)
            }
            Home::Layout { layout, tag } => {
                let digest = Digest::sha256(&manifest);
                self.put_small(layout, digest, &manifest)?;
                layout.tag(tag.as_deref(), kind, &digest, manifest.len())?;
                Ok(digest)
            }
        }
    }

    fn put_small(&self, layout: &Layout, digest: Digest, bytes: &[u8]) -> Result<(), Failure> {
        let (spool, ()) = Spool::write(&self.spool(), |out| out.write_all(bytes).map(|()| (digest, ())))
            .map_err(|e| internal(&e))?;
        layout.keep(spool)
    }
}

impl Blob {
    /// The next piece.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Blob::Registry(stream) => Ok(stream.chunk().await?),
            Blob::File(file) => {
                let mut piece = vec![0; CHUNK];
                let n = file.read(&mut piece).map_err(|e| internal(&e))?;
                piece.truncate(n);
                Ok((n > 0).then(|| piece.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cocoon_stage::Code;

    use super::*;

    #[test]
    fn layouts_are_told_from_names() {
        assert!(layout_of("registry.example/a:1").is_none() && layout_of("oci.example/a").is_none());
        assert_eq!(layout_of("oci:/a/b").unwrap().unwrap(), (Path::new("/a/b"), None));
        assert_eq!(layout_of("oci:b:v1").unwrap().unwrap(), (Path::new("b"), Some("v1")));
        for bad in ["oci:", "oci::t", "oci:a:", "oci:a:\n"] {
            assert!(layout_of(bad).unwrap().is_err(), "{bad:?}");
        }
        let pinned = format!("a@{}", Digest::sha256(b""));
        assert_eq!(Place::target(&pinned).err().unwrap().code, Code::UsageInvalid);
    }
}
