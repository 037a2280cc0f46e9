//! A container of a pod: created, started and waited for through the guest's Task service; its standard streams
//! are vsock streams that the guest opens.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cocoon_sandbox_api::{FIRST_STDIO_PORT, stdio_uri};
use cocoon_stage::{Code, Failure, Stage};
use cocoon_vsock::{Listener, Stream};
use containerd_shim_protos::api::{
    CreateTaskRequest, DeleteRequest, KillRequest, ResizePtyRequest, StartRequest, WaitRequest,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Pod;

/// The host's ends of a container's standard streams; `None` leaves one closed.
#[derive(Default)]
pub struct Stdio {
    /// Read by the container.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Written by the container.
    pub stdout: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Written by the container.
    pub stderr: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Whether the container has a terminal.
    pub terminal: bool,
}

/// A started container.
#[derive(Debug)]
pub struct Container {
    name: String,
    output: Vec<JoinHandle<()>>,
    input: Option<JoinHandle<()>>,
    /// Why output could not be written here, once it could not.
    broken: watch::Receiver<Option<String>>,
}

static NEXT_PORT: AtomicU32 = AtomicU32::new(FIRST_STDIO_PORT);

/// Ports are counted up and used once; the first again after four thousand million streams.
pub(crate) fn next_port() -> u32 {
    let next = |port: u32| Some(port.checked_add(1).unwrap_or(FIRST_STDIO_PORT));
    NEXT_PORT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(FIRST_STDIO_PORT)
}

/// How long output may still flow after the container ended.
const DRAIN: Duration = Duration::from_secs(10);

impl Pod {
    /// Creates and starts the container of this name. Creating waits until the guest has attested, fetched and
    /// pulled what it needs.
    ///
    /// # Errors
    /// The guest's coded refusal or failure.
    pub async fn start_container(&self, name: &str, stdio: Stdio) -> Result<Container, Failure> {
        let mut request =
            CreateTaskRequest { id: name.to_owned(), terminal: stdio.terminal, ..Default::default() };
        let listen = |wanted: bool, uri: &mut String| -> Result<Option<Listener>, Failure> {
            if !wanted {
                return Ok(None);
            }
            let port = next_port();
            *uri = stdio_uri(port);
            Ok(Some(self.vsock.listen(port)?))
        };
        let stdin = listen(stdio.stdin.is_some(), &mut request.stdin)?;
        let stdout = listen(stdio.stdout.is_some(), &mut request.stdout)?;
        let stderr = listen(stdio.stderr.is_some() && !stdio.terminal, &mut request.stderr)?;

        let mut output = Vec::new();
        let (breaks, broken) = watch::channel(None);
        for (listener, sink) in [(stdout, stdio.stdout), (stderr, stdio.stderr)] {
            if let (Some(listener), Some(sink)) = (listener, sink) {
                output.push(tokio::spawn(copy_out(listener, sink, breaks.clone())));
            }
        }
        let input = match (stdin, stdio.stdin) {
            (Some(listener), Some(source)) => Some(tokio::spawn(copy_in(listener, source))),
            _ => None,
        };
        let container = Container { name: name.to_owned(), output, input, broken };
        // Attestation and pull happen inside; their own limits apply.
        self.task
            .create(ttrpc::context::with_duration(Duration::from_secs(3600)), &request)
            .await
            .map_err(|e| self.failure_of(&e, Stage::Start))?;
        let start = StartRequest { id: name.to_owned(), ..Default::default() };
        self.task
            .start(ttrpc::context::with_duration(Duration::from_secs(60)), &start)
            .await
            .map_err(|e| self.failure_of(&e, Stage::Start))?;
        Ok(container)
    }

    /// Waits until the container has ended and its output is drained; gives its exit status (128 + signal where a
    /// signal ended it).
    ///
    /// # Errors
    /// `SERVE-FAILED` where the connection is lost, or its output cannot be written: its reader may have gone.
    pub async fn wait_container(&self, container: &mut Container) -> Result<u32, Failure> {
        let request = WaitRequest { id: container.name.clone(), ..Default::default() };
        let answer = tokio::select! {
            answer = self.task.wait(ttrpc::context::with_timeout(0), &request) => answer,
            Ok(broken) = container.broken.wait_for(Option::is_some) => return Err(unwritten(broken.as_deref())),
        };
        let status = answer.map_err(|e| self.failure_of(&e, Stage::Serve))?.exit_status;
        for task in container.output.drain(..) {
            if tokio::time::timeout(DRAIN, task).await.is_err() {
                return Err(Failure::new(Code::ServeFailed, "the container's output did not end"));
            }
        }
        match container.broken.borrow().as_deref() {
            None => Ok(status),
            why => Err(unwritten(why)),
        }
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// The guest's refusal.
    pub async fn signal_container(&self, container: &str, signal: u32) -> Result<(), Failure> {
        let request = KillRequest { id: container.to_owned(), signal, ..Default::default() };
        let limit = ttrpc::context::with_duration(Duration::from_secs(5));
        self.task.kill(limit, &request).await.map(|_| ()).map_err(|e| self.failure_of(&e, Stage::Serve))
    }

    /// Tells the container's terminal its size.
    ///
    /// # Errors
    /// The guest's refusal.
    pub async fn resize_container(&self, container: &str, columns: u32, rows: u32) -> Result<(), Failure> {
        let request =
            ResizePtyRequest { id: container.to_owned(), width: columns, height: rows, ..Default::default() };
        let limit = ttrpc::context::with_duration(Duration::from_secs(5));
        self.task.resize_pty(limit, &request).await.map(|_| ()).map_err(|e| self.failure_of(&e, Stage::Serve))
    }

    /// Removes what is left of an ended container.
    ///
    /// # Errors
    /// The guest's refusal.
    pub async fn delete_container(&self, container: &str) -> Result<(), Failure> {
        let request = DeleteRequest { id: container.to_owned(), ..Default::default() };
        let limit = ttrpc::context::with_duration(Duration::from_secs(20));
        self.task.delete(limit, &request).await.map(|_| ()).map_err(|e| self.failure_of(&e, Stage::Serve))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        for task in self.output.iter().chain(&self.input) {
            task.abort();
        }
    }
}

fn unwritten(why: Option<&str>) -> Failure {
    Failure::new(
        Code::ServeFailed,
        format!("the container's output cannot be written: {}", why.unwrap_or_default()),
    )
}

async fn copy_out(
    mut listener: Listener,
    mut sink: Box<dyn AsyncWrite + Send + Unpin>,
    broken: watch::Sender<Option<String>>,
) {
    let Some(mut stream) = listener.accept().await else { return };
    // Each piece is flushed, so that a waiting reader sees it at once.
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n) = stream.read(&mut buffer).await {
        let Some(piece) = buffer.get(..n).filter(|p| !p.is_empty()) else { break };
        let written = async {
            sink.write_all(piece).await?;
            sink.flush().await
        };
        if let Err(e) = written.await {
            broken.send_replace(Some(e.to_string()));
            break;
        }
    }
}

async fn copy_in(mut listener: Listener, mut source: Box<dyn AsyncRead + Send + Unpin>) {
    let Some(mut stream) = listener.accept().await else { return };
    let _: Result<u64, _> = tokio::io::copy(&mut source, &mut stream).await;
    // End of input: the guest sees it as the end of the container's standard input.
    let _ = Stream::shutdown(&mut stream).await;
}
