//! The shim itself: serves containerd until it is told to end.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::shim_async::create_task;
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::r#async::{Server, Service};
use ttrpc::asynchronous::transport::Listener;

use crate::args::Args;
use crate::container;
use crate::options::Source;
use crate::publish::Publisher;
use crate::service::TaskService;
use crate::shim::Shim;
use crate::state::Record;

/// How long containerd may take for the last events.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// How long the answer to the last request may take.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The names under which containerd 1.6 and 1.7, and 2.x, look for the same service.
const NAMES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// Serves the pod of `bundle` on the listener that is standard input.
///
/// # Errors
/// The system's.
pub fn serve(args: Args, bundle: &Path) -> io::Result<()> {
    // A group and session of its own already where `start` made it; a terminal must not end pods.
    let _ = rustix::process::setsid();
    let listener = listener()?;
    // One thread for everything but guest memory, whose device has its own: little to do, many things to wait for.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args, bundle, listener))
}

/// Standard input, which then is nothing any more.
fn listener() -> io::Result<UnixListener> {
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    // It fails for what is no socket.
    listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let null = std::fs::OpenOptions::new().read(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(listener)
}

async fn run(args: Args, bundle: &Path, listener: UnixListener) -> io::Result<()> {
    let socket = listener.local_addr().ok().and_then(|a| a.as_pathname().map(Path::to_owned));
    let events = Publisher::new(std::env::var("TTRPC_ADDRESS").ok(), &args.namespace);
    let shim = Arc::new(Shim::new(args, bundle.to_owned(), Source::find(None), events.clone()));
    let mut server =
        Server::new().add_listener(Listener::from(tokio::net::UnixListener::from_std(listener)?));
    for name in NAMES {
        server = server.register_service(service(&shim, name));
    }
    server.start().await.map_err(|e| io::Error::other(e.to_string()))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");

    let mut asked = shim.done.subscribe();
    let mut ended = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = asked.wait_for(|done| *done) => break,
            _ = ended.recv() => break,
            _ = interrupted.recv() => {}
        }
    }
    // First of all, while it still listens: whoever starts a pod of the same id from now on gets a shim of its own, and the
    // name is not taken from that one later.
    if let Some(socket) = socket {
        let _ = std::fs::remove_file(socket);
    }
    let cgroups = shim.vm().ok().and_then(|vm| vm.cgroups.clone());
    container::close(&shim).await;
    events.flush(LAST_EVENTS).await;
    server.stop_listen().await;
    let _ = tokio::time::timeout(LAST_ANSWERS, server.disconnect()).await;
    let left = cgroups.or_else(|| {
        let record = Record::read(bundle)?;
        crate::cgroup::Cgroups::of(&record.cgroups_path)
    });
    if let Some(cgroups) = left {
        cgroups.leave();
    }
    tracing::info!("done");
    Ok(())
}

/// The service under another name than its own.
fn service(shim: &Arc<Shim>, name: &str) -> HashMap<String, Service> {
    let made = create_task(Arc::new(TaskService(shim.clone())));
    made.into_values().map(|service| (name.to_owned(), service)).collect()
}
