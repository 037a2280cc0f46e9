//! containerd as a node runs it, in the versions that Debian carries, with pods as kubelet asks for them.
//!
//! - [`Node`]: namespaces in which all of it lives and with which all of it ends.
//! - [`Version`]: which containerd.
//! - [`Containerd`]: one that runs, can be killed and started again.
//! - [`Cri`]: kubelet's side of the Container Runtime Interface; [`Stream`]: exec, attach and port forwarding.
//! - [`PodWish`], [`ContainerWish`], [`Pod`]: pods and what becomes of them.
//! - [`Owner`]: who plans workloads and registers them with Trustee.
//! - [`Story`], [`Machine`]: all of these together, and the question what is left at the end.

mod config;
pub mod cri;
mod daemon;
mod node;
mod owner;
mod peer;
mod pod;
mod story;
mod stream;
mod wish;

pub(crate) use config::network;
pub use cri::Cri;
pub use daemon::{Containerd, Setup, shim_program};
pub use node::{Node, Process};
pub use owner::{ANNOTATION, COCO_ANNOTATION, Owner};
pub use peer::Version;
pub use pod::{Ended, Pod};
pub use story::{Machine, Story};
pub use stream::{Forward, Stream};
pub use wish::{ContainerWish, PodWish};
