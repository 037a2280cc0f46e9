//! A process of a container with its standard streams, from the word to start to its exit status: a container's own, or
//! one that runs beside it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::process::Pid;
use tokio::sync::watch;

use super::control::Control;
use super::init::InitConfig;
use super::spawn::{self, Entry};
use super::stdio::{Plumbing, Streams};
use crate::Error;
use crate::reaper::Reaper;

/// How long a process that cannot become the workload may take to end by itself, with the status that tells why.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 to 255, or 128 + signal.
    pub status: u32,
    /// When, by the guest's clock.
    pub at: SystemTime,
}

impl Exit {
    /// Of a process whose end nobody saw.
    pub(crate) const UNSEEN: Exit = Exit { status: 255, at: SystemTime::UNIX_EPOCH };

    /// Just now.
    pub(crate) fn now(status: u32) -> Self {
        Exit { status, at: SystemTime::now() }
    }
}

/// A process.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    control: Mutex<Option<Control>>,
    plumbing: Arc<Mutex<Option<Plumbing>>>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    /// Makes a process that waits for the word to start. `ended` runs once it has ended, before its exit status is told.
    /// `lingers` says that others may hold its streams open when it is gone: they are let go then.
    ///
    /// # Errors
    /// [`Error::Container`].
    pub(crate) async fn spawn(
        entry: Entry<'_>,
        reaper: &Arc<Reaper>,
        config: &InitConfig,
        streams: Streams,
        lingers: bool,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, Error> {
        let streams_failed = || Error::container("connect the standard streams");
        let (mut plumbing, ends, kept) = if config.program.terminal {
            let (plumbing, ends) = Plumbing::terminal().map_err(streams_failed())?;
            (plumbing, ends, streams)
        } else {
            let (plumbing, ends) = Plumbing::pipes(streams).map_err(streams_failed())?;
            (plumbing, ends, Streams::default())
        };
        let spawned = spawn::spawn(&entry, config, ends.borrow()).await?;
        // The container's side must be the only one that holds the pipes open.
        drop(ends);
        let pidfd = Arc::new(spawned.pidfd);
        if let Some(master) = spawned.terminal
            && let Err(e) = plumbing.connect(master, kept)
        {
            let _ = crate::syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
            let _ = reaper.wait(spawned.pid, &pidfd).await;
            return Err(streams_failed()(e));
        }
        let plumbing = Arc::new(Mutex::new(Some(plumbing)));
        let (sender, exit) = watch::channel(None);
        let (reaper, pid) = (Arc::clone(reaper), spawned.pid);
        let (watched, pipes) = (Arc::clone(&pidfd), Arc::clone(&plumbing));
        tokio::spawn(async move {
            let status = reaper.wait(pid, &watched).await.unwrap_or(Exit::UNSEEN.status);
            let at = SystemTime::now();
            ended.await;
            let plumbing = pipes.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(plumbing) = plumbing {
                plumbing.finish(lingers).await;
            }
            sender.send_replace(Some(Exit { status, at }));
        });
        Ok(Process { pid, pidfd, control: Mutex::new(Some(spawned.control)), plumbing, exit })
    }

    /// Lets the process become the workload. Where it cannot, it has ended when this answers.
    ///
    /// # Errors
    /// [`Error::Container`] with what failed, such as a missing program; a second start.
    pub async fn start(&self) -> Result<(), Error> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        let control = control.ok_or_else(|| Error::Refused("started before".into()))?;
        let started = spawn::start(control).await;
        if started.is_err() && tokio::time::timeout(LAST_STEPS, self.wait()).await.is_err() {
            let _ = self.signal(libc::SIGKILL.unsigned_abs());
            self.wait().await;
        }
        started
    }

    /// Its process id in the guest.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// How it ended, once it has, and its output is with the host.
    pub fn exited(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it ended and its output is with the host.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        exit.wait_for(Option::is_some).await.ok().and_then(|e| *e).unwrap_or(Exit::UNSEEN)
    }

    /// Sends it a signal (1 to 64); one that is gone already needs none.
    ///
    /// # Errors
    /// [`Error::Container`].
    pub fn signal(&self, number: u32) -> Result<(), Error> {
        let number = i32::try_from(number).map_err(|_| Error::Refused("not a signal".into()))?;
        match crate::syscalls::pidfd_signal(self.pidfd.as_fd(), number) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done.map_err(Error::container("send the signal")),
        }
    }

    /// The host will send no more standard input.
    pub fn close_stdin(&self) {
        if let Some(plumbing) = &*self.plumbing.lock().unwrap_or_else(PoisonError::into_inner) {
            plumbing.close_input();
        }
    }

    /// Sets the terminal's size in characters.
    ///
    /// # Errors
    /// [`Error::Container`], such as without a terminal.
    pub fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        match &*self.plumbing.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(plumbing) => plumbing.resize(width, height).map_err(Error::container("resize the terminal")),
            None => Ok(()),
        }
    }
}
