//! vsock as the guest uses it: one listener for the host's requests, and streams to the host.

use std::io;

use cocoon_sandbox_api::{EVENTS_PORT, FORWARD_PORT, GUEST_PORT};
use futures::stream;
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener, VsockStream};
use ttrpc::asynchronous::transport::Listener;

/// Listens on [`GUEST_PORT`]. Only the host is let in: a process of a container that reached vsock (with an
/// unconfined system call filter) must not be able to play the host.
///
/// # Errors
/// The kernel's answer, where vsock is not there.
pub(crate) fn listen() -> io::Result<Listener> {
    let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, GUEST_PORT))?;
    Ok(Listener::new(stream::unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) if peer.cid() == VMADDR_CID_HOST => return Some((Ok(stream), listener)),
                Ok((_, peer)) => tracing::warn!("connection from vsock peer {} refused", peer.cid()),
                Err(e) => return Some((Err(e), listener)),
            }
        }
    })))
}

/// Connects to a port of the host.
///
/// # Errors
/// The kernel's answer, where nobody listens.
pub(crate) async fn connect(port: u32) -> io::Result<VsockStream> {
    VsockStream::connect(VsockAddr::new(VMADDR_CID_HOST, port)).await
}

/// Connects the event stream; its arrival tells the host that the guest serves.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn connect_events() -> io::Result<VsockStream> {
    connect(EVENTS_PORT).await
}

/// Listens on [`FORWARD_PORT`], again for the host alone.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn listen_forward() -> io::Result<Forwards> {
    Ok(Forwards(VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, FORWARD_PORT))?))
}

/// The host's connections to [`FORWARD_PORT`].
pub(crate) struct Forwards(VsockListener);

impl crate::forward::Connections for Forwards {
    type Stream = VsockStream;

    async fn accept(&mut self) -> io::Result<VsockStream> {
        loop {
            match self.0.accept().await? {
                (stream, peer) if peer.cid() == VMADDR_CID_HOST => return Ok(stream),
                (_, peer) => tracing::warn!("connection from vsock peer {} refused", peer.cid()),
            }
        }
    }
}
