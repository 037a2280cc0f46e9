//! What can go wrong with a vsock device, a listener or a connection.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cocoon_stage::{Code, Failure};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The vhost-user socket could not be made.
    #[error("vhost-user socket {path}: {source}")]
    Socket {
        /// Where the socket was to be.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The in-process device could not be set up.
    #[error("vsock device: {0}")]
    Device(String),
    /// Somebody already listens on the port.
    #[error("vsock port {0} is already listened on")]
    PortInUse(u32),
    /// Nobody listens on the guest's port, or the guest reset the attempt.
    #[error("the guest refused the connection to vsock port {0}")]
    Refused(u32),
    /// The guest did not answer a connection request.
    #[error("the guest did not answer on vsock port {port} within {after:?}")]
    Timeout {
        /// The guest's port.
        port: u32,
        /// How long it had.
        after: Duration,
    },
    /// All connections that one guest may have are in use.
    #[error("the guest has the most vsock connections allowed")]
    TooManyConnections,
    /// QEMU closed the device or it was shut down.
    #[error("the vsock device is closed: the VM has ended")]
    Closed,
    /// The kernel's vsock failed.
    #[error("kernel vsock: {0}")]
    Kernel(#[source] io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Timeout { .. } => Code::BootTimeout,
            Error::Closed => Code::BootQemuFailed,
            Error::Refused(_) => Code::BootGuestFailed,
            Error::Socket { source, .. } if source.kind() == io::ErrorKind::StorageFull => Code::BootDiskFull,
            Error::Socket { .. } | Error::Device(_) | Error::PortInUse(_) => Code::HostUnsupported,
            Error::Kernel(_) => Code::HostUnsupported,
            Error::TooManyConnections => Code::ServeFailed,
        };
        Failure::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_guest_is_a_boot_timeout() {
        let f = Failure::from(Error::Timeout { port: 1024, after: Duration::from_secs(5) });
        assert_eq!(f.code, Code::BootTimeout);
        assert!(f.reason.contains("1024"));
    }
}
