//! Where connections come in.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket; who may connect is a matter of its file's mode.
    Unix(UnixListener),
    /// A TCP socket, which must be on loopback.
    Loopback(TcpListener),
}

/// One connection.
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Listener::Loopback(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers must not wait for acknowledgements of earlier ones.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// Refuses what others than this machine could reach.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self {
            Listener::Unix(_) => Ok(()),
            Listener::Loopback(listener) if listener.local_addr()?.ip().to_canonical().is_loopback() => {
                Ok(())
            }
            Listener::Loopback(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "gRPC in the clear is served on loopback only",
            )),
        }
    }
}

/// Listens on a new unix socket that only its owner may connect to (mode 0600). A socket file that a process left
/// when it was killed is replaced; one where somebody answers, or another kind of file, is not. Two servers that start
/// on one path at the same moment are the caller's to keep apart.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] for such a file; what the system says.
pub fn bind_unix(path: &Path) -> io::Result<Listener> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
        Ok(found) => {
            let left = found.file_type().is_socket()
                && std::os::unix::net::UnixStream::connect(path)
                    .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
            if !left {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!("{} is in use", path.display()),
                ));
            }
            std::fs::remove_file(path)?;
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Listener::Unix(listener))
}
