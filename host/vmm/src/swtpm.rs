//! A software TPM beside a VM: swtpm, one process for each VM, which QEMU connects to.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Error;
use crate::keeper::{Copy, Kept};
use crate::vm::{bind, run_dir};

/// The program's name; looked for on the PATH.
const PROGRAM: &str = "swtpm";

/// A running TPM. It ends when QEMU lets go of it, when this is dropped, and with this process.
pub struct Swtpm {
    child: Kept,
}

impl Swtpm {
    /// Starts a TPM 2.0 whose state, made by `swtpm_setup`, is in the folder `state`. QEMU may connect to `socket` as soon as
    /// this returns: the socket is made here and handed over, so nobody waits for it to appear. Its folder must be private.
    ///
    /// # Errors
    /// [`Error::TpmMissing`] where swtpm is not installed, [`Error::RunDir`] or [`Error::Spawn`].
    pub async fn start(state: &Path, socket: &Path) -> Result<Swtpm, Error> {
        let listener = bind_std(socket)?;
        let mut directory = std::ffi::OsString::from("dir=");
        directory.push(state);
        let mut command = Command::new(PROGRAM);
        command
            .args(["socket", "--tpm2", "--terminate", "--ctrl", "type=unixio,fd=0", "--tpmstate"])
            .arg(directory);
        let child = Kept::start(command, Stdio::from(OwnedFd::from(listener)), Copy { file: None, limit: 0 });
        let child = child.await.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::TpmMissing(PROGRAM),
            _ => Error::Spawn(e),
        })?;
        tracing::debug!(pid = child.pid(), "swtpm started");
        Ok(Swtpm { child })
    }

    /// The last of what it said on standard error, at most 16 KiB, without control characters.
    pub fn stderr_tail(&self) -> String {
        self.child.errors.text()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // Its state's folder is removed next.
        self.child.kill_now();
    }
}

/// Runs a program without input to its end, in its own process group; gives its status and the last of what it said, on
/// standard output, then on standard error. It is killed when this is dropped, and when this process dies.
///
/// # Errors
/// Those of starting it.
pub async fn finished(command: Command) -> std::io::Result<(std::process::ExitStatus, String)> {
    let mut child = Kept::start(command, Stdio::null(), Copy { file: None, limit: 0 }).await?;
    let status = child.wait().await?;
    Ok((status, [child.output.text(), child.errors.text()].join("\n")))
}

fn bind_std(path: &Path) -> Result<std::os::unix::net::UnixListener, Error> {
    // swtpm waits for its one client in accept, so the socket must block.
    bind(path)
        .and_then(|listener| listener.into_std())
        .and_then(|listener| listener.set_nonblocking(false).map(|()| listener))
        .map_err(run_dir(path))
}
