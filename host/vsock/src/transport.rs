//! The two ways to a guest's vsock, behind one type.

use std::future::poll_fn;
use std::path::Path;
use std::time::Duration;

use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

use crate::stream::{ListenerKind, StreamKind, UserStream};
use crate::{Error, Listener, Stream, UserDevice};

/// How long a guest has to answer a connection request. Ports are connected to after the guest announced itself,
/// so this only bounds a guest that hangs.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// vsock of one guest.
pub enum Vsock {
    /// A vhost-user device in this process; the guest's context id is [`crate::GUEST_CID`].
    User(UserDevice),
    /// The kernel's vhost-vsock. All guests of a host share its ports: two listeners on one port collide
    /// ([`Error::Kernel`], address in use), and a listener drops connections of other guests.
    Kernel {
        /// The guest's context id, as given to QEMU.
        cid: u32,
    },
}

impl Vsock {
    /// An in-process device whose vhost-user socket is at `socket` (mode 0600, at most 107 bytes long).
    ///
    /// # Errors
    /// [`Error::Socket`] where the socket cannot be made, [`Error::Device`] where threads or eventfds cannot.
    pub fn user(socket: &Path) -> Result<Self, Error> {
        UserDevice::new(socket).map(Vsock::User)
    }

    /// The kernel's vsock to the guest with context id `cid` (3 or more).
    pub fn kernel(cid: u32) -> Self {
        Vsock::Kernel { cid }
    }

    /// Listens on a host port. Must be called within a Tokio runtime for [`Vsock::Kernel`].
    ///
    /// # Errors
    /// [`Error::PortInUse`], [`Error::Closed`] or [`Error::Kernel`].
    pub fn listen(&self, port: u32) -> Result<Listener, Error> {
        match self {
            Vsock::User(device) => {
                let shared = device.shared().clone();
                shared.with(|mux| mux.listen(port))?;
                Ok(Listener(ListenerKind::User { shared, port }))
            }
            Vsock::Kernel { cid } => {
                let address = VsockAddr::new(VMADDR_CID_ANY, port);
                let listener = VsockListener::bind(address).map_err(Error::Kernel)?;
                Ok(Listener(ListenerKind::Kernel { listener, cid: *cid }))
            }
        }
    }

    /// Connects to a port of the guest. Waits for the guest's driver too, at most ten seconds in all.
    ///
    /// # Errors
    /// [`Error::Refused`] where nobody listens, [`Error::Timeout`], [`Error::TooManyConnections`],
    /// [`Error::Closed`] or [`Error::Kernel`].
    pub async fn connect(&self, port: u32) -> Result<Stream, Error> {
        let timeout = Error::Timeout { port, after: CONNECT_LIMIT };
        match self {
            Vsock::User(device) => {
                let shared = device.shared().clone();
                let id = shared.with(|mux| mux.connect(port))?;
                // Owns the attempt: dropping this future withdraws it.
                let stream = UserStream { shared, id };
                let connected = poll_fn(|cx| stream.shared.with(|mux| mux.poll_connected(id, cx)));
                tokio::time::timeout(CONNECT_LIMIT, connected).await.map_err(|_| timeout)??;
                Ok(Stream(StreamKind::User(stream)))
            }
            Vsock::Kernel { cid } => {
                let connecting = VsockStream::connect(VsockAddr::new(*cid, port));
                let stream = tokio::time::timeout(CONNECT_LIMIT, connecting).await.map_err(|_| timeout)?;
                match stream {
                    Ok(stream) => Ok(Stream(StreamKind::Kernel(stream))),
                    Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Err(Error::Refused(port)),
                    Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Err(Error::Refused(port)),
                    Err(e) => Err(Error::Kernel(e)),
                }
            }
        }
    }
}
