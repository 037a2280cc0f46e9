//! OCI images as bytes: names, digests, manifests, the layer pipeline, ocicrypt encryption
//! and unpacking.
//!
//! Contract: no network and no clock. Everything that comes in (manifests, annotations, layer bytes) was chosen
//! by an untrusted registry; every parser here is bounded, and nothing is called verified before its last byte
//! was. The only side effect in the crate is [`unpack`], which writes below one directory descriptor and never
//! outside it. It runs on both sides of the trust boundary: in the guest it decides what a container is made of,
//! on the owner's machine it encrypts.
//!
//! A layer flows through plain [`std::io::Read`] adaptors with fixed buffers, so the heap does not grow with it:
//! size and digest → decrypt (AES-256-CTR, HMAC at the end) → gzip or zstd → diff id → tar → directory.

pub mod digest;
pub mod encryption;
mod error;
pub mod layer;
pub mod manifest;
pub mod media_type;
mod platform;
pub mod reference;
pub mod registries;
pub mod tar;
pub mod unpack;

pub use digest::{Algorithm, Digest, Hasher};
pub use encryption::AnnotationPacket;
pub use error::Error;
pub use layer::{Decompressor, DiffIdReader, LayerKey, LayerPipeline, open_blob};
pub use manifest::{
    Config, ContainerConfig, Descriptor, Document, Index, MAX_CONFIG_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES,
    Manifest,
};
pub use media_type::{Compression, MediaType};
pub use platform::Platform;
pub use reference::Reference;
pub use unpack::{Account, Budget, Limits, UnpackOptions, remove_tree, restore, unpack, unpack_layer};
