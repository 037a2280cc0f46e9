//! Guest images in a registry: an OCI artifact of type [`ARTIFACT`], one layer for each file with its name as the annotation
//! `org.opencontainers.image.title`, uncompressed; the config is OCI's empty one (image-spec 1.1, "Guidelines for Artifact Usage").
//!
//! Contract: registries are hostile. What is pulled has the digest that its user wrote, its signature where a key is given, the
//! files of a guest image and no others, each as its own manifest has it, and at most [`MOST_BYTES`] in all; anything else is
//! refused and leaves nothing behind.

mod pull;
mod push;

pub use pull::{Wish, pull};
pub use push::push;

/// The artifact's type.
pub const ARTIFACT: &str = "application/vnd.cocoon.guest.v1";
/// The media type of its files.
pub const FILE: &str = "application/vnd.cocoon.guest.file.v1";
/// The annotation with a file's name.
const TITLE: &str = "org.opencontainers.image.title";
/// OCI's empty config: its media type and its content.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");
/// The media type of an OCI manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The files of a guest image.
const FILES: [&str; 5] = ["firmware.bin", "initrd.img", "manifest.json", "reference-values.json", "vmlinuz"];
/// Most bytes of an image's files together: 1 GiB.
pub const MOST_BYTES: u64 = 1 << 30;
