//! The first process of a pod that shares its process ids: it holds them, reaps what its containers leave behind, and does
//! nothing else. The containers see it, and may do to it what their capabilities let them; so it has an empty root, no
//! capability, no user of its own and nothing to tell.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, UnmountFlags, fsconfig_create, fsmount,
    fsopen, mount_change, unmount,
};
use rustix::process::{Pid, WaitOptions, fchdir, pivot_root, wait};

use super::control::{self, Message, send};
use super::program::Program;
use super::seccomp::Wish;
use super::{Settings, spawn};
use crate::Error;
use crate::reaper::Reaper;
use crate::syscalls::{self, Fresh, clone_exec};

/// `argv[0]` of the process, by which the guest binary knows what it is to do.
pub const HOLDER_NAME: &str = "cocoon-pod";
/// The descriptor of the control socket.
const CONTROL_FD: i32 = 3;
/// `nobody`.
const NOBODY: u32 = 65534;
/// Killed for memory only when nothing else is left: with it go all processes of the pod.
const OOM_SCORE: &str = "-998";

/// The process, as the guest daemon has it; it is killed when dropped.
pub(crate) struct Holder {
    pidfd: Arc<OwnedFd>,
}

impl Holder {
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = syscalls::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
    }
}

/// Starts the process; gives it with a detached mount of the `/proc` that shows its process ids.
///
/// # Errors
/// [`Error::Container`].
pub(crate) async fn spawn(settings: &Settings) -> Result<(Holder, OwnedFd), Error> {
    let step = || Error::container("start the pod's first process");
    let (control, theirs) = control::pair().map_err(step())?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").map_err(step())?;
    let fds = [null.as_fd(), null.as_fd(), null.as_fd(), theirs.as_fd()];
    let argv = [CString::new(HOLDER_NAME).map_err(io::Error::from).map_err(step())?];
    let exe = settings.exe.as_fd();
    let spawned = settings.reaper.spawn(|| clone_exec(exe, &argv, &fds, None, Fresh::MountsAndPids));
    let (pid, pidfd) = spawned.map_err(step())?;
    drop(theirs);
    let holder = Holder { pidfd: Arc::new(pidfd) };
    tokio::spawn(reap(Arc::clone(&settings.reaper), pid, Arc::clone(&holder.pidfd)));
    match control.receive().await {
        Ok(Some((Message::Holding, Some(proc)))) => Ok((holder, proc)),
        Ok(Some((message, _))) => Err(spawn::failure(message)),
        Ok(None) => Err(spawn::ended_early()),
        Err(e) => Err(step()(e)),
    }
}

async fn reap(reaper: Arc<Reaper>, pid: Pid, pidfd: Arc<OwnedFd>) {
    let _ = reaper.wait(pid, &pidfd).await;
}

/// The entry point, by `argv[0]`.
pub(crate) fn main() -> ExitCode {
    let Ok(control) = syscalls::inherited(CONTROL_FD) else { return ExitCode::from(125) };
    if let Err(e) = settle(control.as_fd()) {
        let (reason, errno) = ("settle the pod's first process".to_owned(), e.raw_os_error().unwrap_or(0));
        let _ = send(control.as_fd(), &Message::Failed { reason, errno }, None);
        return ExitCode::from(126);
    }
    drop(control);
    loop {
        // SIGCHLD stays pending between the two, so that no end is missed.
        while wait(WaitOptions::NOHANG).is_ok_and(|ended| ended.is_some()) {}
        syscalls::wait_for_child();
    }
}

fn settle(control: BorrowedFd<'_>) -> io::Result<()> {
    // Nothing but the socket is its own.
    syscalls::close_from(CONTROL_FD.unsigned_abs() + 1)?;
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let inert = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let detached = |kind: &str, attributes| -> io::Result<OwnedFd> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    };
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let proc = detached("proc", inert)?;
    // An empty root in place of the guest's.
    let root = detached("tmpfs", inert | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    let over = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | rustix::mount::MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&root, "", &over, "", flags)?;
    fchdir(&root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    syscalls::hide_memory()?;
    let nobody = Program {
        args: Vec::new(),
        env: Vec::new(),
        cwd: "/".into(),
        uid: NOBODY,
        gid: NOBODY,
        groups: Vec::new(),
        capabilities: 0,
        no_new_privileges: true,
        filter: Wish::RuntimeDefault,
        terminal: false,
    };
    let other = |e: Error| io::Error::other(e.to_string());
    let filter = nobody.filter().map_err(other)?;
    nobody.give_up_privileges(filter.as_ref()).map_err(other)?;
    syscalls::block_signals();
    send(control, &Message::Holding, Some(proc.as_fd()))?;
    if let Some(filter) = &filter {
        syscalls::install_filter(filter)?;
    }
    Ok(())
}
