//! Listeners and streams as the host's tasks see them, over either transport.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_vsock::{VsockListener, VsockStream};

use crate::connection::{ReadOutcome, WriteOutcome};
use crate::device::Shared;
use crate::mux::Id;

/// Connections that the guest opens to one host port.
pub struct Listener(pub(crate) ListenerKind);

pub(crate) enum ListenerKind {
    User { shared: Arc<Shared>, port: u32 },
    Kernel { listener: VsockListener, cid: u32 },
}

impl Listener {
    /// The next connection of the guest; `None` once the VM has ended. Safe to cancel.
    pub async fn accept(&mut self) -> Option<Stream> {
        match &mut self.0 {
            ListenerKind::User { shared, port } => {
                let id = poll_fn(|cx| shared.with(|mux| mux.poll_accept(*port, cx))).await?;
                Some(Stream(StreamKind::User(UserStream { shared: shared.clone(), id })))
            }
            ListenerKind::Kernel { listener, cid } => loop {
                match listener.accept().await {
                    // Other guests of this host share the kernel's port space.
                    Ok((stream, peer)) if peer.cid() == *cid => {
                        return Some(Stream(StreamKind::Kernel(stream)));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "vsock accept failed");
                        return None;
                    }
                }
            },
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenerKind::User { shared, port } = &self.0 {
            shared.with(|mux| mux.unlisten(*port));
        }
    }
}

/// A byte stream to the guest.
///
/// `shutdown` half-closes: the guest reads to the end and may still send. Dropping it closes both directions; what
/// was written before is still delivered. Reading after the guest or the VM broke off gives `ConnectionReset`,
/// writing gives `BrokenPipe`.
pub struct Stream(pub(crate) StreamKind);

pub(crate) enum StreamKind {
    User(UserStream),
    Kernel(VsockStream),
}

/// A connection of the in-process device, also while it is being made.
pub(crate) struct UserStream {
    pub shared: Arc<Shared>,
    pub id: Id,
}

impl Drop for UserStream {
    fn drop(&mut self) {
        self.shared.with(|mux| mux.detach(self.id));
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            StreamKind::Kernel(stream) => Pin::new(stream).poll_read(cx, buf),
            StreamKind::User(stream) => {
                let outcome = stream.shared.with(|mux| mux.read(stream.id, buf.initialize_unfilled(), cx));
                match outcome {
                    ReadOutcome::Bytes(n) => {
                        buf.advance(n);
                        Poll::Ready(Ok(()))
                    }
                    ReadOutcome::End => Poll::Ready(Ok(())),
                    ReadOutcome::Broken => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                    ReadOutcome::Wait => Poll::Pending,
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            StreamKind::Kernel(stream) => Pin::new(stream).poll_write(cx, buf),
            StreamKind::User(stream) => match stream.shared.with(|mux| mux.write(stream.id, buf, cx)) {
                WriteOutcome::Bytes(n) => Poll::Ready(Ok(n)),
                WriteOutcome::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                WriteOutcome::Wait => Poll::Pending,
            },
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            StreamKind::Kernel(stream) => Pin::new(stream).poll_flush(cx),
            // Written bytes are already the device's; it sends them as the guest grants credit.
            StreamKind::User(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            StreamKind::Kernel(stream) => Pin::new(stream).poll_shutdown(cx),
            StreamKind::User(stream) => {
                stream.shared.with(|mux| mux.finish_writing(stream.id));
                Poll::Ready(Ok(()))
            }
        }
    }
}
