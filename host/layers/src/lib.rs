//! The node's cache of layers as block devices, content-addressed, shared by the pods of the node.
//!
//! A shared layer, version [`FORMAT_VERSION`], is one file: the blocks of an EROFS image of 4096 bytes each, then the
//! dm-verity hash tree over them (SHA-256, no salt, no superblock). Its name is the tree's root hash.
//!
//! ```text
//! <folder>/layers/<root>   the layer; 0400; its modification time is that of its last use
//! <folder>/index/<key>     which root a diff id has, JSON: a hint that saves a conversion, nothing more
//! <folder>/locks/<key>     held while a layer is made, so that pods do not make it twice; as long as the layer so far
//! <folder>/tmp             layers being made, without names where the file system can; else locked by who makes them
//! ```
//!
//! Contract: nobody trusts the cache. A guest checks every block that it reads against the root hash in its plan, and
//! an owner takes a root from [`Roots`], its own records, which only hold what its own process computed. The cache
//! must never serve a layer under another root than its own, never remove what a pod uses, never leave anything behind
//! by a failure, and never be wrong after one: processes may be killed at any moment.
//! Locks are `flock`s on open files, so they end with their process: the folder must be on a local file system.

mod cache;
mod convert;
mod error;
mod evict;
mod fetch;
mod folder;
mod index;
mod lease;
mod locks;
mod prepare;
mod roots;
mod shape;
mod source;
mod temp;

pub use cache::{Cache, Pinned, Wanted};
pub use error::Error;
pub use evict::{Entry, Usage, Verdict};
pub use fetch::{fetch, silent};
pub use lease::Lease;
pub use prepare::{OnProgress, Progress, prepare};
pub use roots::{DEFAULT_LIMIT, Known, Planned, Roots, plan_roots};
pub use source::{RegistrySource, Source};

/// The version of shared layers that this crate makes. Another EROFS layout or another tree is another version, with
/// other roots.
pub const FORMAT_VERSION: u32 = 1;

pub use cocoon_image::media_type::SHARED_ENCRYPTED;

/// Bytes of a block, of data and of the tree.
pub const BLOCK: u64 = 4096;
