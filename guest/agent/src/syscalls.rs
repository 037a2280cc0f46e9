//! The leaf module with `unsafe`: system calls that neither std nor rustix offers in a safe form.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::container::Filter;

/// `CLONE_INTO_CGROUP` of `clone3(2)`; it does not fit the C `int` of the older flags.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The lowest descriptor number that sources are moved to, above all targets.
const SOURCES: RawFd = 32;

/// The namespaces that a new process gets for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fresh {
    /// None: it will join others'.
    Nothing,
    /// A copy of the mounts.
    Mounts,
    /// A copy of the mounts, and process ids, of which it is the first.
    MountsAndPids,
}

impl Fresh {
    fn flags(self) -> u64 {
        (match self {
            Fresh::Nothing => 0,
            Fresh::Mounts => libc::CLONE_NEWNS,
            Fresh::MountsAndPids => libc::CLONE_NEWNS | libc::CLONE_NEWPID,
        }) as u64
    }
}

/// Starts the program behind `exe` in these new namespaces, with `fds[i]` as descriptor `i`, an empty environment and,
/// where given, inside `cgroup`. Gives its pid here and a pidfd.
///
/// # Errors
/// What `clone3(2)` answers. A failed exec shows as exit status 126.
pub(crate) fn clone_exec(
    exe: BorrowedFd<'_>,
    argv: &[CString],
    fds: &[BorrowedFd<'_>],
    cgroup: Option<BorrowedFd<'_>>,
    fresh: Fresh,
) -> io::Result<(Pid, OwnedFd)> {
    // Everything that allocates happens here: between clone and exec the child of a multi-threaded process may
    // only make plain system calls.
    let mut sources = Vec::with_capacity(fds.len());
    for fd in fds {
        sources.push(fcntl_dupfd_cloexec(fd, SOURCES)?);
    }
    let raw: Vec<RawFd> = sources.iter().map(AsRawFd::as_raw_fd).collect();
    let exe = fcntl_dupfd_cloexec(exe, SOURCES)?;
    let exe_raw = exe.as_raw_fd();
    let argv = pointers(argv);
    let envp = pointers(&[]);
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid `clone_args`.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = fresh.flags() | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork: the child runs on a copy of this stack and memory. It makes system
    // calls only, on values prepared above, until exec or exit, so no lock that another thread held matters.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        // SAFETY: the child; see above. `argv` and `envp` are NULL-terminated arrays of C strings.
        unsafe {
            for (target, source) in (0..).zip(&raw) {
                if libc::syscall(libc::SYS_dup3, *source, target, 0) < 0 {
                    libc::_exit(126);
                }
            }
            let empty = c"".as_ptr();
            libc::syscall(
                libc::SYS_execveat,
                exe_raw,
                empty,
                argv.as_ptr(),
                envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
            libc::_exit(126);
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.map(|pid| (pid, pidfd)).ok_or_else(|| io::Error::other("clone3 gave no pid"))
}

/// Splits this process, which must have one thread, in two: the new one is a child of this one's parent. Gives its pid
/// and a pidfd here, `None` there.
///
/// # Errors
/// What `clone(2)` answers.
pub(crate) fn fork_sibling() -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut pidfd: RawFd = -1;
    let flags = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as libc::c_ulong;
    let (at, none) = (&raw mut pidfd, ptr::null_mut::<libc::c_void>());
    // clone(2) and not clone3(2), which a system call filter that is in force already may not let through.
    // SAFETY: a fork (no CLONE_VM) of a process with one thread: the child goes on with a copy of everything, and no lock
    // is held by a thread that it lacks. The kernel writes the pidfd to where `at` points.
    #[cfg(not(target_arch = "s390x"))]
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, at, none, none) };
    // SAFETY: as above; the first two arguments change places there.
    #[cfg(target_arch = "s390x")]
    let pid = unsafe { libc::syscall(libc::SYS_clone, none, flags, at, none, none) };
    match pid {
        0 => Ok(None),
        1.. => {
            // SAFETY: clone succeeded with CLONE_PIDFD, so this is a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pid.map(|pid| Some((pid, pidfd))).ok_or_else(|| io::Error::other("clone gave no pid"))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Becomes the program at `path`; returns only where that fails.
pub(crate) fn exec(path: &CStr, argv: &[CString], envp: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: NULL-terminated arrays of C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Sets (and clears) `MOUNT_ATTR_…` bits of the mount that `mount` is in, or of the whole tree below it.
///
/// # Errors
/// What `mount_setattr(2)` answers.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty C string and a `mount_attr` of the size passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// Installs a system call filter for this thread and what it becomes. Unlike `seccompiler::apply_filter` this
/// does not set `no_new_privs`: without that the caller needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// What `seccomp(2)` answers.
pub(crate) fn install_filter(filter: &Filter) -> io::Result<()> {
    let (program, flags) = (&filter.program, filter.flags);
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // Both are `struct sock_filter` of linux/filter.h.
    let filter = program.as_ptr().cast::<libc::sock_filter>().cast_mut();
    let program = libc::sock_fprog { len, filter };
    // SAFETY: the kernel copies `len` instructions from `filter`, which is alive and that long.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    check(result)
}

/// Sends a signal by number (1 to 64, real-time ones included) to the process of a pidfd.
///
/// # Errors
/// What `pidfd_send_signal(2)` answers.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info: *const libc::siginfo_t = ptr::null();
    // SAFETY: a null siginfo is allowed; the other arguments are plain numbers.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) })
}

/// Moves this process into a new cgroup namespace whose root is its present cgroup.
///
/// # Errors
/// What `unshare(2)` answers.
pub(crate) fn unshare_cgroup() -> io::Result<()> {
    // SAFETY: CLONE_NEWCGROUP touches no memory and no descriptor.
    check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }))
}

/// Moves this thread into new ipc and uts namespaces.
///
/// # Errors
/// What `unshare(2)` answers.
pub(crate) fn unshare_ipc_and_names() -> io::Result<()> {
    // SAFETY: neither touches memory or descriptors.
    check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) }))
}

/// Takes from other processes of the same user the right to look into this one, until it becomes another program.
///
/// # Errors
/// What `prctl(2)` answers.
pub(crate) fn hide_memory() -> io::Result<()> {
    // SAFETY: plain numbers.
    check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }))
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// What `close_range(2)` answers.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: no descriptor is closed here, so no owner is invalidated.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) })
}

/// Closes every descriptor from `first` on, which the caller must not have an owner of.
///
/// # Errors
/// What `close_range(2)` answers.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: called at the beginning of a program, where nothing above what it was started with is in use.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) })
}

/// The pid of a child that ended and was not reaped yet; it stays unreaped.
pub(crate) fn peek_zombie() -> Option<i32> {
    // SAFETY: all-zero is a valid `siginfo_t`; waitid fills it. `si_pid` is set for WEXITED, and 0 where no child
    // is waitable.
    let pid = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &raw mut info, options) != 0 {
            return None;
        }
        info.si_pid()
    };
    (pid > 0).then_some(pid)
}

/// Restores what Rust's runtime changed (SIGPIPE ignored) and whatever was inherited: default actions, nothing
/// blocked.
pub(crate) fn default_signals() {
    // SAFETY: SIG_DFL is a valid action; an all-zero set is made valid by sigemptyset before use. Signals whose
    // action cannot be set answer an error that does not matter.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Blocks every signal: what is waited for by [`wait_for_child`] stays pending until then, and nothing else is acted on.
pub(crate) fn block_signals() {
    // SAFETY: sigfillset makes the set valid before its use.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
    }
}

/// Sleeps until SIGCHLD, which must be blocked, is or becomes pending, and takes it.
pub(crate) fn wait_for_child() {
    // SAFETY: the set is made valid before its use; no information about the signal is asked for.
    unsafe {
        let mut child: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut child);
        libc::sigaddset(&raw mut child, libc::SIGCHLD);
        libc::sigwaitinfo(&raw const child, ptr::null_mut());
    }
}

/// Takes over a descriptor that whoever started this process put at this number.
///
/// # Errors
/// `EBADF` where there is none.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD on any number only asks.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (asked above), it was passed to this process to own, and this is called once for it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Registers a descriptor with the runtime, so that its readiness can be awaited.
///
/// # Errors
/// What `epoll_ctl(2)` answers.
pub(crate) fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always answers with the same descriptor, which is open until the `AsyncFd` that owns
    // it now has deregistered it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(io::Error::from)
}

/// Keeps glibc's allocator to two arenas: each further one would hold on to memory of its own.
pub(crate) fn limit_arenas() {
    // SAFETY: mallopt only sets a number; it runs before other threads exist.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
