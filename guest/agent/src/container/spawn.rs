//! Starts a container's first process and follows it until it is built.

use std::ffi::CString;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Pid;

use super::control::{self, Control, Message};
use super::init::InitConfig;
use crate::Error;
use crate::reaper::Reaper;
use crate::syscalls::clone_exec;

/// `argv[0]` of a container's first process, by which the guest binary knows what it is to do.
pub const INIT_NAME: &str = "cocoon-container-init";

/// A container's first process, built and waiting for the word to start.
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) control: Control,
    /// The terminal's master, where the container has a terminal.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Starts the process with these standard streams and waits until it has built itself.
///
/// # Errors
/// [`Error::Container`] with the step that failed there. The process is gone or going then.
pub(crate) async fn spawn(
    exe: BorrowedFd<'_>,
    reaper: &Reaper,
    config: &InitConfig,
    streams: [BorrowedFd<'_>; 3],
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Spawned, Error> {
    let (control, theirs) = control::pair().map_err(Error::container("make a socket"))?;
    let text = config_file(config).map_err(Error::container("write the configuration"))?;
    let [stdin, stdout, stderr] = streams;
    let fds = [stdin, stdout, stderr, text.as_fd(), theirs.as_fd()];
    let argv =
        [CString::new(INIT_NAME).map_err(io::Error::from).map_err(Error::container("name the process"))?];
    let (pid, pidfd) = reaper
        .spawn(|| clone_exec(exe, &argv, &fds, cgroup))
        .map_err(Error::container("start the first process"))?;
    drop((theirs, text));
    let failed = match control.receive().await {
        Ok(Some((Message::Ready, terminal))) => return Ok(Spawned { pid, pidfd, control, terminal }),
        Ok(Some((message, _))) => failure(message),
        Ok(None) => {
            Error::container("the first process ended early")(io::Error::from(io::ErrorKind::UnexpectedEof))
        }
        Err(e) => Error::container("hear from the first process")(e),
    };
    // It ends by itself after a failure; waiting for it takes it off the process table.
    let _ = crate::syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = reaper.wait(pid, &pidfd).await;
    Err(failed)
}

/// Gives the word to start and waits until the process has become the workload.
///
/// # Errors
/// [`Error::Container`] with the step that failed.
pub(crate) async fn start(control: Control) -> Result<(), Error> {
    control.start().map_err(Error::container("tell the first process to start"))?;
    match control.receive().await {
        // Closed by exec. Where the process was killed instead, its exit status tells.
        Ok(None) => Ok(()),
        Ok(Some((message, _))) => Err(failure(message)),
        Err(e) if e.raw_os_error() == Some(libc::ECONNRESET) => Ok(()),
        Err(e) => Err(Error::container("hear from the first process")(e)),
    }
}

fn failure(message: Message) -> Error {
    match message {
        Message::Failed { reason, errno } => {
            let source = if errno == 0 {
                io::Error::other("the first process cannot go on")
            } else {
                io::Error::from_raw_os_error(errno)
            };
            Error::Container { step: reason, source }
        }
        Message::Ready => Error::Container { step: "start".into(), source: io::Error::other("not started") },
    }
}

fn config_file(config: &InitConfig) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("container", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(config)?)?;
    file.rewind()?;
    Ok(file.into())
}
