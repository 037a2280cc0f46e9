//! What the host may run in a container beside its own program.

use std::collections::BTreeMap;

use cocoon_stage::Failure;

use super::{Phase, Sandbox, check_id, check_signal, refused, unknown};
use crate::pod::ExecRules;

/// How many further processes a container may have at a time, ended ones that were not removed included.
pub const MAX_EXECS: usize = 64;

/// The further processes of one instance.
#[derive(Debug, Default)]
pub(super) struct Execs(BTreeMap<String, Phase>);

/// What the host asks to run.
#[derive(Clone, Copy, Debug)]
pub struct ExecRequest<'a> {
    /// Program and arguments.
    pub args: &'a [String],
    /// Whether on a terminal.
    pub terminal: bool,
    /// Whether with standard input.
    pub stdin: bool,
}

impl ExecRules {
    /// Whether the host may run this: anything where the plan says so, else exactly what it lists, without terminal and
    /// standard input.
    pub fn allow(&self, request: &ExecRequest<'_>) -> bool {
        let listed = || self.commands.iter().any(|c| c == request.args);
        !request.args.is_empty() && (self.any || !request.terminal && !request.stdin && listed())
    }
}

impl Sandbox {
    /// The host asks to run a further process, `exec_id`, in a running instance.
    ///
    /// # Errors
    /// A coded refusal for an instance that does not run, an id that is none, taken or used before, too many processes, or a program
    /// that the plan does not let the host run.
    pub fn exec(&mut self, id: &str, exec_id: &str, request: &ExecRequest<'_>) -> Result<(), Failure> {
        check_id(exec_id)?;
        let what = || {
            let program: String = request.args.first().map_or("", String::as_str).chars().take(64).collect();
            let terminal = if request.terminal { ", a terminal" } else { "" };
            let stdin = if request.stdin { ", standard input" } else { "" };
            format!("exec of {program:?} with {} arguments{terminal}{stdin}", request.args.len().max(1) - 1)
        };
        let rules = self.planned(id).map(|c| c.exec.allow(request));
        let instance = self.instances.get_mut(id).ok_or_else(|| unknown("exec", id))?;
        if instance.phase != Phase::Running {
            return Err(refused(format!("exec in {id:?}, which does not run")));
        }
        if rules != Some(true) {
            let name = &instance.name;
            return Err(refused(format!("{} in {name:?}: the plan does not allow it", what())));
        }
        let execs = &mut instance.execs.0;
        if execs.contains_key(exec_id) {
            return Err(refused(format!("exec of {exec_id:?} in {id:?}, which exists")));
        }
        if self.used_execs.contains((id, exec_id)) {
            return Err(refused(format!("exec of {exec_id:?} in {id:?}, an id that was used before")));
        }
        if execs.len() >= MAX_EXECS {
            return Err(refused(format!("exec in {id:?} beside {MAX_EXECS} others")));
        }
        self.used_execs.add((id, exec_id));
        execs.insert(exec_id.to_owned(), Phase::Created);
        Ok(())
    }

    /// Where a further process stands; `None` for one that is not there.
    pub fn exec_phase(&self, id: &str, exec_id: &str) -> Option<Phase> {
        self.instances.get(id).and_then(|i| i.execs.0.get(exec_id)).copied()
    }

    /// The host asks to start a further process.
    ///
    /// # Errors
    /// A coded refusal where it is not there or was started before, or its container has ended.
    pub fn exec_start(&mut self, id: &str, exec_id: &str) -> Result<(), Failure> {
        let instance = self.instances.get_mut(id).ok_or_else(|| unknown("start", id))?;
        if instance.phase != Phase::Running {
            return Err(refused(format!("start of {exec_id:?} in {id:?}, which does not run")));
        }
        match instance.execs.0.get_mut(exec_id) {
            Some(phase @ Phase::Created) => {
                *phase = Phase::Running;
                Ok(())
            }
            Some(_) => Err(refused(format!("start of {exec_id:?}, which was started before"))),
            None => Err(unknown("start", exec_id)),
        }
    }

    /// A further process ended, or could not be started.
    pub fn exec_ended(&mut self, id: &str, exec_id: &str, status: u32) {
        if let Some(phase) = self.instances.get_mut(id).and_then(|i| i.execs.0.get_mut(exec_id))
            && phase.is_live()
        {
            *phase = Phase::Ended(status);
        }
    }

    /// The host asks to signal a further process: allowed while it runs.
    ///
    /// # Errors
    /// A coded refusal for one that does not, or a number that is no signal.
    pub fn exec_signal(&self, id: &str, exec_id: &str, signal: u32) -> Result<(), Failure> {
        check_signal(signal)?;
        match self.exec_phase(id, exec_id) {
            Some(Phase::Running) => Ok(()),
            Some(_) => Err(refused(format!("signal to {exec_id:?}, which does not run"))),
            None => Err(unknown("signal", exec_id)),
        }
    }

    /// The host asks to remove a further process: allowed when it does not run.
    ///
    /// # Errors
    /// A coded refusal for one that runs or is not there.
    pub fn exec_remove(&mut self, id: &str, exec_id: &str) -> Result<(), Failure> {
        let execs = self.instances.get_mut(id).map(|i| &mut i.execs.0);
        match execs.as_ref().and_then(|e| e.get(exec_id)) {
            Some(Phase::Running) => Err(refused(format!("delete of {exec_id:?}, which runs"))),
            Some(Phase::Created | Phase::Ended(_)) => {
                execs.map(|e| e.remove(exec_id));
                Ok(())
            }
            None => Err(unknown("delete", exec_id)),
        }
    }
}
