//! Running a program with input, output and time all bounded.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use zeroize::Zeroizing;

use crate::{Error, secret};

/// Most bytes kept of what a command writes to its standard error; the rest is read and dropped.
const MAX_ERRORS: usize = 1024;

/// A program and how it is run.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) timeout: Duration,
    pub(super) environment: Vec<String>,
}

/// What a program left when it had ended.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) output: Zeroizing<Vec<u8>>,
    pub(super) errors: String,
}

impl Program {
    pub(super) fn fault(&self, step: &'static str, problem: String) -> Error {
        Error::Command { program: self.path.display().to_string(), step, problem }
    }

    /// Runs it with one more argument, gives it `input` and takes at most `limit` bytes of output.
    ///
    /// When this returns, the program and its process group are dead.
    pub(super) fn run(&self, step: &'static str, input: &[u8], limit: usize) -> Result<Finished, Error> {
        let deadline = Instant::now() + self.timeout;
        let fail = |e: std::io::Error| self.fault(step, e.to_string());
        let mut running = Running::start(self.command(step)).map_err(fail)?;
        let mut pipes = running.pipes().map_err(fail)?;
        let mut rest = input;
        let mut output = Zeroizing::new(Vec::new());
        let mut errors = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(
                    self.fault(step, format!("it did not end within {:?} and was killed", self.timeout))
                );
            }
            let ended = running.wait_for_something(&pipes, left).map_err(fail)?;
            rest = pipes.feed(rest);
            let over = pipes.collect(&mut output, limit, &mut errors, ended).map_err(fail)?;
            if over {
                return Err(self.fault(step, format!("it printed more than {limit} bytes and was killed")));
            }
            if ended {
                let status = running.finish().map_err(fail)?;
                let errors = secret::tame(&String::from_utf8_lossy(&errors), MAX_ERRORS);
                return Ok(Finished { status, output, errors });
            }
        }
    }

    fn command(&self, step: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).arg(step).current_dir("/").env_clear().process_group(0);
        for name in ["PATH", "HOME"].into_iter().chain(self.environment.iter().map(String::as_str)) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A child with its process group; both are killed when this is dropped.
struct Running {
    child: Child,
    handle: rustix::fd::OwnedFd,
    group: Pid,
    reaped: bool,
}

impl Running {
    fn start(mut command: Command) -> std::io::Result<Self> {
        let mut child = command.spawn()?;
        let opened = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| std::io::Error::other("no process id"))
            .and_then(|group| Ok((group, pidfd_open(group, PidfdFlags::empty())?)));
        match opened {
            Ok((group, handle)) => Ok(Running { child, handle, group, reaped: false }),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
        }
    }

    fn pipes(&mut self) -> std::io::Result<Pipes> {
        let gone = || std::io::Error::other("no pipe");
        let input = self.child.stdin.take().ok_or_else(gone)?;
        let output = self.child.stdout.take().ok_or_else(gone)?;
        let errors = self.child.stderr.take().ok_or_else(gone)?;
        for pipe in [input.as_fd(), output.as_fd(), errors.as_fd()] {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(Pipes { input: Some(input), output: Some(output), errors: Some(errors) })
    }

    /// Waits until a pipe is ready, the child has ended, or the time is over; whether the child has ended.
    fn wait_for_something(&self, pipes: &Pipes, left: Duration) -> std::io::Result<bool> {
        let mut watched = vec![PollFd::new(&self.handle, PollFlags::IN)];
        watched.extend(pipes.input.iter().map(|p| PollFd::new(p, PollFlags::OUT)));
        watched.extend(pipes.output.iter().map(|p| PollFd::new(p, PollFlags::IN)));
        watched.extend(pipes.errors.iter().map(|p| PollFd::new(p, PollFlags::IN)));
        let limit = Timespec::try_from(left).map_err(|_| std::io::Error::other("time limit too long"))?;
        match poll(&mut watched, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(watched.first().is_some_and(|handle| !handle.revents().is_empty()))
    }

    /// Kills what is left of the group and reaps the child, which has ended.
    fn finish(mut self) -> std::io::Result<ExitStatus> {
        self.kill()
    }

    /// The child is not reaped before its group is killed, so that the number still means that group.
    fn kill(&mut self) -> std::io::Result<ExitStatus> {
        self.reaped = true;
        let _ = kill_process_group(self.group, Signal::KILL);
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.kill();
        }
    }
}

/// Our ends of the child's pipes; each is closed when its work is done.
struct Pipes {
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    errors: Option<ChildStderr>,
}

impl Pipes {
    /// Writes what fits now; what is left. A child that does not read is no error: its output is what counts.
    fn feed<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while let (Some(pipe), false) = (&mut self.input, rest.is_empty()) {
            match pipe.write(rest) {
                Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return rest,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        self.input = None;
        &[]
    }

    /// Reads what is there; whether the output is over `limit`. After the child's end what is there is all.
    fn collect(
        &mut self,
        output: &mut Zeroizing<Vec<u8>>,
        limit: usize,
        errors: &mut Vec<u8>,
        ended: bool,
    ) -> std::io::Result<bool> {
        let rounds = if ended { limit / 4096 + 2 } else { 1 };
        for _ in 0..rounds {
            let mut buffer = Zeroizing::new([0u8; 4096]);
            let count = take(&mut self.output, buffer.as_mut())?;
            secret::append(output, buffer.get(..count).unwrap_or_default());
            if output.len() > limit {
                return Ok(true);
            }
            let count = take(&mut self.errors, buffer.as_mut())?.min(MAX_ERRORS.saturating_sub(errors.len()));
            errors.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        Ok(false)
    }
}

/// One read; 0 where nothing is there now. A pipe at its end is closed.
fn take(pipe: &mut Option<impl Read>, buffer: &mut [u8]) -> std::io::Result<usize> {
    let Some(open) = pipe else { return Ok(0) };
    match open.read(buffer) {
        Ok(0) => {
            *pipe = None;
            Ok(0)
        }
        Ok(count) => Ok(count),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(e) => Err(e),
    }
}
