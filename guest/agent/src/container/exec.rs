//! A further process in a running container: for probes, hooks and people. It has the container's namespaces, cgroup, user,
//! capabilities, system call filter and environment; only program, terminal and working directory are its own.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::init::{InitConfig, Place};
use super::process::Process;
use super::program::Program;
use super::spawn::Entry;
use super::stdio::Streams;
use super::{Container, Settings, environment};
use crate::Error;
use crate::syscalls::Fresh;

/// What is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// Further variables, `NAME=value`, that the plan leaves to the host; they take the place of those of the container.
    pub env: Vec<String>,
    /// Working directory in place of the container's, absolute.
    pub cwd: Option<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
}

impl Container {
    /// Makes a process that waits for the word to start. It ends with the container.
    ///
    /// # Errors
    /// [`Error::Container`], such as for a container that has ended.
    pub async fn exec(
        &self,
        settings: &Settings,
        spec: &ExecSpec,
        streams: Streams,
    ) -> Result<Arc<Process>, Error> {
        let config = InitConfig { place: Place::Running, program: self.beside(spec) };
        let entry = Entry {
            exe: settings.exe.as_fd(),
            reaper: &settings.reaper,
            fresh: Fresh::Nothing,
            joins: vec![self.process.pidfd().as_fd()],
            cgroup: self.cgroup.as_ref().map(|c| c.fd()),
            helper: true,
        };
        let process =
            Process::spawn(entry, &settings.reaper, &config, streams, true, std::future::ready(())).await?;
        let process = Arc::new(process);
        if self.ending.add(&process) {
            return Ok(process);
        }
        let _ = process.signal(libc::SIGKILL.unsigned_abs());
        process.wait().await;
        Err(Error::Refused("exec in a container that has ended".into()))
    }

    fn beside(&self, spec: &ExecSpec) -> Program {
        let mut program = self.program.clone();
        program.args.clone_from(&spec.args);
        program.terminal = spec.terminal;
        if let Some(cwd) = &spec.cwd {
            program.cwd.clone_from(cwd);
        }
        let name = |entry: &str| entry.split('=').next().map(str::to_owned);
        // What the container has of a sealed secret the host cannot put anything else in place of.
        let plain = |e: &&String| !self.sealed.iter().any(|n| name(e).as_ref() == Some(n));
        let spec = ExecSpec { env: spec.env.iter().filter(plain).cloned().collect(), ..spec.clone() };
        program.env.retain(|e| !spec.env.iter().any(|n| name(n) == name(e)));
        program.env.extend(spec.env.iter().cloned());
        environment::complete(&mut program.env, "/", spec.terminal);
        program
    }
}
