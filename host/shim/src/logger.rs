//! A logging program (`binary://PATH?name=value`): it reads standard output from descriptor 3 and standard error from 4,
//! and says on 5 that it is ready, by a byte or by closing it (containerd, docs/runtime-v2: "Logging").

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(10);
/// Descriptors of the program begin here.
const FIRST: i32 = 3;

/// A running logging program. It ends when both streams have ended.
#[derive(Debug)]
pub struct Logger {
    /// Its descriptor 3.
    pub stdout: pipe::Sender,
    /// Its descriptor 4.
    pub stderr: pipe::Sender,
}

impl Logger {
    /// Starts the program that `uri` names, without its scheme, for the container and namespace `owner`.
    ///
    /// # Errors
    /// Where it cannot be started or is not ready in time.
    pub async fn start(uri: &str, owner: (&str, &str)) -> io::Result<Logger> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let (out, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let (ready, readied) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = Command::new(percent_decoded(path));
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            command.arg(percent_decoded(name));
            if !value.is_empty() {
                command.arg(percent_decoded(value));
            }
        }
        command.env("CONTAINER_ID", owner.0).env("CONTAINER_NAMESPACE", owner.1);
        command.stdin(std::process::Stdio::null());
        // Above those that they become, so that none overwrites another.
        let ends = [out, err, readied].map(|end| rustix::io::fcntl_dupfd_cloexec(&end, FIRST + 10));
        let [out, err, readied] = ends;
        hand_over(&mut command, vec![out?, err?, readied?]);
        let mut child = command.spawn()?;
        // What it was handed is its alone.
        drop(command);
        tokio::spawn(async move { child.wait().await });
        let (stdout, stderr) = (pipe::Sender::from_owned_fd(stdout)?, pipe::Sender::from_owned_fd(stderr)?);
        let mut ready = pipe::Receiver::from_owned_fd(ready)?;
        let mut byte = [0; 1];
        tokio::time::timeout(READY, ready.read(&mut byte))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the logging program is not ready"))??;
        Ok(Logger { stdout, stderr })
    }
}

/// The descriptors become the child's 3 and following.
#[allow(unsafe_code)]
fn hand_over(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let place = move || {
        for (to, from) in (FIRST..).zip(&descriptors) {
            // SAFETY: both are numbers of descriptors; `from` is open for as long as the closure lives.
            if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls and allocates nothing.
    unsafe {
        command.pre_exec(place);
    }
}

/// `%41` is `A`; what is no such thing stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_decoded() {
        for (text, plain) in
            [("/a%20b", "/a b"), ("%", "%"), ("%4", "%4"), ("%zz%41", "%zzA"), ("%C3%A4", "ä")]
        {
            assert_eq!(percent_decoded(text), plain);
        }
    }
}
