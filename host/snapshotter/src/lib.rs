//! The proxy snapshotter: containerd asks it for root file systems that only the guest sees.
//!
//! A confidential pod's images are pulled in the guest, or come as disks from the node's layer cache; containerd needs
//! no layer of them. It asks before it fetches one, with a label that names the result (`containerd.io/snapshot.ref`):
//! the answer here is always that the result exists already. So a pull through CRI brings manifest and config alone.
//!
//! ```text
//! <folder>/lock               held by the process that serves the folder
//! <folder>/records/<id>.json  a snapshot; written whole or not at all
//! <folder>/snapshots/<id>/fs  what containerd may mount of a snapshot that is not committed; no layer is ever in it
//! <folder>/trash              on its way out
//! ```
//!
//! Contract: host side, trusted by nobody. A container's directory is empty but for a made-up `/etc/passwd` and
//! `/etc/group` ([`Accounts`]), which let containerd look up the image's user; the guest decides on the user itself.
//! States are containerd's own snapshotters': a crash at any moment leaves a folder that the next start makes good.

mod accounts;
mod content;
mod error;
mod filter;
mod record;
mod rooms;
mod service;
mod store;

pub use accounts::Accounts;
pub use content::ImageUsers;
pub use error::Error;
pub use service::{Snapshotter, server};
pub use store::{Kind, Snapshot, Store};

/// The messages, as containerd knows them.
#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unused,
    nonstandard_style
)]
mod api {
    pub mod snapshots {
        include!(concat!(env!("OUT_DIR"), "/snapshots.rs"));
    }
    pub mod content {
        include!(concat!(env!("OUT_DIR"), "/content.rs"));
    }
}
