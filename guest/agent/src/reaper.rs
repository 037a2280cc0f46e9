//! Waits for processes. PID 1 must reap every orphan, yet never the process whose exit status somebody waits
//! for: each container's process has an owner that waits on its pidfd; a sweep on SIGCHLD reaps the rest.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};
use tokio::io::Interest;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Knows which child processes have an owner.
#[derive(Debug, Default)]
pub struct Reaper {
    owned: Mutex<BTreeSet<i32>>,
    reaped: Notify,
}

impl Reaper {
    /// Starts a process with `spawn` and registers it before a sweep could see it.
    ///
    /// # Errors
    /// What `spawn` answers.
    pub(crate) fn spawn(
        &self,
        spawn: impl FnOnce() -> io::Result<(Pid, OwnedFd)>,
    ) -> io::Result<(Pid, OwnedFd)> {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        let (pid, pidfd) = spawn()?;
        owned.insert(pid.as_raw_nonzero().get());
        Ok((pid, pidfd))
    }

    /// Registers a child that another process has made for this one. Where it ends before, its exit status is lost.
    pub(crate) fn adopt(&self, pid: Pid) {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).insert(pid.as_raw_nonzero().get());
    }

    /// Waits until a process from [`Reaper::spawn`] or [`Reaper::adopt`] ends and gives its exit status as shells count it:
    /// 0 to 255, or 128 + signal.
    ///
    /// # Errors
    /// The kernel's answer; a second wait for the same process.
    pub(crate) async fn wait(&self, pid: Pid, pidfd: &OwnedFd) -> io::Result<u32> {
        let ready = crate::syscalls::watched(pidfd.try_clone()?, Interest::READABLE)?;
        let status = loop {
            drop(ready.readable().await?);
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
                Ok(None) => {}
                Ok(Some(status)) => break Ok(status),
                Err(e) => break Err(e),
            }
        };
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid.as_raw_nonzero().get());
        // An orphan may have been waiting behind this one.
        self.reaped.notify_one();
        Ok(shell_status(&status?))
    }

    /// Reaps orphans for ever. Only PID 1 may run this: it takes every child without an owner.
    ///
    /// # Errors
    /// Where SIGCHLD cannot be listened to.
    pub(crate) async fn sweep_orphans(&self) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        loop {
            self.sweep();
            tokio::select! { _ = children.recv() => {}, () = self.reaped.notified() => {} }
        }
    }

    fn sweep(&self) {
        let owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the first zombie has an owner, that owner reaps it and then asks for another sweep.
        while let Some(pid) = crate::syscalls::peek_zombie().filter(|pid| !owned.contains(pid)) {
            let Some(pid) = Pid::from_raw(pid) else { return };
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}

fn shell_status(status: &WaitIdStatus) -> u32 {
    let number = |n: i32| u32::try_from(n).unwrap_or(0);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => number(code) & 0xff,
        (None, Some(signal)) => 128 + number(signal),
        (None, None) => 255,
    }
}
