//! Running another program for its answer, within a time.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The most that is kept of an answer, in bytes: a dump of a large configuration is some 100 KiB.
const MOST: u64 = 16 * 1024 * 1024;

/// What a program said.
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Its last words, for a reason: the end of standard error, else of standard output.
    pub(crate) fn complaint(&self) -> String {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let said = said.trim();
        let from = said.char_indices().rev().nth(600).map_or(0, |(at, _)| at);
        let end = said.get(from..).unwrap_or_default().replace('\n', " | ");
        if end.is_empty() { "it failed and said nothing".into() } else { end }
    }
}

/// Runs `command` to its end, at most `limit`; it is killed then.
pub(crate) fn run(command: &mut Command, limit: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let collect = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                let _ = pipe.take(MOST).read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = collect(child.stdout.take().map(|p| Box::new(p) as _));
    let stderr = collect(child.stderr.take().map(|p| Box::new(p) as _));
    let ended = wait(&child, limit);
    if !matches!(ended, Ok(true)) {
        let _ = child.kill();
    }
    let status = child.wait()?;
    if !ended? {
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")));
    }
    let join = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Output { success: status.success(), stdout: join(stdout), stderr: join(stderr) })
}

/// Runs `command`, at most `limit`, with the streams that it has; whether it succeeded.
pub(crate) fn run_detached(command: &mut Command, limit: Duration) -> io::Result<bool> {
    let mut child = command.spawn()?;
    if !wait(&child, limit)? {
        child.kill()?;
        child.wait()?;
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not done within {limit:?}")));
    }
    Ok(child.wait()?.success())
}

fn wait(child: &std::process::Child, limit: Duration) -> io::Result<bool> {
    let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = raw.ok_or_else(|| io::Error::other("no process id"))?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec::try_from(limit).map_err(|_| io::Error::other("no such time"))?;
    let mut fds = [PollFd::new(&handle, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&limit)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_failures_and_silence_are_told_apart() {
        let sh = |script: &str, limit| run(Command::new("sh").args(["-c", script]), limit);
        let output = sh("echo hi; echo no >&2; exit 3", Duration::from_secs(20)).unwrap();
        assert_eq!(
            (output.success, output.stdout.as_str(), output.complaint().as_str()),
            (false, "hi\n", "no")
        );
        let late = sh("exec sleep 60", Duration::from_millis(100)).err().unwrap();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(run(&mut Command::new("/nonexistent/x"), Duration::from_secs(1)).is_err());
    }

    #[test]
    fn a_long_answer_does_not_block() {
        let output = run(
            Command::new("sh").args(["-c", "head -c 300000 /dev/zero | tr '\\0' x"]),
            Duration::from_secs(20),
        );
        assert_eq!(output.unwrap().stdout.len(), 300_000);
    }
}
