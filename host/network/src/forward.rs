//! Connections to the pod's loopback, brought into the guest (`kubectl port-forward`).
//!
//! containerd enters the pod's namespace and connects to `localhost`. There, on the host, nobody would listen: the pod's
//! processes are in the guest. So somebody does, for the ports that the plan names, and passes each connection on.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rtnetlink::packet_route::link::LinkFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Error;
use crate::kernel::Kernel;
use crate::namespace::Namespace;

/// Connections of a pod at one time; more wait.
pub const MAX_CONNECTIONS: usize = 64;
/// Most ports of a pod: those of a plan, and the guest's proof.
pub const MAX_PORTS: usize = 1025;
/// How long the guest may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Before accepting again after a failure.
const BREATH: Duration = Duration::from_millis(100);
/// Longest answer of the guest, in bytes: `ok` or an error code.
const MAX_ANSWER: usize = 64;
/// Bytes on their way in each direction of a connection.
const BUFFER: usize = 16 * 1024;

/// Listens as long as it lives; dropping it ends its connections too.
#[derive(Debug)]
pub struct Forwarder {
    // Aborts its tasks when dropped.
    _listeners: JoinSet<()>,
}

/// Listens in the namespace on 127.0.0.1 and, where the namespace has IPv6, on ::1, at each of the ports. For each
/// connection `connect` gives the stream to the guest's port, and bytes pass both ways until both ends are through; where
/// it fails, the connection is reset. Must run inside a runtime. Blocks for the milliseconds that the kernel takes.
///
/// # Errors
/// [`Error::Namespace`], [`Error::HostNetwork`], [`Error::Kernel`] with the port that cannot be had, or
/// [`Error::Unsupported`] for more than [`MAX_PORTS`].
pub fn listen<C, F, S>(netns: &Path, ports: &[u16], connect: C) -> Result<Forwarder, Error>
where
    C: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut listeners = JoinSet::new();
    let ports: BTreeSet<u16> = ports.iter().copied().collect();
    if ports.is_empty() {
        return Ok(Forwarder { _listeners: listeners });
    }
    if ports.len() > MAX_PORTS {
        return Err(Error::unsupported("port forwarding", format!("takes at most {MAX_PORTS} ports")));
    }
    let namespace = Namespace::open(netns)?;
    if namespace.is_own()? {
        return Err(Error::HostNetwork);
    }
    let connect = Arc::new(connect);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for (port, listener) in open_all(&namespace, &ports)? {
        let listener =
            TcpListener::from_std(listener).map_err(Error::step(format!("listen on port {port}")))?;
        listeners.spawn(serve(listener, port, connect.clone(), slots.clone()));
    }
    Ok(Forwarder { _listeners: listeners })
}

/// Asks the guest, on a fresh stream to its [`cocoon_sandbox_api::FORWARD_PORT`], for a port of its loopback. The stream
/// then is the connection.
///
/// # Errors
/// `ConnectionRefused` with the guest's code, `InvalidData` where it answers something else, or the stream's own.
pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, port: u16) -> io::Result<S> {
    stream.write_all(format!("{port}\n").as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    loop {
        // Byte by byte: what follows the line is the connection's.
        match stream.read_u8().await? {
            b'\n' => break,
            byte if answer.len() < MAX_ANSWER && byte.is_ascii_graphic() => answer.push(byte),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the guest's answer is no code")),
        }
    }
    match answer.as_slice() {
        b"ok" => Ok(stream),
        code => {
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, String::from_utf8_lossy(code).into_owned()))
        }
    }
}

type Listeners = Vec<(u16, std::net::TcpListener)>;

fn open_all(namespace: &Namespace, ports: &BTreeSet<u16>) -> Result<Listeners, Error> {
    namespace.run_async(|| async {
        // Whoever made the namespace usually has; without it there is no 127.0.0.1.
        let kernel = Kernel::connect()?;
        let loopback =
            kernel.links().await?.into_iter().find(|l| l.header.flags.contains(LinkFlags::Loopback));
        if let Some(down) = loopback.filter(|l| !l.header.flags.contains(LinkFlags::Up)) {
            kernel.up(down.header.index).await?;
        }
        let mut opened = Vec::new();
        for port in ports {
            let four = bind(Ipv4Addr::LOCALHOST.into(), *port);
            opened.push((*port, four.map_err(Error::step(format!("listen on 127.0.0.1:{port}")))?));
            match bind(Ipv6Addr::LOCALHOST.into(), *port) {
                Ok(six) => opened.push((*port, six)),
                Err(e) if matches!(e.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)) => {}
                Err(e) => return Err(Error::step(format!("listen on [::1]:{port}"))(e)),
            }
        }
        Ok(opened)
    })
}

fn bind(address: IpAddr, port: u16) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(SocketAddr::new(address, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn serve<C, F, S>(listener: TcpListener, port: u16, connect: Arc<C>, slots: Arc<Semaphore>)
where
    C: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            // Ended ones are forgotten as they end.
            Some(_) = connections.join_next() => continue,
        };
        match client {
            Ok((client, _)) => {
                // Taken only now: listeners that wait must not hold what others' connections need.
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                let guest = connect(port);
                connections.spawn(async move {
                    pass(client, port, guest).await;
                    drop(slot);
                });
            }
            // The client's, or want of descriptors, which nobody announces the end of: not the listener's end.
            Err(error) => {
                tracing::warn!(%error, port, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

async fn pass<S>(mut client: TcpStream, port: u16, guest: impl Future<Output = io::Result<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connected = tokio::time::timeout(CONNECT_LIMIT, guest).await;
    let mut guest = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(guest) => guest,
        Err(error) => {
            tracing::debug!(%error, port, "the guest does not take a forwarded connection");
            // A reset: an orderly end would look like an empty answer.
            let _ = client.set_zero_linger();
            return;
        }
    };
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut guest, BUFFER, BUFFER).await;
}
