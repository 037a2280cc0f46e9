//! `cocoon node snapshotter`: the service that containerd asks for root file systems.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use cocoon_grpc::{Limits, bind_unix};
use cocoon_snapshotter::{ImageUsers, Snapshotter, Store, server};
use cocoon_stage::{Code, Failure};

use crate::admin::say;
use crate::args::SnapshotterArgs;
use crate::logging;
use crate::signals::Signals;

/// Serves until a signal; says `ready` on standard output, and to systemd, when it listens.
pub async fn main(args: &SnapshotterArgs) -> Result<(), Failure> {
    logging::set(cocoon_config::LogLevel::Warn);
    let mut signals = Signals::new()?;
    // The folder first: its lock says that nobody else serves it, and so that a socket file is a dead one's.
    let store = Store::open(&args.root)?;
    let unfit = |e: std::io::Error| {
        Failure::new(Code::HostUnsupported, format!("snapshotter: {}: {e}", args.socket.display()))
    };
    if let Some(folder) = args.socket.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(folder).map_err(unfit)?;
    }
    let listener = bind_unix(&args.socket).map_err(unfit)?;
    let users = (args.containerd != Path::new("none")).then(|| ImageUsers::new(&args.containerd));
    say("ready");
    notify("READY=1");
    let stopped = async {
        signals.next().await;
        notify("STOPPING=1");
    };
    let served = server(Snapshotter::new(store, users), Limits::default()).serve(listener, stopped).await;
    let _ = std::fs::remove_file(&args.socket);
    served.map_err(unfit)
}

/// Tells systemd (sd_notify(3)), where it asked to be told.
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let send = |address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address);
    if let Err(error) = address.and_then(send) {
        tracing::warn!(%error, "NOTIFY_SOCKET");
    }
}
