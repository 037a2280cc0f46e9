//! A cluster to try things on: `cargo run -p cocoon-tests --example cluster -- [--plain] [--owner]`, as root.
//!
//! It runs until standard input ends or Ctrl-C, and is then wholly gone. It prints a kubeconfig that works from this machine's own
//! network (connections are carried into the cluster's), and how to come to its node.
//!
//! - `--plain`: without Cocoon's runtime, as an installer finds it; otherwise containerd knows `cocoon` (`COCOON_SHIM_BIN`).
//! - `--owner`: with a Trustee that accepts the guests of `COCOON_GUEST_IMAGE` (`COCOON_BIN` too must be set).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};
use cocoon_tests::containerd::Node;
use cocoon_tests::kubernetes::{Cluster, Options};

fn main() -> Result<()> {
    let mut options = Options { owner: false, ..Options::cocoon() };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--plain" => options.runtime = false,
            "--owner" => options.owner = true,
            other => bail!("{other} is not known (--plain, --owner)"),
        }
    }
    // It stays in this machine's network, while all that is started from here on is in the cluster's.
    let outside = TcpListener::bind("127.0.0.1:0")?;
    let port = outside.local_addr()?.port();
    let Some(cluster) = Cluster::start(options)? else { bail!("there is no cluster") };
    std::thread::spawn(move || carry(&outside));

    let file = cluster.node().folder().join("kubeconfig");
    let inside = std::fs::read_to_string(cluster.kubeconfig())?;
    std::fs::write(&file, inside.replace("https://10.88.0.1:6443", &format!("https://127.0.0.1:{port}")))?;
    let mut out = std::io::stdout();
    writeln!(out, "export KUBECONFIG={}", file.display())?;
    let folders: Vec<String> = cluster.programs().folders().iter().map(|f| f.display().to_string()).collect();
    writeln!(out, "export PATH={}:$PATH", folders.join(":"))?;
    writeln!(out, "# image:    {}", cluster.image())?;
    writeln!(out, "# registry: {} (all image names lead there)", cluster.registry().address())?;
    writeln!(out, "# node:     nsenter --net --mount --pid --target {}", cluster.node().init())?;
    if let Ok(owner) = cluster.owner() {
        writeln!(out, "# trustee:  {}", owner.trustee().url())?;
    }
    writeln!(out, "# logs:     {}", cluster.node().folder().join("parts").display())?;
    writeln!(out, "# It ends with Ctrl-C, or with its standard input.")?;
    out.flush()?;

    let (end, ended) = mpsc::channel();
    let of_input = end.clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = of_input.send(());
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(async move {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
        let terminated = async {
            match &mut term {
                Some(term) => drop(term.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! { _ = tokio::signal::ctrl_c() => {}, () = terminated => {} }
        let _ = end.send(());
    });
    ended.recv().context("nothing ends it")?;
    drop(cluster);
    runtime.shutdown_background();
    Ok(())
}

/// Carries connections to the API. It is called on a thread that is in the cluster's network.
fn carry(outside: &TcpListener) {
    let Ok(api) = format!("{}:6443", Node::ADDRESS).parse::<SocketAddr>() else { return };
    for from in outside.incoming().flatten() {
        std::thread::spawn(move || {
            let to = TcpStream::connect(api)?;
            let (mut from_read, mut to_write) = (from.try_clone()?, to.try_clone()?);
            std::thread::spawn(move || copy(&mut from_read, &mut to_write));
            let (mut to_read, mut from_write) = (to, from);
            copy(&mut to_read, &mut from_write);
            std::io::Result::Ok(())
        });
    }
}

/// Copies to the end of one side, and says so to the other.
fn copy(from: &mut TcpStream, to: &mut TcpStream) {
    let mut buffer = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let Some(bytes) = buffer.get(..n) else { break };
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
