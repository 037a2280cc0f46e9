//! A process of a container before it is the workload: this binary, executed again. It builds the container's mount tree
//! or joins a running container, waits for the word to start, gives up every privilege that the plan does not name, and
//! becomes the workload.
//!
//! A container with process ids of its own is built by the first of them, which nobody else is there to see. Where others
//! see the new process (a further process of a running container, or a pod that shares its process ids), all is done
//! outside, by a helper that they do not see; the process that appears among them has nothing that the workload lacks.
//!
//! Descriptors: 0-2 standard streams, 3 its configuration (a memfd with JSON), 4 a socket to the guest daemon, from 5 on
//! what it joins: see [`Place`].

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat};
use rustix::process::{chdir, ioctl_tiocsctty, setsid};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};
use serde::{Deserialize, Serialize};

use super::control::{Message, receive_start, send};
use super::program::{self, Program};
use super::rootfs::Rootfs;
use crate::{Error, syscalls};

/// The descriptor of the configuration.
const CONFIG_FD: i32 = 3;
/// The descriptor of the control socket.
const CONTROL_FD: i32 = 4;
/// The first descriptor of what it joins.
const PLACE_FD: i32 = 5;

/// Everything that the process does, decided by the guest daemon from the plan.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InitConfig {
    pub(crate) place: Place,
    pub(crate) program: Program,
}

/// Where the process is to live.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Place {
    /// In a container that it builds. Descriptors: the pod's ipc namespace, its uts namespace, and with `shared_pids` a
    /// pidfd of the first process of the pod's process ids.
    New {
        /// The container's mount tree.
        rootfs: Box<Rootfs>,
        /// Whether process ids are the pod's; else this process is the first of its own.
        shared_pids: bool,
    },
    /// In a running container. Descriptor: a pidfd of its first process.
    Running,
}

/// The entry point, by `argv[0]`. Returns only where the workload could not be started.
pub(crate) fn main() -> ExitCode {
    let Ok(control) = syscalls::inherited(CONTROL_FD) else { return ExitCode::from(125) };
    let error = match run(control.as_fd()) {
        Ok(Helped) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    let (reason, errno) = match &error {
        Error::Container { step, source } => (step.clone(), source.raw_os_error().unwrap_or(0)),
        other => (other.to_string(), 0),
    };
    let _ = send(control.as_fd(), &Message::Failed { reason, errno }, None);
    // As shells do: 127 where the program is missing, 126 where it cannot be run.
    ExitCode::from(if errno == libc::ENOENT { 127 } else { 126 })
}

/// This process was the helper, whose work is done.
struct Helped;

fn run(control: BorrowedFd<'_>) -> Result<Helped, Error> {
    let InitConfig { place, program } = read_config()?;
    let (terminal, outside) = match place {
        Place::New { rootfs, shared_pids } => (build(&rootfs, &program, shared_pids)?, shared_pids),
        Place::Running => (join(&program)?, true),
    };
    // Compiled before the word to start, so that starting is quick.
    let filter = program.filter()?;
    program::limit_resources()?;
    let (master, slave) = terminal.unzip();
    if outside {
        syscalls::hide_memory().map_err(Error::container("hide its memory"))?;
        program.give_up_privileges(filter.as_ref())?;
        let forked = syscalls::fork_sibling().map_err(Error::container("make the process"))?;
        if let Some((pid, pidfd)) = forked {
            let pid = pid.as_raw_nonzero().get();
            let told = send(control, &Message::Forked { pid }, Some(pidfd.as_fd()));
            told.map_err(Error::container("report the process"))?;
            return Ok(Helped);
        }
    }
    setsid().map_err(Error::container("start a session"))?;
    if let Some(slave) = slave {
        use_terminal(&slave)?;
    }
    let ready = send(control, &Message::Ready, master.as_ref().map(AsFd::as_fd));
    ready.map_err(Error::container("report readiness"))?;
    drop(master);
    receive_start(control).map_err(Error::container("wait for the start"))?;

    if !outside {
        program.give_up_privileges(filter.as_ref())?;
    }
    chdir(program.cwd.as_str()).map_err(Error::container(format!("chdir to {}", program.cwd)))?;
    syscalls::close_on_exec_from(3).map_err(Error::container("close descriptors"))?;
    syscalls::default_signals();
    if let (true, Some(filter)) = (program.no_new_privileges, &filter) {
        syscalls::install_filter(filter).map_err(Error::container("install the system call filter"))?;
    }
    Err(program.run())
}

type Terminal = Option<(OwnedFd, OwnedFd)>;

/// Builds the container and moves into it.
fn build(rootfs: &Rootfs, program: &Program, shared_pids: bool) -> Result<Terminal, Error> {
    let joined = |kind| move |e| Error::container(format!("join the pod's {kind}"))(e);
    let namespace = |number: i32, kind| -> io::Result<()> {
        Ok(move_into_link_name_space(syscalls::inherited(PLACE_FD + number)?.as_fd(), Some(kind))?)
    };
    namespace(0, LinkNameSpaceType::InterProcessCommunication).map_err(joined("ipc namespace"))?;
    namespace(1, LinkNameSpaceType::HostNameAndNISDomainName).map_err(joined("uts namespace"))?;
    if rootfs.cgroup {
        syscalls::unshare_cgroup().map_err(Error::container("enter a cgroup namespace"))?;
    }
    if shared_pids {
        // For its children; this process stays where nobody in the pod sees it.
        let join = || -> io::Result<()> {
            let first = syscalls::inherited(PLACE_FD + 2)?;
            Ok(move_into_thread_name_spaces(first.as_fd(), ThreadNameSpaceType::PROCESS_ID)?)
        };
        join().map_err(joined("process ids"))?;
    }
    let root = rootfs.build()?;
    let terminal = if program.terminal { Some(root.terminal()?) } else { None };
    own_streams(terminal.as_ref().map(|(_, slave)| slave), program.uid)?;
    root.enter(rootfs.read_only)?;
    Ok(terminal)
}

/// Moves into a running container.
fn join(program: &Program) -> Result<Terminal, Error> {
    let join = || -> io::Result<()> {
        let first = syscalls::inherited(PLACE_FD)?;
        let spaces = ThreadNameSpaceType::MOUNT
            | ThreadNameSpaceType::CONTROL_GROUP
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
            | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::PROCESS_ID;
        Ok(move_into_thread_name_spaces(first.as_fd(), spaces)?)
    };
    join().map_err(Error::container("join the container"))?;
    let terminal =
        if program.terminal { Some(terminal().map_err(Error::container("open a terminal"))?) } else { None };
    own_streams(terminal.as_ref().map(|(_, slave)| slave), program.uid)?;
    Ok(terminal)
}

/// Opens a terminal of a running container, whose processes may have put anything in the place where they are made.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::OpenptFlags;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    let stat = fstat(&master)?;
    let ptmx = rustix::fs::makedev(5, 2);
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != ptmx {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "/dev/pts/ptmx is no terminal"));
    }
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}

fn read_config() -> Result<InitConfig, Error> {
    let mut text = Vec::new();
    let mut read = || -> io::Result<InitConfig> {
        File::from(syscalls::inherited(CONFIG_FD)?).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    read().map_err(Error::container("read the configuration"))
}

/// Makes the terminal this session's and its own standard streams.
fn use_terminal(slave: &OwnedFd) -> Result<(), Error> {
    let attach = || -> io::Result<()> {
        ioctl_tiocsctty(slave)?;
        rustix::stdio::dup2_stdin(slave)?;
        rustix::stdio::dup2_stdout(slave)?;
        rustix::stdio::dup2_stderr(slave)?;
        Ok(())
    };
    attach().map_err(Error::container("attach the terminal"))
}

/// Gives the terminal, or pipes, to the program's user: so that it can open `/dev/tty` or `/dev/stdout`.
fn own_streams(terminal: Option<&OwnedFd>, uid: u32) -> Result<(), Error> {
    let own = |fd: BorrowedFd<'_>| -> io::Result<()> {
        let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
        if kind == FileType::Fifo || terminal.is_some() {
            // The group stays: a terminal's is the one that the file system gives it.
            fchown(fd, Some(Uid::from_raw(uid)), None::<Gid>)?;
        }
        Ok(())
    };
    let done = match terminal {
        Some(slave) => own(slave.as_fd()),
        None => [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
            .into_iter()
            .try_for_each(own),
    };
    done.map_err(Error::container("give the streams to the user"))
}
