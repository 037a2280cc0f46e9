//! containerd as a node runs it, in the versions that Debian carries, with pods as kubelet asks for them.
//!
//! - [`Node`]: namespaces in which all of it lives and with which all of it ends.
//! - [`Version`]: which containerd.
//! - [`Containerd`]: one that runs, can be killed and started again.
//! - [`Snapshotter`]: Cocoon's own, where a node has it.
//! - [`Cri`]: kubelet's side of the Container Runtime Interface; [`Stream`]: exec, attach and port forwarding.
//! - [`PodWish`], [`ContainerWish`], [`Pod`]: pods and what becomes of them.
//! - [`Disk`]: a disk of the node's.
//! - [`Owner`]: who plans workloads and registers them with Trustee.
//! - [`Snapshotter`]: Cocoon's snapshotter, which keeps images off the node.
//! - [`Story`], [`Machine`]: all of these together, and the question what is left at the end.

mod config;
pub mod cri;
mod daemon;
mod disk;
mod node;
mod owner;
mod peer;
mod pod;
mod snapshotter;
mod story;
mod stream;
mod wish;

pub(crate) use config::network_from;
pub use cri::Cri;
pub use daemon::{Containerd, Setup, shim_program};
pub use disk::Disk;
pub use node::{Node, Process};
pub use owner::{ANNOTATION, COCO_ANNOTATION, Owner};
pub use peer::Version;
pub use pod::{Ended, Pod};
pub use snapshotter::Snapshotter;
pub use story::{Machine, Story};
pub use stream::{Forward, Stream};
pub use wish::{ContainerWish, PodWish};
