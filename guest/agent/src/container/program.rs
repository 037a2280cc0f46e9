//! The workload as a program: who it is, what it may do, and the last steps to it.

use std::ffi::CString;
use std::io;

use rustix::fs::{Gid, Uid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    set_keep_capabilities, set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid,
};
use serde::{Deserialize, Serialize};

use super::caps;
use super::profile::Filter;
use super::seccomp::Wish;
use crate::{Error, syscalls};

/// Soft limit of open files: programs that loop over all descriptors stay fast; others raise it to the hard one.
const OPEN_FILES: (u64, u64) = (65_536, 1_048_576);

/// A program and all that it is to have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Bit mask of capabilities.
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
    /// The system call filter.
    pub(crate) filter: Wish,
    pub(crate) terminal: bool,
}

impl Program {
    /// The system call filter, compiled; `None` where there is none.
    ///
    /// # Errors
    /// As [`Wish::compile`].
    pub(crate) fn filter(&self) -> Result<Option<Filter>, Error> {
        self.filter.compile(self.capabilities)
    }

    /// Becomes the user with these capabilities and no others. Without `no_new_privileges` the filter is in force from here
    /// on; with it, it is for the caller to install last.
    ///
    /// # Errors
    /// [`Error::Container`] with the step that failed.
    pub(crate) fn give_up_privileges(&self, filter: Option<&Filter>) -> Result<(), Error> {
        caps::bound(self.capabilities).map_err(Error::container("bound the capabilities"))?;
        if let (false, Some(filter)) = (self.no_new_privileges, filter) {
            // Without no_new_privs installing a filter takes CAP_SYS_ADMIN, which is about to go.
            syscalls::install_filter(filter).map_err(Error::container("install the system call filter"))?;
        }
        let groups: Vec<Gid> = self.groups.iter().map(|g| Gid::from_raw(*g)).collect();
        set_keep_capabilities(true)
            .and_then(|()| set_thread_groups(&groups))
            .and_then(|()| set_thread_gid(Gid::from_raw(self.gid)))
            .and_then(|()| set_thread_uid(Uid::from_raw(self.uid)))
            .and_then(|()| set_keep_capabilities(false))
            .map_err(Error::container("become the user"))?;
        caps::apply(self.capabilities).map_err(Error::container("set the capabilities"))?;
        if self.no_new_privileges {
            set_no_new_privs(true).map_err(Error::container("set no_new_privs"))?;
        }
        Ok(())
    }

    /// Becomes the program; returns only where that fails.
    pub(crate) fn run(&self) -> Error {
        let strings =
            |list: &[String]| list.iter().map(|s| CString::new(s.as_str())).collect::<Result<Vec<_>, _>>();
        let (Ok(args), Ok(env)) = (strings(&self.args), strings(&self.env)) else {
            return Error::Plan("an argument holds a NUL character".into());
        };
        let program = self.args.first().map_or("", String::as_str);
        let mut last = io::Error::from_raw_os_error(libc::ENOENT);
        for path in candidates(program, &self.env) {
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
}

/// Sets the limits that every program starts with.
///
/// # Errors
/// [`Error::Container`].
pub(crate) fn limit_resources() -> Result<(), Error> {
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
