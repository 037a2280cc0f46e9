//! containerd's runtime v2 shim: one process for each pod, a proxy with a VM attached.
//!
//! Contract: runs on the untrusted node, holds no secret, and decides nothing that the guest does not decide again. It
//! serves containerd's Task service (versions 2 and 3, on one socket) for a pod sandbox and its containers, passes
//! requests on to the guest and events to containerd, and carries the standard streams. Nothing of a pod outlives its
//! shim: QEMU dies with this process, however it ends, and `delete` removes the rest. What the guest says is text for
//! people; it is bounded, and no path or name on this host is made of it.

pub mod args;
pub mod bootstrap;
mod cgroup;
mod cleanup;
mod container;
mod creating;
mod empty_dir;
mod error;
mod host_file;
mod launch;
mod layers;
mod logger;
mod mounts;
pub mod options;
mod process;
mod publish;
mod serve;
mod service;
mod shim;
pub mod sizing;
pub mod spec;
mod state;
mod stats;
mod stdio;
mod tree;
mod vm;
mod volumes;
mod watch;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use args::{Action, Args};
use bootstrap::{Bootstrap, MAX_INPUT};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::Message;

/// The program's name, by which containerd finds it for the runtime `io.containerd.cocoon.v2`.
pub const PROGRAM: &str = "containerd-shim-cocoon-v2";

/// The program, with its arguments but for its own name.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let ran = Args::parse(arguments).and_then(run);
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{PROGRAM}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), String> {
    let bundle = match &args.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().map_err(|e| e.to_string())?,
    };
    match args.action {
        Action::Version => say(format!("{PROGRAM} {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
        Action::Info => say(&info()),
        Action::Start => start(&args, bundle),
        Action::Delete => say(&cleanup::delete(&args, &bundle)),
        Action::Serve => {
            log(args.debug);
            serve::serve(args, &bundle).map_err(|e| e.to_string())
        }
    }
}

fn start(args: &Args, bundle: PathBuf) -> Result<(), String> {
    let mut input = Vec::new();
    // Where a person runs it, nobody closes the input.
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        std::io::stdin().take(MAX_INPUT).read_to_end(&mut input).map_err(|e| e.to_string())?;
    }
    let version = std::env::var("MAX_SHIM_VERSION").ok();
    let bootstrap = Bootstrap::read(&input, &args.id, &args.namespace, version.as_deref());
    let answer = launch::start(args, &bundle, &bootstrap).map_err(|f| error::sentence(&f))?;
    say(&answer)
}

fn info() -> Vec<u8> {
    let version = RuntimeVersion { version: env!("CARGO_PKG_VERSION").into(), ..RuntimeVersion::default() };
    let info = RuntimeInfo {
        name: "io.containerd.cocoon.v2".into(),
        version: Some(version).into(),
        ..RuntimeInfo::default()
    };
    info.write_to_bytes().unwrap_or_default()
}

fn say(bytes: &[u8]) -> Result<(), String> {
    let mut out = std::io::stdout();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| e.to_string())
}

/// To standard error, which is containerd's log. What it does not take is lost.
fn log(debug: bool) {
    let level = if debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    tracing_subscriber::fmt().with_ansi(false).with_max_level(level).with_writer(|| Log).init();
}

/// Standard error without complaints: containerd's log may be full while containerd is away.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
