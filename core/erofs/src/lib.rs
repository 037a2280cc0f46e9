//! Layers as read-only block devices: an EROFS image of a layer's tar, made deterministically, and the dm-verity hash
//! tree over it.
//!
//! Contract: no network and no clock; everything that comes in was chosen by an untrusted registry. The same tar
//! bytes give the same device on any machine, for any user, at any time: its root hash can be computed by the owner
//! and checked in the guest while the host makes and keeps the device. It runs on all three sides; only a root hash
//! that came with the plan makes a device trusted.
//!
//! Format "shared layer, version 1", in blocks of 4096 bytes: the EROFS image ([`build`]), its last block padded with
//! zeros; directly behind it the hash tree of dm-verity ([`verity`]). Where a layer is encrypted, the image's blocks
//! are ciphertext ([`cipher`]), and the tree is over that.
//!
//! The image is one layer's own tree, for overlayfs to stack: what a layer deletes is in it as character devices 0:0
//! and as directories marked `trusted.overlay.opaque`. Where the *root* of a layer is opaque the kernel does not
//! look; who stacks layers leaves out those below it.

mod builder;
pub mod cipher;
mod disk;
mod error;
mod finish;
mod key;
mod ledger;
mod output;
mod tree;
pub mod verity;

use std::fs::File;
use std::io::BufRead;

pub use error::Error;
pub use key::derive_key;

/// What was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Bytes of the tar stream, to its end.
    pub diff_bytes: u64,
    /// Length of the image in blocks of 4096 bytes: dm-verity's data blocks.
    pub image_blocks: u64,
    /// Entries of the tar, whiteouts included.
    pub entries: u64,
}

/// Builds the EROFS image of one layer's uncompressed tar into `out`, an empty file open for
/// reading and writing, and reads the stream to its end.
///
/// Entries are held to the same rules as by [`cocoon_image::unpack`], with the same refusals. Differences, because a
/// layer stands alone here: a whiteout `.wh.NAME` becomes a character device 0:0 of that name (mode 0, of 1970)
/// unless the layer has an entry of the name, which wins and, if a directory, is marked opaque; `.wh..wh..opq` marks
/// its directory opaque; a hard link to what is not in this layer is refused; directories that no entry describes are
/// 0755, root's, of 1970, and marked as [`cocoon_image::unpack::implied`] says. Directories implied by names count as
/// entries.
///
/// Memory: about 150 bytes and the name for each entry, at most about 256 MiB; a layer that needs more is too large.
/// Content flows through. Nothing is synced. On an error `out` holds garbage, for the caller to delete.
///
/// # Errors
/// [`Error::Layer`] with what unpacking would say (`Unsafe`, `Corrupt`, `TooLarge`, or what the reader gives);
/// [`Error::Device`] where `out` is not empty or fails.
pub fn build(tar: impl BufRead, out: &File, limits: &cocoon_image::Limits) -> Result<Built, Error> {
    builder::build(tar, out, limits)
}
