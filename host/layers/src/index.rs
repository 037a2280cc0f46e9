//! Which root a layer has: a small file for each, by what names the layer in its image.

use std::path::PathBuf;

use cocoon_image::{Descriptor, Digest};
use serde::{Deserialize, Serialize};

use crate::{Error, FORMAT_VERSION, SHARED_ENCRYPTED, folder, lease, shape};

/// Longest entry, in bytes.
const MAX_ENTRY: u64 = 4096;

/// What names a layer: its diff id or, where it is an encrypted shared layer, its blob's digest, since one plaintext
/// has as many ciphertexts as keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn of(diff_id: &Digest, descriptor: &Descriptor) -> Key {
        let name = |kind, digest: &Digest| Key(format!("{kind}-{}", digest.to_string().replace(':', "-")));
        match descriptor.media_type == SHARED_ENCRYPTED {
            true => name("blob", &descriptor.digest),
            false => name("diff", diff_id),
        }
    }

    /// As a file's name.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

/// A layer's root and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rooted {
    pub(crate) root: [u8; 32],
    pub(crate) blocks: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    key: String,
    diff_id: Digest,
    root: String,
    blocks: u64,
    format_version: u32,
}

/// A folder of such files. It must be private already.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    folder: PathBuf,
}

impl Index {
    pub(crate) fn new(folder: PathBuf) -> Index {
        Index { folder }
    }

    /// What is known of the layer in the present format. A damaged entry is none.
    pub(crate) fn get(&self, key: &Key) -> Option<Rooted> {
        self.read(key.name()).map(|(_, rooted)| rooted)
    }

    pub(crate) fn put(&self, key: &Key, diff_id: &Digest, rooted: Rooted) -> Result<(), Error> {
        let stored = Stored {
            key: key.0.clone(),
            diff_id: *diff_id,
            root: hex::encode(rooted.root),
            blocks: rooted.blocks,
            format_version: FORMAT_VERSION,
        };
        let text = serde_json::to_vec(&stored).map_err(|_| Error::Interrupted)?;
        folder::write_small(&self.folder, key.name(), &text)
    }

    /// All entries that can be read: key, diff id and root.
    pub(crate) fn all(&self) -> Vec<(String, Digest, Rooted)> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        names.filter_map(|name| self.read(&name).map(|(diff_id, rooted)| (name, diff_id, rooted))).collect()
    }

    pub(crate) fn forget(&self, name: &str) {
        // A missing entry costs a conversion, a stale one nothing.
        let _ = std::fs::remove_file(self.folder.join(name));
    }

    fn read(&self, name: &str) -> Option<(Digest, Rooted)> {
        let bytes = folder::read_small(&self.folder.join(name), MAX_ENTRY)?;
        let stored: Stored = serde_json::from_slice(&bytes).ok()?;
        let root = lease::root_of(&stored.root)?;
        let good = stored.key == name
            && stored.format_version == FORMAT_VERSION
            && (1..=shape::MAX_BLOCKS).contains(&stored.blocks);
        good.then_some((stored.diff_id, Rooted { root, blocks: stored.blocks }))
    }
}
