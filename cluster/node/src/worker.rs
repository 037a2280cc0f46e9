//! Running the child.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::protocol::{Reply, Request};

/// Longest reply, in bytes.
const MOST: usize = 4 * 1024 * 1024;

/// How the child is started.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The program; it must still be found once the child has another root, so it is this process's own.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A child at work.
#[derive(Debug)]
pub struct Running {
    child: tokio::process::Child,
    stdin: Option<tokio::process::ChildStdin>,
    said: Vec<u8>,
}

impl Worker {
    /// Starts the child.
    ///
    /// # Errors
    /// A sentence.
    pub async fn start(&self, request: &Request) -> Result<Running, String> {
        let failed = |e: std::io::Error| format!("the child process: {e}");
        let mut line = serde_json::to_vec(request).map_err(|e| e.to_string())?;
        line.push(b'\n');
        // Not killed when it is dropped: a change that is cut off is put back only by the next run.
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut stdin = child.stdin.take().ok_or("the child process has no standard input")?;
        stdin.write_all(&line).await.map_err(failed)?;
        stdin.flush().await.map_err(failed)?;
        Ok(Running { child, stdin: Some(stdin), said: Vec::new() })
    }
}

impl Running {
    /// Asks it to stop and to put back what it has changed.
    pub fn stop(&mut self) {
        self.stdin = None;
    }

    /// Waits for its reply. Cancel-safe.
    ///
    /// # Errors
    /// A sentence where it ended without one.
    pub async fn reply(&mut self) -> Result<Reply, String> {
        let failed = |e: std::io::Error| format!("the child process: {e}");
        if let Some(stdout) = self.child.stdout.as_mut() {
            while self.said.len() < MOST && stdout.read_buf(&mut self.said).await.map_err(failed)? > 0 {}
        }
        let status = self.child.wait().await.map_err(failed)?;
        match serde_json::from_slice(&self.said) {
            Ok(reply) if status.success() => Ok(reply),
            _ => Err(format!("the child process ended without an answer ({status})")),
        }
    }
}
