//! From a layer's blob to a shared layer: verified to its last byte, converted, with its tree.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use cocoon_erofs::verity;
use cocoon_image::digest::VerifyingReader;
use cocoon_image::{Descriptor, Digest, LayerPipeline, Limits, MediaType};

use crate::index::Rooted;
use crate::temp::Temp;
use crate::{BLOCK, Error, Pinned, SHARED_ENCRYPTED, shape};

/// Uncompressed bytes are read this many at a time.
const BUFFER: usize = 256 << 10;

/// What a layer may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most that its file may have.
    pub(crate) bytes: u64,
    /// What it must be.
    pub(crate) pinned: Option<Pinned>,
}

/// A shared layer without a place.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) temp: Temp,
    pub(crate) rooted: Rooted,
}

/// Makes a shared layer of a blob, in a file in `tmp` that is gone again where something is wrong.
pub(crate) fn make(
    tmp: &Path,
    diff_id: Digest,
    descriptor: &Descriptor,
    blob: impl Read + Send + 'static,
    bounds: Bounds,
) -> Result<Made, Error> {
    let temp = Temp::create(tmp)?;
    let blocks = match descriptor.media_type == SHARED_ENCRYPTED {
        true => store(&temp, descriptor, blob, bounds)?,
        false => convert(&temp, diff_id, descriptor, blob, bounds)?,
    };
    let tree = verity::append(temp.file(), blocks).map_err(Error::making(temp.path()))?;
    let rooted = Rooted { root: tree.root, blocks };
    let shown = |root: &[u8; 32], blocks| format!("{} of {blocks} blocks", hex::encode(root));
    match bounds.pinned {
        Some(Pinned { root, blocks: pinned }) if (root, pinned) != (rooted.root, blocks) => {
            Err(Error::WrongRoot {
                diff_id: diff_id.to_string(),
                got: shown(&rooted.root, blocks),
                pinned: shown(&root, pinned),
            })
        }
        _ => Ok(Made { temp, rooted }),
    }
}

/// The blob is a tar, packed in some way.
fn convert(
    temp: &Temp,
    diff_id: Digest,
    descriptor: &Descriptor,
    blob: impl Read + Send + 'static,
    bounds: Bounds,
) -> Result<u64, Error> {
    if let MediaType::Layer { encrypted: true, .. } = descriptor.kind() {
        let why = format!(
            "layer {} is encrypted, so no host can share it: run with --layers guest",
            descriptor.digest
        );
        return Err(Error::Image(cocoon_image::Error::Undecryptable(why)));
    }
    let pipeline = LayerPipeline::new(blob, descriptor, diff_id, None)?;
    let limits = Limits { total_bytes: bounds.bytes, ..Limits::default() };
    let tar = BufReader::with_capacity(BUFFER, pipeline);
    // Reads to the end, so size, digest and diff id have been found right where it succeeds.
    let built = cocoon_erofs::build(tar, temp.file(), &limits).map_err(Error::making(temp.path()))?;
    Ok(built.image_blocks)
}

/// The blob is the data blocks themselves.
fn store(
    temp: &Temp,
    descriptor: &Descriptor,
    blob: impl Read + Send + 'static,
    bounds: Bounds,
) -> Result<u64, Error> {
    let (digest, size) = (descriptor.digest, descriptor.size);
    let blocks = size / BLOCK;
    if !size.is_multiple_of(BLOCK) || !(1..=shape::MAX_BLOCKS).contains(&blocks) {
        let why = format!("layer {digest} has {size} bytes, which are no whole blocks of {BLOCK}");
        return Err(Error::Image(cocoon_image::Error::Corrupt(why)));
    }
    if shape::file_bytes(blocks) > bounds.bytes {
        return Err(Error::Limit { bytes: shape::file_bytes(blocks), in_use: 0, limit: bounds.bytes });
    }
    let mut blob = VerifyingReader::new(blob, digest, size, format!("layer {digest}"));
    let (mut buffer, mut file) = (vec![0; BUFFER], temp.file());
    loop {
        let n = match blob.read(&mut buffer) {
            Ok(0) => return Ok(blocks),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::reading(e)),
        };
        let piece = buffer.get(..n).unwrap_or_default();
        std::io::Write::write_all(&mut file, piece).map_err(Error::io(temp.path()))?;
    }
}

/// Checks every block of a layer against its root.
pub(crate) fn check(file: &File, blocks: u64, root: &[u8; 32]) -> Result<(), Error> {
    verity::check(file, blocks, root)
        .map_err(|e| Error::Damaged { root: hex::encode(root), reason: e.to_string() })
}
