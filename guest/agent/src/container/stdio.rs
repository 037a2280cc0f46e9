//! Standard streams: between a container's pipes or terminal and byte streams that lead to the host.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::syscalls::watched;

/// Bytes moved at a time.
const CHUNK: usize = 16 * 1024;
/// How long a host may take no output, after the container ended, before the rest is given up.
const STALLED: Duration = Duration::from_secs(10);
/// How long a stream must be silent before it counts as done: standard input after the host closed it by request, output
/// after its process ended and others hold it open.
const SILENT: Duration = Duration::from_millis(200);

/// How long others who hold output open, after its process ended, may have it waited for, in all.
const LINGERING: Duration = Duration::from_secs(1);
/// How many bytes they may still say, each stream: at least what a pipe holds, whose content may be the process's own.
const LAST_WORDS: usize = 1 << 20;

/// Where standard input comes from.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Where output goes.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The far ends of a container's streams; what is `None` is `/dev/null` to the container.
#[derive(Default)]
pub struct Streams {
    /// Standard input.
    pub stdin: Option<Reader>,
    /// Standard output, or the terminal's output.
    pub stdout: Option<Writer>,
    /// Standard error; unused with a terminal.
    pub stderr: Option<Writer>,
}

/// The descriptors for the container's side.
pub(crate) struct ChildEnds([OwnedFd; 3]);

impl ChildEnds {
    pub(crate) fn borrow(&self) -> [BorrowedFd<'_>; 3] {
        let [stdin, stdout, stderr] = &self.0;
        [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
    }
}

/// A container's streams in motion.
#[derive(Debug)]
pub(crate) struct Plumbing {
    outputs: Vec<JoinHandle<()>>,
    input: Option<JoinHandle<()>>,
    close_input: watch::Sender<bool>,
    /// Whether output that is not there yet is waited for no more.
    let_go: watch::Sender<bool>,
    /// Bytes of output moved so far.
    moved: Arc<AtomicU64>,
    terminal: Option<Terminal>,
}

impl Plumbing {
    /// Pipes for a container without a terminal, moving at once.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn pipes(streams: Streams) -> io::Result<(Self, ChildEnds)> {
        let mut plumbing = Plumbing::empty();
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let stdin = match streams.stdin {
            None => null()?,
            Some(from) => {
                let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
                plumbing.feed(from, pipe::Sender::from_owned_fd(writer)?);
                reader
            }
        };
        let mut output = |to: Option<Writer>| -> io::Result<OwnedFd> {
            let Some(to) = to else { return null() };
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            plumbing.drain(pipe::Receiver::from_owned_fd(reader)?, to);
            Ok(writer)
        };
        let (stdout, stderr) = (output(streams.stdout)?, output(streams.stderr)?);
        Ok((plumbing, ChildEnds([stdin, stdout, stderr])))
    }

    /// For a container with a terminal: its first process opens one, whose master [`Plumbing::connect`] takes.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn terminal() -> io::Result<(Self, ChildEnds)> {
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        Ok((Plumbing::empty(), ChildEnds([null()?, null()?, null()?])))
    }

    /// Connects a terminal's master with the streams.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn connect(&mut self, master: OwnedFd, streams: Streams) -> io::Result<()> {
        let terminal = Terminal::new(master)?;
        self.terminal = Some(terminal.clone());
        let output = streams.stdout.unwrap_or_else(|| Box::new(tokio::io::sink()));
        self.drain(terminal.clone(), output);
        if let Some(from) = streams.stdin {
            self.feed(from, terminal);
        }
        Ok(())
    }

    fn empty() -> Self {
        let ((close_input, _), (let_go, _)) = (watch::channel(false), watch::channel(false));
        Plumbing {
            outputs: Vec::new(),
            input: None,
            close_input,
            let_go,
            moved: Arc::default(),
            terminal: None,
        }
    }

    fn drain(&mut self, from: impl AsyncRead + Send + Unpin + 'static, to: Writer) {
        self.outputs.push(tokio::spawn(drain(from, to, Arc::clone(&self.moved), self.let_go.subscribe())));
    }

    fn feed(&mut self, from: Reader, to: impl AsyncWrite + Send + Unpin + 'static) {
        self.input = Some(tokio::spawn(feed(from, to, self.close_input.subscribe())));
    }

    /// The host will send no more input: what is on its way still arrives, then the container sees the end.
    pub(crate) fn close_input(&self) {
        self.close_input.send_replace(true);
    }

    /// Sets the terminal's size in characters.
    ///
    /// # Errors
    /// The kernel's answer; `ENOTTY` without a terminal.
    pub(crate) fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        let terminal = self.terminal.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTTY))?;
        let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(terminal.0.get_ref(), size)?)
    }

    /// After the process ended: waits until all its output is with the host, or the host takes no more of it. `lingers`
    /// says that others may have its streams still: what they have to say is not waited for.
    pub(crate) async fn finish(mut self, lingers: bool) {
        self.let_go.send_replace(lingers);
        if let Some(input) = self.input.take() {
            input.abort();
        }
        for mut output in std::mem::take(&mut self.outputs) {
            let mut before = self.moved.load(Ordering::Relaxed);
            while tokio::time::timeout(STALLED, &mut output).await.is_err() {
                let now = self.moved.load(Ordering::Relaxed);
                if now == before {
                    tracing::warn!("the host takes no output; the rest is given up");
                    output.abort();
                    break;
                }
                before = now;
            }
        }
    }
}

/// Moves output until its end. Where the host is gone the rest is thrown away, so that the container never
/// blocks on it.
async fn drain(
    mut from: impl AsyncRead + Unpin,
    mut to: Writer,
    moved: Arc<AtomicU64>,
    let_go: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; CHUNK];
    let mut open = true;
    let (mut patience, mut room) = (LINGERING, LAST_WORDS);
    // What the process itself said is there when it has ended: reading that takes no time, and no more than a pipe's room.
    while !patience.is_zero() && room > 0 {
        let (ended, began) = (*let_go.borrow(), Instant::now());
        let got = read_until(&mut from, &mut buffer, let_go.clone()).await;
        let Some(bytes @ [_, ..]) = got.ok().and_then(|n| buffer.get(..n)) else { break };
        if ended {
            patience = patience.saturating_sub(began.elapsed());
            room = room.saturating_sub(bytes.len());
        }
        open = open && to.write_all(bytes).await.is_ok();
        moved.fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}

/// Reads; once `close` says so no longer than a stream is [`SILENT`], which then counts as its end.
async fn read_until(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    mut close: watch::Receiver<bool>,
) -> io::Result<usize> {
    let closing = async {
        let asked = close.wait_for(|closing| *closing).await.is_ok();
        if asked { tokio::time::sleep(SILENT).await } else { std::future::pending().await }
    };
    tokio::select! {
        biased;
        got = from.read(buffer) => got,
        () = closing => Ok(0),
    }
}

async fn feed(mut from: Reader, mut to: impl AsyncWrite + Unpin, close: watch::Receiver<bool>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let got = read_until(&mut from, &mut buffer, close.clone()).await;
        match got.ok().and_then(|n| buffer.get(..n)) {
            None | Some([]) => break,
            Some(bytes) if to.write_all(bytes).await.is_err() => break,
            Some(_) => {}
        }
    }
    let _ = to.shutdown().await;
}

/// A terminal's master side.
#[derive(Clone, Debug)]
struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Terminal(Arc::new(watched(master, Interest::READABLE | Interest::WRITABLE)?)))
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            match guard.try_io(|fd| rustix::io::read(fd.get_ref(), &mut *room).map_err(io::Error::from)) {
                Ok(Ok(got)) => {
                    buf.advance(got);
                    return Poll::Ready(Ok(()));
                }
                // How Linux says that no process has the terminal open any more.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            let write = guard.try_io(|fd| rustix::io::write(fd.get_ref(), bytes).map_err(io::Error::from));
            if let Ok(result) = write {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The end of input is a character to a terminal: ^D.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx, &[4]))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_arrives_complete_and_a_gone_host_does_not_block() {
        for host_stays in [true, false] {
            let (mut far, near) = tokio::io::duplex(64);
            let streams = Streams { stdout: Some(Box::new(near)), ..Streams::default() };
            let (plumbing, ends) = Plumbing::pipes(streams).unwrap();
            let out = ends.borrow()[1].try_clone_to_owned().unwrap();
            drop(ends);
            let writer = tokio::task::spawn_blocking(move || {
                io::Write::write_all(&mut File::from(out), &vec![b'x'; 300_000]).unwrap();
            });
            let mut got = Vec::new();
            if host_stays {
                far.read_to_end(&mut got).await.unwrap();
                assert_eq!(got.len(), 300_000);
            } else {
                drop(far);
            }
            writer.await.unwrap();
            plumbing.finish(false).await;
        }
    }

    #[tokio::test]
    async fn children_that_go_on_talking_withhold_no_end_and_cost_no_output() {
        for pause in [Duration::ZERO, SILENT / 4] {
            let (mut far, near) = tokio::io::duplex(1024);
            let streams = Streams { stdout: Some(Box::new(near)), ..Streams::default() };
            let (plumbing, ends) = Plumbing::pipes(streams).unwrap();
            let mut out = File::from(ends.borrow()[1].try_clone_to_owned().unwrap());
            drop(ends);
            // As much as the pipe and what leads to the host hold, so that most of it waits when the process ends.
            io::Write::write_all(&mut out, &[b'x'; 60_000]).unwrap();
            let child = tokio::task::spawn_blocking(move || {
                while io::Write::write_all(&mut out, b"y").is_ok() {
                    std::thread::sleep(pause);
                }
            });
            let host = tokio::spawn(async move {
                let mut got = Vec::new();
                far.read_to_end(&mut got).await.map(|_| got)
            });
            tokio::time::timeout(Duration::from_secs(30), plumbing.finish(true)).await.unwrap();
            let got = host.await.unwrap().unwrap();
            assert!(got.iter().take(60_000).all(|b| *b == b'x') && got.len() > 60_000);
            child.await.unwrap();
        }
    }

    #[tokio::test]
    async fn input_ends_with_the_stream_or_by_request() {
        for by_request in [true, false] {
            let (mut far, near) = tokio::io::duplex(1024);
            let streams = Streams { stdin: Some(Box::new(near)), ..Streams::default() };
            let (plumbing, ends) = Plumbing::pipes(streams).unwrap();
            let input = ends.borrow()[0].try_clone_to_owned().unwrap();
            far.write_all(b"hello").await.unwrap();
            let far = if by_request {
                plumbing.close_input();
                Some(far)
            } else {
                drop(far);
                None
            };
            let text = tokio::task::spawn_blocking(move || io::read_to_string(File::from(input)).unwrap());
            assert_eq!(text.await.unwrap(), "hello");
            drop(far);
        }
    }
}
