//! A running pod VM.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use crate::inherit::inherit;
use crate::keeper::{Copy, Ending, Kept, Killer};
use crate::qmp::Qmp;
use crate::spec::{Console, Disk, Platform, VmSpec};
use crate::{Error, command_line};

/// How long QEMU has to do as it is told before it is killed.
const QUIT_LIMIT: Duration = Duration::from_secs(3);

/// Most bytes copied of a console.
const CONSOLE_LIMIT: usize = 16 * 1024 * 1024;

/// QEMU with one guest. Dropping it kills QEMU; so does the end of this process, however it ends.
pub struct Vm {
    ports: u32,
    plugged: u32,
    private: bool,
    child: Kept,
    control: Control,
}

enum Control {
    /// QEMU connects to this at its start.
    Expected(UnixListener),
    Ready(Qmp<UnixStream>),
    Broken,
}

impl Vm {
    /// Checks the files, then starts QEMU. Returns as soon as QEMU runs; the guest then boots.
    ///
    /// # Errors
    /// [`Error::Spec`], [`Error::File`], [`Error::QemuMissing`], [`Error::RunDir`] or [`Error::Spawn`]. What QEMU
    /// itself finds wrong shows as its end, with [`Vm::stderr_tail`].
    pub async fn start(spec: VmSpec) -> Result<Vm, Error> {
        spec.check()?;
        readable("kernel", &spec.kernel)?;
        if let Some(initrd) = &spec.initrd {
            readable("initrd", initrd)?;
        }
        readable("initdata disk", &spec.initdata_disk)?;
        for disk in &spec.disks {
            readable("disk", &disk.path)?;
        }
        if let Some(firmware) = &spec.firmware {
            readable("firmware", firmware)?;
        }
        if let Platform::Tpm { vars, .. } = &spec.platform {
            readable("firmware", vars)?;
        }
        let copy = match &spec.console {
            Console::Tail => None,
            Console::Copy(path) => {
                let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
                Some(file.map_err(run_dir(path))?)
            }
        };
        let control = bind(&spec.qmp_socket).map_err(run_dir(&spec.qmp_socket))?;
        let mut command = Command::new(&spec.qemu);
        command.args(command_line(&spec)).current_dir(&spec.run_dir);
        inherit(&mut command, spec.network.descriptors());
        let copy = Copy { file: copy, limit: CONSOLE_LIMIT };
        let started = Kept::start(command, Stdio::null(), copy).await;
        let child = started.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound if !spec.qemu.exists() => Error::QemuMissing(spec.qemu.clone()),
            _ => Error::Spawn(e),
        })?;
        tracing::debug!(pid = child.pid(), "QEMU started");
        let (ports, private) = (spec.ports, spec.platform.private_memory());
        Ok(Vm { ports, plugged: 0, private, child, control: Control::Expected(control) })
    }

    /// Gives the running VM a disk, in the next of its ports. The guest sees it soon after.
    ///
    /// # Errors
    /// [`Error::Spec`] where no port is left, [`Error::Qmp`] with QEMU's words.
    pub async fn plug(&mut self, disk: &Disk) -> Result<(), Error> {
        if self.plugged >= self.ports {
            return Err(Error::Spec("the VM has no port left for a disk"));
        }
        let (number, private) = (self.plugged, self.private);
        crate::hotplug::plug(self.qmp().await?, number, disk, private).await?;
        self.plugged += 1;
        Ok(())
    }

    /// Waits for QEMU to end: the guest powered off, panicked, or QEMU was stopped or killed. Safe to cancel.
    ///
    /// # Errors
    /// Only where the process cannot be waited for.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// QEMU's end, for those who do not hold the VM.
    pub fn ending(&self) -> Ending {
        self.child.ending()
    }

    /// Kills QEMU, for those who do not hold the VM.
    pub fn killer(&self) -> Killer {
        self.child.killer()
    }

    /// How QEMU ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.ended()
    }

    /// The error to show where QEMU ended before the workload did.
    pub fn ended_error(&self) -> Error {
        let status = self.ended().map_or_else(|| "still running".into(), |s| s.to_string());
        Error::Ended { status, stderr: self.stderr_tail() }
    }

    /// Ends QEMU through QMP, or kills it where it does not follow within three seconds.
    pub async fn quit(&mut self) {
        let asked = tokio::time::timeout(QUIT_LIMIT, async {
            if let Ok(qmp) = self.qmp().await {
                // A QEMU that closes before it answers has quit as well.
                let _ = qmp.quit().await;
                let _ = self.child.wait().await;
            }
        });
        let _ = asked.await;
        self.kill().await;
    }

    /// Kills QEMU and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill();
        let _ = self.child.wait().await;
    }

    /// The control connection. Waits for QEMU to connect, which it does before the guest runs.
    ///
    /// # Errors
    /// [`Error::Qmp`] where QEMU ended or does not speak QMP.
    pub async fn qmp(&mut self) -> Result<&mut Qmp<UnixStream>, Error> {
        if let Control::Expected(listener) = &self.control {
            let connected = tokio::select! {
                accepted = listener.accept() => accepted.map_err(|e| Error::Qmp(e.to_string())),
                _ = self.child.wait() => Err(Error::Qmp("QEMU has ended".into())),
            };
            let ready = match connected {
                Ok((stream, _)) => Qmp::handshake(stream).await,
                Err(error) => Err(error),
            };
            match ready {
                Ok(qmp) => self.control = Control::Ready(qmp),
                Err(error) => {
                    self.control = Control::Broken;
                    return Err(error);
                }
            }
        }
        match &mut self.control {
            Control::Ready(qmp) => Ok(qmp),
            _ => Err(Error::Qmp("closed".into())),
        }
    }

    /// The last of what QEMU wrote to its standard error, at most 16 KiB, without control characters.
    pub fn stderr_tail(&self) -> String {
        self.child.errors.text()
    }

    /// The last of the guest's console, at most 16 KiB, without control characters. Hostile text.
    pub fn console_tail(&self) -> String {
        self.child.output.text()
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }
}

fn readable(what: &'static str, path: &Path) -> Result<(), Error> {
    File::open(path).map(drop).map_err(|source| Error::File { what, path: path.into(), source })
}

/// What a failure at that place of the runtime folder is.
pub(crate) fn run_dir(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::RunDir { path, source }
}

/// A socket that only its owner may connect to, in the place of whatever was there.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
