//! `start`: makes the pod's shim, or finds it, and gives its address.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cocoon_stage::{Code, Failure, Stage};

use crate::args::Args;
use crate::bootstrap::{Bootstrap, answer};
use crate::options::{self, Source};
use crate::spec::{Bundle, Kind};
use crate::state::{self, Record};

/// Longest path of a unix socket (unix(7)), its end included.
const MAX_SOCKET: usize = 108;

/// Starts the shim of the container in `bundle`, or finds its pod's; gives what containerd is to be answered.
///
/// # Errors
/// `HOST-UNSUPPORTED` with what is wrong, `BOOT-DISK-FULL`.
pub fn start(args: &Args, bundle: &Path, bootstrap: &Bootstrap) -> Result<Vec<u8>, Failure> {
    let kind = Bundle::read(bundle)?.spec.kind()?;
    if let Kind::Member(sandbox) = kind {
        let address = pods_address(bundle, &sandbox)?;
        std::fs::write(bundle.join(state::ADDRESS), &address).map_err(|e| failed(bundle, &e))?;
        return Ok(answer(bootstrap.reply, &address));
    }
    let source = Source::find(bootstrap.options.as_ref());
    let config = source.read()?;
    let socket = match &args.socket {
        Some(path) => path.clone(),
        None => state::socket(&config.state, &args.address, &args.namespace, &args.id),
    };
    let address = format!("unix://{}", socket.display());
    // Written before there is anything to be removed: whoever is killed in between leaves nothing that `delete` does not find.
    if Record::read(bundle).is_none() {
        let record = Record {
            socket: socket.clone(),
            run_dir: config.state.join(state::pod_folder(&args.namespace, &args.id)),
            ..Record::default()
        };
        record.write(bundle).map_err(|e| failed(bundle, &e))?;
    }
    if let Some(listener) = bind(&socket).map_err(|e| failed(&socket, &e))? {
        let spawned = serve(args, bundle, &source, bootstrap, listener).and_then(|mut child| {
            let noted = note(bundle, &child, &address);
            if noted.is_err() {
                // Nobody would find it.
                let _ = child.kill();
                let _ = child.wait();
            }
            noted
        });
        if let Err(error) = spawned {
            let _ = std::fs::remove_file(&socket);
            return Err(failed(bundle, &error));
        }
    }
    Ok(answer(bootstrap.reply, &address))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull => Code::BootDiskFull,
        _ => Code::HostUnsupported,
    };
    Failure::new(code, format!("{}: {error}", path.display())).at(Stage::Boot)
}

/// The address that the sandbox's shim left in its bundle, beside this one.
fn pods_address(bundle: &Path, sandbox: &str) -> Result<String, Failure> {
    let beside = bundle.parent().unwrap_or(Path::new("/")).join(sandbox).join(state::ADDRESS);
    std::fs::read_to_string(&beside).map(|text| text.trim().to_owned()).map_err(|e| failed(&beside, &e))
}

/// Listens. `None` where the shim is there already; what a dead one left is replaced.
fn bind(socket: &Path) -> io::Result<Option<UnixListener>> {
    if socket.as_os_str().len() >= MAX_SOCKET {
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, "the path is too long for a socket"));
    }
    if let Some(folder) = socket.parent() {
        DirBuilder::new().recursive(true).mode(0o711).create(folder)?;
    }
    let listener = match UnixListener::bind(socket) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(socket).is_ok() {
                return Ok(None);
            }
            std::fs::remove_file(socket)?;
            UnixListener::bind(socket)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(Some(listener))
}

/// Starts this program as the pod's shim. It finds the listener as its standard input.
fn serve(
    args: &Args,
    bundle: &Path,
    source: &Source,
    bootstrap: &Bootstrap,
    listener: UnixListener,
) -> io::Result<Child> {
    let log = log_file(&bundle.join("log"));
    let output = |log: &io::Result<std::fs::File>| match log {
        Ok(file) => file.try_clone().map(Stdio::from),
        Err(_) => Ok(Stdio::null()),
    };
    let mut command = Command::new(program()?);
    command
        .args(["-namespace", &args.namespace, "-id", &args.id, "-address", &args.address])
        .args(["-publish-binary", &args.publish_binary])
        .current_dir(bundle)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(output(&log)?)
        .stderr(output(&log)?)
        // containerd's signals to its own group are not for pods.
        .process_group(0);
    if args.debug || bootstrap.debug {
        command.arg("-debug");
    }
    if let Some(address) = &bootstrap.events
        && std::env::var_os("TTRPC_ADDRESS").is_none()
    {
        command.env("TTRPC_ADDRESS", address);
    }
    if let Source::File(path) = source {
        command.env(options::VARIABLE, path);
    }
    let child = command.spawn()?;
    // As runc's shim does: to be killed sooner than containerd, later than what runs in pods.
    if let Some(score) = crate::cgroup::oom_score(rustix::process::getppid().map_or(0, pid_number)) {
        crate::cgroup::set_oom_score(child.id(), score.saturating_add(1));
    }
    Ok(child)
}

/// Where the shim is to be found.
fn note(bundle: &Path, shim: &Child, address: &str) -> io::Result<()> {
    std::fs::write(bundle.join(state::PID), shim.id().to_string())?;
    std::fs::write(bundle.join(state::ADDRESS), address)
}

fn pid_number(pid: rustix::process::Pid) -> u32 {
    u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default()
}

/// This program. Not by its path in `/proc`, which after an upgrade names a file that is gone.
fn program() -> io::Result<PathBuf> {
    let current = std::env::current_exe()?;
    Ok(if current.exists() { current } else { "/proc/self/exe".into() })
}

/// containerd's FIFO for the shim's log. For reading too, so that a containerd that is away is no broken pipe; what it
/// does not take is dropped.
fn log_file(path: &Path) -> io::Result<std::fs::File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_shims_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s/x.sock");
        let first = bind(&socket).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(bind(&socket).unwrap().is_none());
        drop(first);
        assert!(bind(&socket).unwrap().is_some());
        let long = dir.path().join("x".repeat(120));
        assert!(bind(&long).unwrap_err().to_string().contains("too long"));
    }
}
