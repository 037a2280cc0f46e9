//! A child process with a thread that keeps it: it forks the child, and reaps it.
//!
//! The child asks the kernel to be killed when its parent dies. "Parent" there means the thread that forked, not the
//! process, so the child is forked by a thread that lives exactly as long as the child does: an executor's worker
//! that retires early would take the VM with it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::sync::{oneshot, watch};

use crate::capture::Tail;

/// Bytes kept of the child's standard output and error.
const TAIL: usize = 16 * 1024;

/// A running or ended child. Dropping it kills the child; the thread reaps it.
pub(crate) struct Kept {
    pid: u32,
    pidfd: Arc<OwnedFd>,
    status: watch::Receiver<Option<ExitStatus>>,
    pub output: Tail,
    pub errors: Tail,
}

/// The end of a QEMU, for any number of waiters.
#[derive(Clone, Debug)]
pub struct Ending(watch::Receiver<Option<ExitStatus>>);

impl Ending {
    /// Waits until it has ended. Safe to cancel.
    pub async fn wait(mut self) {
        let _ = self.0.wait_for(Option::is_some).await;
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// Kills a QEMU, for those who do not hold the VM: nothing that waits for QEMU is in its way.
#[derive(Clone, Debug)]
pub struct Killer {
    pidfd: Arc<OwnedFd>,
    ending: Ending,
}

impl Killer {
    /// Kills it and waits until it is gone; no effect where it has ended.
    pub async fn kill(&self) {
        // By descriptor, so that a reused process id is never hit.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.ending.clone().wait().await;
    }
}

/// Where the child's standard output is copied to, and how much of it.
pub(crate) struct Copy {
    pub file: Option<File>,
    pub limit: usize,
}

impl Kept {
    /// Starts the command with that input, in its own process group, both outputs captured.
    pub async fn start(mut command: Command, input: Stdio, copy: Copy) -> io::Result<Kept> {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The terminal's Ctrl-C is for us; we stop the VM in an orderly way.
        command.process_group(0);
        die_with_parent(&mut command);
        let (started, starting) = oneshot::channel();
        thread::Builder::new().name("vm-keeper".into()).spawn(move || keep(command, copy, started))?;
        starting.await.unwrap_or_else(|_| Err(io::Error::other("the keeper thread ended")))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended; waits until it has. Safe to cancel.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.status.wait_for(Option::is_some).await;
        status.ok().and_then(|s| *s).ok_or_else(|| io::Error::other("the keeper thread ended"))
    }

    /// Its end, for others to wait for.
    pub fn ending(&self) -> Ending {
        Ending(self.status.clone())
    }

    /// Kills it, for others.
    pub fn killer(&self) -> Killer {
        Killer { pidfd: self.pidfd.clone(), ending: self.ending() }
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.status.borrow()
    }

    /// Kills it; no effect where it has ended.
    pub fn kill(&self) {
        // By descriptor, so that a reused process id is never hit.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl Kept {
    /// Kills it and blocks until it is no more, at most for a second: then nothing of it writes any longer.
    pub fn kill_now(&self) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        self.kill();
        // The descriptor becomes readable when the process has ended.
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = poll(&mut ended, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep(mut command: Command, copy: Copy, started: oneshot::Sender<io::Result<Kept>>) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return drop(started.send(Err(error))),
    };
    let pidfd = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("no process id"))
        .and_then(|pid| Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?));
    let pidfd = match pidfd {
        Ok(pidfd) => pidfd,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return drop(started.send(Err(error)));
        }
    };
    let (set_status, status) = watch::channel(None);
    let (output, errors) = (Tail::new(TAIL), Tail::new(TAIL));
    let readers = [
        child.stdout.take().map(|from| {
            let tail = output.clone();
            thread::spawn(move || tail.drain(from, copy.file, copy.limit))
        }),
        child.stderr.take().map(|from| {
            let tail = errors.clone();
            thread::spawn(move || tail.drain(from, None, 0))
        }),
    ];
    // Where nobody waits any more, the dropped `Kept` kills the child and it is still reaped here.
    let _ = started.send(Ok(Kept { pid: child.id(), pidfd: Arc::new(pidfd), status, output, errors }));
    let ended = child.wait();
    // Its last words first: whoever sees the status can read them.
    for reader in readers.into_iter().flatten() {
        let _ = reader.join();
    }
    if let Ok(ended) = ended {
        let _ = set_status.send(Some(ended));
    }
}

#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let set = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above took effect.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn no_copy() -> Copy {
        Copy { file: None, limit: 0 }
    }

    #[tokio::test]
    async fn last_words_are_there_when_the_status_is() {
        let mut child =
            Kept::start(shell("echo out; echo err >&2; exit 3"), Stdio::null(), no_copy()).await.unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
        assert_eq!((child.output.text(), child.errors.text()), ("out".into(), "err".into()));
        assert_eq!(child.ended().and_then(|s| s.code()), Some(3));
    }

    #[tokio::test]
    async fn a_dropped_child_is_killed_and_reaped() {
        let child = Kept::start(shell("exec sleep 1000"), Stdio::null(), no_copy()).await.unwrap();
        let mut status = child.status.clone();
        assert!(child.ended().is_none());
        drop(child);
        assert!(status.wait_for(Option::is_some).await.is_ok());
    }

    #[tokio::test]
    async fn a_child_is_killed_by_who_does_not_hold_it() {
        let child = Kept::start(shell("exec sleep 1000"), Stdio::null(), no_copy()).await.unwrap();
        let killer = child.killer();
        killer.kill().await;
        assert!(child.ended().is_some());
        killer.kill().await;
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error() {
        let error =
            Kept::start(Command::new("/nonexistent/qemu"), Stdio::null(), no_copy()).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_child_outlives_the_task_and_runtime_that_started_it() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let child = runtime.block_on(async {
            tokio::spawn(Kept::start(shell("exec sleep 1000"), Stdio::null(), no_copy()))
                .await
                .unwrap()
                .unwrap()
        });
        drop(runtime);
        // Signal 0 reaches it: alive although the worker thread is gone.
        let pid = Pid::from_raw(i32::try_from(child.pid()).unwrap()).unwrap();
        rustix::process::test_kill_process(pid).unwrap();
        assert!(child.ended().is_none());
    }
}
