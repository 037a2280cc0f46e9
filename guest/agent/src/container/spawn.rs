//! Starts a container's process and follows it until it is ready to become the workload.

use std::ffi::CString;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Pid;

use super::control::{self, Control, Message};
use super::init::InitConfig;
use crate::Error;
use crate::reaper::Reaper;
use crate::syscalls::{Fresh, clone_exec};

/// `argv[0]` of a container's process, by which the guest binary knows what it is to do.
pub const INIT_NAME: &str = "cocoon-container-init";

/// What a process is started with.
pub(crate) struct Entry<'a> {
    /// The guest binary.
    pub(crate) exe: BorrowedFd<'a>,
    /// Who waits for it.
    pub(crate) reaper: &'a Reaper,
    /// New namespaces.
    pub(crate) fresh: Fresh,
    /// What it joins, in the order that its [`super::init::Place`] names.
    pub(crate) joins: Vec<BorrowedFd<'a>>,
    /// The cgroup in which it starts.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Whether the process that is started is a helper, which makes the one that counts.
    pub(crate) helper: bool,
}

/// A container's process, waiting for the word to start.
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) control: Control,
    /// The terminal's master, where the container has a terminal.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Starts the process with these standard streams and waits until all is built.
///
/// # Errors
/// [`Error::Container`] with the step that failed there. The process is gone or going then.
pub(crate) async fn spawn(
    entry: &Entry<'_>,
    config: &InitConfig,
    streams: [BorrowedFd<'_>; 3],
) -> Result<Spawned, Error> {
    let (control, theirs) = control::pair().map_err(Error::container("make a socket"))?;
    let text = config_file(config).map_err(Error::container("write the configuration"))?;
    let [stdin, stdout, stderr] = streams;
    let mut fds = vec![stdin, stdout, stderr, text.as_fd(), theirs.as_fd()];
    fds.extend(&entry.joins);
    let argv =
        [CString::new(INIT_NAME).map_err(io::Error::from).map_err(Error::container("name the process"))?];
    let (pid, pidfd) = entry
        .reaper
        .spawn(|| clone_exec(entry.exe, &argv, &fds, entry.cgroup, entry.fresh))
        .map_err(Error::container("start the process"))?;
    drop((theirs, text));
    let mut first = Some((pid, pidfd));
    let mut made = if entry.helper { None } else { first.take() };
    let built = {
        let hearing = built(&control, entry.reaper, &mut made);
        tokio::pin!(hearing);
        tokio::select! {
            biased;
            built = &mut hearing => built,
            // Without its helper's word the new process would be waited for in vain; it ends with the socket.
            () = killed(entry.reaper, first.as_ref()) => Err(ended_early()),
        }
    };
    if let Some((pid, pidfd)) = first {
        // The helper ends by itself, whatever has become of its work.
        if built.is_err() {
            let _ = crate::syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        }
        let _ = entry.reaper.wait(pid, &pidfd).await;
    }
    match (built, made) {
        (Ok(terminal), Some((pid, pidfd))) => Ok(Spawned { pid, pidfd, control, terminal }),
        (built, made) => {
            if let Some((pid, pidfd)) = made {
                // It ends by itself after a failure; waiting for it takes it off the process table.
                let _ = crate::syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
                let _ = entry.reaper.wait(pid, &pidfd).await;
            }
            Err(built.err().unwrap_or_else(ended_early))
        }
    }
}

/// Waits until the helper is killed; for ever where it ends by itself, which it does not without a word.
async fn killed(reaper: &Reaper, helper: Option<&(Pid, OwnedFd)>) {
    let Some((pid, pidfd)) = helper else { return std::future::pending().await };
    if reaper.wait(*pid, pidfd).await.is_ok_and(|status| status <= 128) {
        std::future::pending().await
    }
}

/// Listens until the process is ready; gives its terminal. `made` is the process, once it is known.
async fn built(
    control: &Control,
    reaper: &Reaper,
    made: &mut Option<(Pid, OwnedFd)>,
) -> Result<Option<OwnedFd>, Error> {
    let mut ready = None;
    // A helper's word and that of the process that it made may come in either order.
    while made.is_none() || ready.is_none() {
        match control.receive().await {
            Ok(Some((Message::Ready, terminal))) => ready = Some(terminal),
            Ok(Some((Message::Forked { pid }, Some(pidfd)))) if made.is_none() => {
                let pid = Pid::from_raw(pid).ok_or_else(ended_early)?;
                reaper.adopt(pid);
                *made = Some((pid, pidfd));
            }
            Ok(Some((message, _))) => return Err(failure(message)),
            Ok(None) => return Err(ended_early()),
            Err(e) => return Err(Error::container("hear from the process")(e)),
        }
    }
    Ok(ready.flatten())
}

/// Gives the word to start and waits until the process has become the workload.
///
/// # Errors
/// [`Error::Container`] with the step that failed.
pub(crate) async fn start(control: Control) -> Result<(), Error> {
    control.start().map_err(Error::container("tell the process to start"))?;
    match control.receive().await {
        // Closed by exec. Where the process was killed instead, its exit status tells.
        Ok(None) => Ok(()),
        Ok(Some((message, _))) => Err(failure(message)),
        Err(e) if e.raw_os_error() == Some(libc::ECONNRESET) => Ok(()),
        Err(e) => Err(Error::container("hear from the process")(e)),
    }
}

pub(crate) fn ended_early() -> Error {
    Error::container("the process ended early")(io::Error::from(io::ErrorKind::UnexpectedEof))
}

pub(crate) fn failure(message: Message) -> Error {
    match message {
        Message::Failed { reason, errno } => {
            let source = if errno == 0 {
                io::Error::other("the process cannot go on")
            } else {
                io::Error::from_raw_os_error(errno)
            };
            Error::Container { step: reason, source }
        }
        Message::Ready | Message::Forked { .. } | Message::Holding => {
            Error::Container { step: "start".into(), source: io::Error::other("an unexpected word") }
        }
    }
}

fn config_file(config: &InitConfig) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("container", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(config)?)?;
    file.rewind()?;
    Ok(file.into())
}
