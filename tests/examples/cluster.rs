//! A cluster to try things on: `cargo run -p cocoon-tests --example cluster -- [FLAG…]`, as root.
//!
//! It runs until standard input ends or Ctrl-C, and is then wholly gone. It prints a kubeconfig that works from this machine's own
//! network (connections are carried into the cluster's), and how to come to its node.
//!
//! - `--plain`: without Cocoon's runtime, as an installer finds it; otherwise containerd knows `cocoon` (`COCOON_SHIM_BIN`).
//! - `--owner`: with a Trustee that accepts the guests of `COCOON_GUEST_IMAGE` (`COCOON_BIN` too must be set).
//! - `--open`: all pods that name no RuntimeClass are Cocoon's, in a developer's guest that needs no plan.
//! - `--run PROGRAM ARGUMENT…`: instead of waiting, runs a program in the cluster's network and ends when it ends, with its status.
//!   It finds in its environment: `KUBECONFIG`, `PATH` with Kubernetes' programs, and `CLUSTER_…`: `IMAGE`, `REGISTRY`, `FOLDER` (temporary),
//!   `CONTAINERD` (the program), `RESTART` (the command that restarts it), with an owner also `TRUSTEE`, `TRUSTEE_TOKEN`, `TRUSTEE_CERT`, `PODS` and
//!   `DATA` (the folders of a runtime class). At the end it is said which files of the node are not as they were; with `--plain` one is a failure.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};
use cocoon_tests::containerd::Node;
use cocoon_tests::kubernetes::{Cluster, Options};

struct Wanted {
    options: Options,
    run: Vec<String>,
}

fn arguments() -> Result<Wanted> {
    let mut wanted = Wanted { options: Options { owner: false, ..Options::cocoon() }, run: Vec::new() };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--plain" => wanted.options.runtime = false,
            "--owner" => wanted.options.owner = true,
            "--open" => wanted.options = Options::open(),
            "--run" => wanted.run = given.by_ref().collect(),
            other => bail!("{other} is not known (--plain, --owner, --open, --run PROGRAM…)"),
        }
    }
    Ok(wanted)
}

fn main() -> Result<ExitCode> {
    let wanted = arguments()?;
    // It stays in this machine's network, while all that is started from here on is in the cluster's.
    let outside = TcpListener::bind("127.0.0.1:0")?;
    let Some(cluster) = Cluster::start(wanted.options)? else { bail!("there is no cluster") };
    let (end, ended) = mpsc::channel();
    let runtime = ended_by_signals(end.clone())?;
    let status = match wanted.run.is_empty() {
        true => {
            show(&cluster, &outside)?;
            std::thread::spawn(move || carry(&outside));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                let _ = end.send(());
            });
            ended.recv().context("nothing ends it")?;
            0
        }
        false => run(cluster, &wanted, end, &ended)?,
    };
    runtime.shutdown_background();
    Ok(ExitCode::from(status))
}

/// Runs the program in a process group of its own, which ends with this program.
fn run(cluster: Cluster, wanted: &Wanted, end: mpsc::Sender<()>, ended: &mpsc::Receiver<()>) -> Result<u8> {
    let mut cluster = cluster;
    let (program, arguments) = wanted.run.split_first().context("--run needs a program")?;
    let restart = cluster.service_manager()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    let folders = cluster.programs().folders();
    let path = folders.iter().map(|f| f.display().to_string()).chain(std::env::var("PATH"));
    command.env("PATH", path.collect::<Vec<_>>().join(":")).env("KUBECONFIG", cluster.kubeconfig());
    command.env("CLUSTER_IMAGE", cluster.image()).env("CLUSTER_REGISTRY", cluster.registry().address());
    let folder = cluster.node().folder().join("run");
    std::fs::create_dir(&folder)?;
    command.env("CLUSTER_FOLDER", &folder).env("CLUSTER_RESTART", restart);
    command.env("CLUSTER_CONTAINERD", cluster.containerd_program()?);
    if let Ok(owner) = cluster.owner() {
        let class = owner.class(cluster.node());
        command.env("CLUSTER_PODS", class.state).env("CLUSTER_DATA", class.data);
        command.env("CLUSTER_TRUSTEE", owner.trustee().url()).env("CLUSTER_TRUSTEE_TOKEN", owner.token());
        command.env("CLUSTER_TRUSTEE_CERT", owner.certificate()?);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let group = rustix::process::Pid::from_child(&child);
    let waiter = std::thread::spawn(move || {
        let status = child.wait();
        let _ = end.send(());
        status
    });
    ended.recv().context("nothing ends it")?;
    if !waiter.is_finished() {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
    }
    let status = waiter.join().ok().context("the program was not waited for")??;
    let mut status = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(130);
    if status == 0 {
        let changed = cluster.changed_files();
        let mut out = std::io::stdout();
        match changed.is_empty() {
            true => writeln!(out, "node: every file is as it was before, byte for byte")?,
            false => {
                changed.iter().try_for_each(|(path, what)| writeln!(out, "node: {path} is {what}"))?;
                status = u8::from(!wanted.options.runtime);
            }
        }
    }
    drop(cluster);
    Ok(status)
}

/// Says how to come to the cluster.
fn show(cluster: &Cluster, outside: &TcpListener) -> Result<()> {
    let port = outside.local_addr()?.port();
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

    Ok(())
}

/// A runtime that says when this program is to end.
fn ended_by_signals(end: mpsc::Sender<()>) -> Result<tokio::runtime::Runtime> {
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
    Ok(runtime)
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
