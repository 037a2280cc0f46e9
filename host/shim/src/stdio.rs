//! Standard streams: what containerd names on this host on one side, a stream of the guest's on the other.
//!
//! containerd's FIFOs are opened for reading and writing, so that a containerd that goes away and comes back is neither a
//! broken pipe nor an end of input. A reader that does not keep up holds the writer back, into the guest.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cocoon_sandbox::{GuestStream, Pod};
use cocoon_stage::{Code, Failure, Stage};
use rustix::fs::OFlags;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::logger::Logger;

/// What moves at once, in bytes; as much as a pipe holds.
const PIECE: usize = 64 << 10;

/// What containerd names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// FIFO that the process reads; empty: none.
    pub stdin: String,
    /// FIFO, `file://PATH` or `binary://PATH?…`; empty: none.
    pub stdout: String,
    /// As `stdout`.
    pub stderr: String,
    /// Whether the process has a terminal, which has one output.
    pub terminal: bool,
}

/// What the guest is told.
#[derive(Clone, Debug, Default)]
pub struct Uris {
    /// Where standard input comes from; empty: nowhere.
    pub stdin: String,
    /// Where standard output goes.
    pub stdout: String,
    /// Where standard error goes.
    pub stderr: String,
}

/// The streams of a process. Dropping them ends them.
#[derive(Default)]
pub struct Streams {
    outputs: Vec<JoinHandle<()>>,
    input: Option<JoinHandle<()>>,
    /// Keeps standard input from ending while containerd is away.
    keeper: Mutex<Option<File>>,
}

type Sink = Box<dyn AsyncWrite + Send + Unpin>;

impl Streams {
    /// Opens what containerd names and prepares the guest's side. `owner` is the container and containerd's namespace.
    ///
    /// # Errors
    /// `HOST-UNSUPPORTED` for what cannot be opened.
    pub async fn open(pod: &Pod, paths: &Paths, owner: (&str, &str)) -> Result<(Uris, Streams), Failure> {
        let (mut uris, mut streams) = (Uris::default(), Streams::default());
        let (stdout, stderr) = sinks(paths, owner).await?;
        for (sink, uri) in [(stdout, &mut uris.stdout), (stderr, &mut uris.stderr)] {
            let Some(sink) = sink else { continue };
            let guest = pod.stream()?;
            uri.clone_from(&guest.uri);
            streams.outputs.push(tokio::spawn(copy_out(guest, sink)));
        }
        if !paths.stdin.is_empty() {
            let (source, keeper) = input(Path::new(&paths.stdin)).map_err(|e| unopened(&paths.stdin, &e))?;
            let guest = pod.stream()?;
            uris.stdin.clone_from(&guest.uri);
            streams.keeper = Mutex::new(Some(keeper));
            streams.input = Some(tokio::spawn(copy_in(guest, source)));
        }
        Ok((uris, streams))
    }

    /// Standard input ends with what containerd has written so far.
    pub fn close_stdin(&self) {
        drop(self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Waits until the outputs have ended, at most so long; then they go on by themselves.
    pub async fn drain(&mut self, limit: Duration) {
        let all = async {
            for output in &mut self.outputs {
                let _ = output.await;
            }
            self.outputs.clear();
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("nobody takes a process's last output");
        }
        self.outputs.retain(|output| !output.is_finished());
        if let Some(input) = self.input.take() {
            input.abort();
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for task in self.outputs.iter().chain(&self.input) {
            task.abort();
        }
    }
}

/// The host's ends of both outputs.
async fn sinks(paths: &Paths, owner: (&str, &str)) -> Result<(Option<Sink>, Option<Sink>), Failure> {
    if let Some(uri) = paths.stdout.strip_prefix("binary://") {
        let logger = Logger::start(uri, owner).await.map_err(|e| unopened(&paths.stdout, &e))?;
        return Ok((Some(Box::new(logger.stdout)), Some(Box::new(logger.stderr))));
    }
    let open = |path: &str| match path {
        "" => Ok(None),
        path => sink(path).map(Some).map_err(|e| unopened(path, &e)),
    };
    let stderr = if paths.terminal { None } else { open(&paths.stderr)? };
    Ok((open(&paths.stdout)?, stderr))
}

fn sink(path: &str) -> std::io::Result<Sink> {
    let path = Path::new(path.strip_prefix("file://").unwrap_or(path));
    if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        // With a reader of its own it waits for containerd's, and survives it.
        return Ok(Box::new(pipe::OpenOptions::new().read_write(true).open_sender(path)?));
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
    Ok(Box::new(tokio::fs::File::from_std(file)))
}

fn input(path: &Path) -> std::io::Result<(pipe::Receiver, File)> {
    let receiver = pipe::OpenOptions::new().open_receiver(path)?;
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let keeper = OpenOptions::new().write(true).custom_flags(nonblocking).open(path)?;
    Ok((receiver, keeper))
}

fn unopened(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(Code::HostUnsupported, format!("standard stream {path}: {error}")).at(Stage::Start)
}

async fn copy_out(guest: GuestStream, mut sink: Sink) {
    let Some(mut stream) = guest.open().await else { return };
    let mut buffer = vec![0; PIECE];
    let mut broken = false;
    while let Ok(n) = stream.read(&mut buffer).await {
        let Some(piece) = buffer.get(..n).filter(|p| !p.is_empty()) else { break };
        if broken {
            continue;
        }
        let written = async {
            sink.write_all(piece).await?;
            sink.flush().await
        };
        if let Err(error) = written.await {
            // The process goes on; what it says is lost, as on a full disk.
            tracing::warn!(%error, "a process's output cannot be written");
            broken = true;
        }
    }
    let _ = sink.shutdown().await;
}

async fn copy_in(guest: GuestStream, mut source: pipe::Receiver) {
    let Some(mut stream) = guest.open().await else { return };
    let mut buffer = vec![0; PIECE];
    while let Ok(n) = source.read(&mut buffer).await {
        let Some(piece) = buffer.get(..n).filter(|p| !p.is_empty()) else { break };
        if stream.write_all(piece).await.is_err() {
            return;
        }
    }
    // The guest sees it as the end of the process's standard input.
    let _ = stream.shutdown().await;
}

#[cfg(test)]
#[path = "stdio_tests.rs"]
mod tests;
