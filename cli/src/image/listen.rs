//! Where the key provider listens: loopback, or a unix socket of its user alone.

use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_rpc::{Door, RpcLimits, serve_key_provider};
use cocoon_stage::{Code, Failure};
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::net::{TcpListener, UnixListener};

use super::keyprovider::KeyProvider;
use super::usage;
use crate::signals::Signals;

/// Most bytes of a request or an answer.
const MAX_MESSAGE: usize = 1 << 20;

/// A socket's file, removed at the end.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn failed(address: &str, e: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::HostUnsupported, format!("cannot listen on {address}: {e}"))
}

/// Serves until a signal comes.
pub async fn serve(address: &str, insecure: bool, provider: KeyProvider) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let (door, shown, _file) = match address.strip_prefix("unix:") {
        Some(path) => {
            let (door, file) = unix(Path::new(path.trim_start_matches("//")))?;
            (door, format!("unix:{}", file.0.display()), Some(file))
        }
        None => {
            let (door, bound) = tcp(address, insecure).await?;
            (door, bound.to_string(), None)
        }
    };
    eprintln!("cocoon: key provider on {shown}");
    let limits =
        RpcLimits { connections: 64, streams: 16, message_bytes: MAX_MESSAGE, ..RpcLimits::default() };
    let stopped = async {
        signals.next().await;
    };
    serve_key_provider(door, Arc::new(provider), limits, stopped)
        .await
        .map_err(|e| Failure::new(Code::Internal, e.to_string()))
}

async fn tcp(address: &str, insecure: bool) -> Result<(Door, SocketAddr), Failure> {
    let wanted: SocketAddr = address
        .parse()
        .map_err(|_| usage(format!("--listen {address:?} is neither ADDRESS:PORT nor unix:PATH")))?;
    if !wanted.ip().to_canonical().is_loopback() && !insecure {
        return Err(usage(format!(
            "--listen {address}: other machines could reach it, and nothing is authenticated there; \
             --insecure-listen allows it"
        )));
    }
    let listener = TcpListener::bind(wanted).await.map_err(|e| failed(address, &e))?;
    let bound = listener.local_addr().map_err(|e| failed(address, &e))?;
    Ok((Door::Tcp(listener), bound))
}

fn unix(path: &Path) -> Result<(Door, SocketFile), Failure> {
    let shown = path.display().to_string();
    // What a provider that was killed left behind; a living one answers.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).map_err(|e| failed(&shown, &e))?;
    }
    // Made with its mode, not given it afterwards.
    let before = umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(|e| failed(&shown, &e))?;
    Ok((Door::Unix(listener), SocketFile(path.to_owned())))
}
