//! From a layer's blob to a shared layer: verified to its last byte, converted, with its tree.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use cocoon_erofs::verity;
use cocoon_image::digest::VerifyingReader;
use cocoon_image::{Descriptor, Digest, LayerPipeline, Limits, MediaType};

use crate::index::Rooted;
use crate::temp::Temp;
use crate::{BLOCK, Error, Pinned, SHARED_ENCRYPTED, shape};

/// Uncompressed bytes are read this many at a time.
const BUFFER: usize = 256 << 10;

/// A layer grows by about this part of its limit before it asks for room again, at least [`BUFFER`] and at most
/// [`LARGEST_STEP`].
const STEPS: u64 = 64;
const LARGEST_STEP: u64 = 16 << 20;

/// What a layer may be.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<'a> {
    /// The most that its file may have.
    pub(crate) bytes: u64,
    /// What it must be.
    pub(crate) pinned: Option<Pinned>,
    /// Asked for room as the file grows, with the bytes that it has; for the last time with what it will have.
    pub(crate) room: &'a dyn Fn(u64) -> Result<(), Error>,
}

/// A layer that only the guest can decrypt has nothing to share, whatever was recorded of one with the same diff id.
pub(crate) fn shareable(descriptor: &Descriptor) -> Result<(), Error> {
    let MediaType::Layer { encrypted: true, .. } = descriptor.kind() else { return Ok(()) };
    let why = format!(
        "layer {} is encrypted, so no host can share it: encrypt the image with `cocoon image encrypt --layers shared`, \
         or run with --layers guest",
        descriptor.digest
    );
    Err(Error::Image(cocoon_image::Error::Undecryptable(why)))
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
    bounds: Bounds<'_>,
) -> Result<Made, Error> {
    shareable(descriptor)?;
    let temp = Temp::create(tmp)?;
    let blocks = match descriptor.media_type == SHARED_ENCRYPTED {
        true => store(&temp, descriptor, blob, bounds)?,
        false => convert(&temp, diff_id, descriptor, blob, bounds)?,
    };
    (bounds.room)(shape::file_bytes(blocks))?;
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
    bounds: Bounds<'_>,
) -> Result<u64, Error> {
    let pipeline = LayerPipeline::new(blob, descriptor, diff_id, None)?;
    let limits = Limits { total_bytes: bounds.bytes, ..Limits::default() };
    let tar = BufReader::with_capacity(BUFFER, Metered::new(pipeline, temp, bounds));
    // Reads to the end, so size, digest and diff id have been found right where it succeeds.
    let built = cocoon_erofs::build(tar, temp.file(), &limits).map_err(Error::making(temp.path()))?;
    Ok(built.image_blocks)
}

/// A layer's content; reading it asks for room for what has become of it.
struct Metered<'a, R> {
    inner: R,
    file: &'a File,
    room: &'a dyn Fn(u64) -> Result<(), Error>,
    step: u64,
    left: u64,
}

impl<'a, R> Metered<'a, R> {
    fn new(inner: R, temp: &'a Temp, bounds: Bounds<'a>) -> Self {
        let step = (bounds.bytes / STEPS).clamp(u64::try_from(BUFFER).unwrap_or(u64::MAX), LARGEST_STEP);
        Metered { inner, file: temp.file(), room: bounds.room, step, left: step }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.left = self.step;
            (self.room)(self.file.metadata()?.len()).map_err(io::Error::other)?;
        }
        let n = self.inner.read(buf)?;
        self.left = self.left.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

/// The blob is the data blocks themselves.
fn store(
    temp: &Temp,
    descriptor: &Descriptor,
    blob: impl Read + Send + 'static,
    bounds: Bounds<'_>,
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
    let blob = VerifyingReader::new(blob, digest, size, format!("layer {digest}"));
    let mut blob = Metered::new(blob, temp, bounds);
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
