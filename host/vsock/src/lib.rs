//! vsock between the host's sandbox process and one pod VM.
//!
//! Contract: gives the host byte streams to and from ports of one guest, through the kernel (`/dev/vhost-vsock`)
//! or, where the host lacks it, through a vhost-user-vsock device that runs inside this process. It moves bytes
//! and nothing else: it authenticates nobody and keeps no secret. It must never let a guest make it panic, block
//! the process or grow memory without bound: a guest gets at most [`MAX_CONNECTIONS`] connections with a fixed
//! buffer each, and a packet that breaks the protocol resets its own connection only.
//!
//! Trust: host side (untrusted by the guest); the guest is untrusted by it in turn.
//!
//! Start QEMU with a shared memory backend and
//! `-chardev socket,id=vsock0,path=SOCK -device vhost-user-vsock-pci,chardev=vsock0` for [`Vsock::user`], or
//! `-device vhost-vsock-pci,guest-cid=CID` for [`Vsock::kernel`].

mod connection;
mod device;
mod error;
mod mux;
mod ring;
mod stream;
mod transport;
mod wire;

pub use device::UserDevice;
pub use error::Error;
pub use mux::MAX_CONNECTIONS;
pub use stream::{Listener, Stream};
pub use transport::Vsock;

/// The context id of the guest behind a [`UserDevice`]. One device serves one guest, so it never varies and
/// the guest's measurement does not depend on it.
pub const GUEST_CID: u32 = 3;

/// The well-known context id of the host (VIRTIO 1.2, 5.10.4).
pub const HOST_CID: u32 = 2;
