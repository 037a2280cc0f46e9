//! The first process of a container: this binary, re-executed in new namespaces. It builds the mount tree, waits
//! for the word to start, gives up every privilege that the plan does not name, and becomes the workload.
//!
//! Descriptors: 0-2 standard streams, 3 its configuration (a memfd with JSON), 4 a socket to the guest daemon.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::{Gid, Uid, fchown, fstat};
use rustix::process::{Resource, Rlimit, chdir, getrlimit, ioctl_tiocsctty, setrlimit, setsid};
use rustix::thread::{
    set_keep_capabilities, set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid,
};
use serde::{Deserialize, Serialize};

use super::control::{Message, receive_start, send};
use super::profile::Filter;
use super::rootfs::Rootfs;
use super::{caps, seccomp};
use crate::{Error, syscalls};

/// The descriptor of the configuration.
pub(crate) const CONFIG_FD: i32 = 3;
/// The descriptor of the control socket.
pub(crate) const CONTROL_FD: i32 = 4;

/// Soft limit of open files: programs that loop over all descriptors stay fast; others raise it to the hard one.
const OPEN_FILES: (u64, u64) = (65_536, 1_048_576);

/// Everything that the first process does, decided by the guest daemon from the plan.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InitConfig {
    pub(crate) rootfs: Rootfs,
    pub(crate) hostname: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Bit mask of capabilities.
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
    /// The system call filter.
    pub(crate) filter: seccomp::Wish,
    pub(crate) terminal: bool,
}

/// The entry point, by `argv[0]`. Returns only where the workload could not be started.
pub(crate) fn main() -> ExitCode {
    let Ok(control) = syscalls::inherited(CONTROL_FD) else { return ExitCode::from(125) };
    let Err(error) = run(control.as_fd());
    let (reason, errno) = match &error {
        Error::Container { step, source } => (step.clone(), source.raw_os_error().unwrap_or(0)),
        other => (other.to_string(), 0),
    };
    let _ = send(control.as_fd(), &Message::Failed { reason, errno }, None);
    // As shells do: 127 where the program is missing, 126 where it cannot be run.
    ExitCode::from(if errno == libc::ENOENT { 127 } else { 126 })
}

fn run(control: BorrowedFd<'_>) -> Result<std::convert::Infallible, Error> {
    let config = read_config()?;
    setsid().map_err(Error::container("start a session"))?;
    if config.rootfs.cgroup {
        syscalls::unshare_cgroup().map_err(Error::container("enter a cgroup namespace"))?;
    }
    if !config.hostname.is_empty() {
        let name = config.hostname.as_bytes();
        rustix::system::sethostname(name).map_err(Error::container("set the host name"))?;
    }

    let root = config.rootfs.build()?;
    let master = if config.terminal {
        let (master, slave) = root.terminal()?;
        use_terminal(&slave, config.uid)?;
        Some(master)
    } else {
        own_streams(config.uid)?;
        None
    };
    root.enter(config.rootfs.read_only)?;
    // Compiled before the word to start, so that starting is quick.
    let filter = config.filter.compile(config.capabilities)?;

    let ready = send(control, &Message::Ready, master.as_ref().map(AsFd::as_fd));
    ready.map_err(Error::container("report readiness"))?;
    drop(master);
    receive_start(control).map_err(Error::container("wait for the start"))?;

    limit_resources()?;
    give_up_privileges(&config, filter.as_ref())?;
    chdir(config.rootfs.cwd.as_str()).map_err(Error::container(format!("chdir to {}", config.rootfs.cwd)))?;
    syscalls::close_on_exec_from(3).map_err(Error::container("close descriptors"))?;
    syscalls::default_signals();
    if let (true, Some(filter)) = (config.no_new_privileges, &filter) {
        syscalls::install_filter(filter).map_err(Error::container("install the system call filter"))?;
    }
    Err(become_workload(&config))
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
fn use_terminal(slave: &OwnedFd, uid: u32) -> Result<(), Error> {
    let attach = || -> io::Result<()> {
        ioctl_tiocsctty(slave)?;
        fchown(slave, Some(Uid::from_raw(uid)), None)?;
        rustix::stdio::dup2_stdin(slave)?;
        rustix::stdio::dup2_stdout(slave)?;
        rustix::stdio::dup2_stderr(slave)?;
        Ok(())
    };
    attach().map_err(Error::container("attach the terminal"))
}

/// Gives pipes to the container's user, so that it can open `/dev/stdout`.
fn own_streams(uid: u32) -> Result<(), Error> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let own = |fd: BorrowedFd<'_>| -> io::Result<()> {
        if rustix::fs::FileType::from_raw_mode(fstat(fd)?.st_mode) == rustix::fs::FileType::Fifo {
            fchown(fd, Some(Uid::from_raw(uid)), None)?;
        }
        Ok(())
    };
    streams.into_iter().try_for_each(own).map_err(Error::container("give the streams to the user"))
}

fn limit_resources() -> Result<(), Error> {
    let (soft, hard) = OPEN_FILES;
    let present = getrlimit(Resource::Nofile).maximum.unwrap_or(hard);
    let files = |hard: u64| Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) };
    let cores = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    setrlimit(Resource::Nofile, files(hard))
        // A daemon that may not raise limits (never so in a VM) passes on what it has.
        .or_else(|_| setrlimit(Resource::Nofile, files(hard.min(present))))
        .and_then(|()| setrlimit(Resource::Core, cores))
        .map_err(Error::container("set resource limits"))
}

fn give_up_privileges(config: &InitConfig, filter: Option<&Filter>) -> Result<(), Error> {
    caps::bound(config.capabilities).map_err(Error::container("bound the capabilities"))?;
    if let (false, Some(filter)) = (config.no_new_privileges, filter) {
        // Without no_new_privs installing a filter takes CAP_SYS_ADMIN, which is about to go.
        syscalls::install_filter(filter).map_err(Error::container("install the system call filter"))?;
    }
    let groups: Vec<Gid> = config.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    set_keep_capabilities(true)
        .and_then(|()| set_thread_groups(&groups))
        .and_then(|()| set_thread_gid(Gid::from_raw(config.gid)))
        .and_then(|()| set_thread_uid(Uid::from_raw(config.uid)))
        .and_then(|()| set_keep_capabilities(false))
        .map_err(Error::container("become the user"))?;
    caps::apply(config.capabilities).map_err(Error::container("set the capabilities"))?;
    if config.no_new_privileges {
        set_no_new_privs(true).map_err(Error::container("set no_new_privs"))?;
    }
    Ok(())
}

fn become_workload(config: &InitConfig) -> Error {
    let strings =
        |list: &[String]| list.iter().map(|s| CString::new(s.as_str())).collect::<Result<Vec<_>, _>>();
    let (Ok(args), Ok(env)) = (strings(&config.args), strings(&config.env)) else {
        return Error::Plan("an argument holds a NUL character".into());
    };
    let program = config.args.first().map_or("", String::as_str);
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for path in candidates(program, &config.env) {
        let Ok(path) = CString::new(path) else { continue };
        let error = syscalls::exec(&path, &args, &env);
        match error.raw_os_error() {
            // Look further, but remember that something was there.
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => last = error,
            _ => {
                last = error;
                break;
            }
        }
    }
    Error::container(format!("run {program:?}"))(last)
}

/// Where a program of that name may be: itself where it holds a `/`, else the folders of `PATH`.
fn candidates(program: &str, env: &[String]) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH="));
    let path = path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let folder = |f: &str| if f.is_empty() { program.to_owned() } else { format!("{f}/{program}") };
    path.split(':').map(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::candidates;

    #[test]
    fn programs_are_looked_for_in_the_containers_path() {
        let env = ["PATH=/a:/b".to_owned(), "X=1".to_owned()];
        assert_eq!(candidates("sh", &env), ["/a/sh", "/b/sh"]);
        assert_eq!(candidates("./sh", &env), ["./sh"]);
        assert_eq!(candidates("sh", &[]).last().unwrap(), "/bin/sh");
    }
}
