//! A system call profile of the plan: OCI runtime-spec, Linux, seccomp, to a program for the kernel.
//!
//! What it says is done or refused at start, nothing is passed over: but for calls that this processor does not have, and
//! for unknown names of calls that would be let through no less without their rule. A process of another system call ABI
//! than the processor's own (32-bit, x32) is killed, whatever `architectures` says: its numbers mean other calls.
//!
//! Where a call has several rules, the first in the document's order whose conditions hold decides. Within one rule
//! conditions on different arguments must all hold; where two concern the same argument, each is a rule of its own, as
//! container engines read it.

mod assemble;

use std::collections::BTreeMap;

use seccompiler::sock_filter;
use serde::Deserialize;

use super::syscall_names;
use crate::Error;
use assemble::{Answers, Compare, Condition, assemble};

/// Most rules, over all calls.
const MAX_RULES: usize = 65_536;
/// The kernel's `MAX_ERRNO`.
const MAX_ERRNO: u32 = 4095;

/// A program, and how it is to be installed.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) program: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_…`.
    pub(crate) flags: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    listener_metadata: String,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Compiles a profile.
///
/// # Errors
/// [`Error::Plan`] with what of it is not understood, contradicts itself or is too large.
pub(crate) fn compile(profile: &serde_json::Value) -> Result<Filter, Error> {
    let profile: Profile = Profile::deserialize(profile).map_err(|e| wrong(e.to_string()))?;
    if !profile.listener_path.is_empty() || !profile.listener_metadata.is_empty() {
        return Err(wrong("a listener is not supported"));
    }
    if let Some(unknown) =
        profile.architectures.iter().flatten().find(|a| !ARCHITECTURES.contains(&a.as_str()))
    {
        return Err(wrong(format!("architecture {unknown:?}")));
    }
    let mut flags = 0;
    for flag in profile.flags.iter().flatten() {
        flags |= match flag.as_str() {
            // The process has one thread when the filter is installed.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            other => return Err(wrong(format!("flag {other:?} is not supported"))),
        };
    }
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut calls: BTreeMap<u32, Answers> = BTreeMap::new();
    let mut rules = 0_usize;
    for rule in profile.syscalls.iter().flatten() {
        let answer = action(&rule.action, rule.errno_ret)?;
        let lines = conditions(rule.args.as_deref().unwrap_or_default())?;
        if rule.names.is_empty() {
            return Err(wrong("a rule without names"));
        }
        for name in &rule.names {
            let Some(number) = syscall_names::number(name) else {
                if syscall_names::is_foreign(name) || permits(answer) >= permits(default) {
                    continue;
                }
                return Err(wrong(format!(
                    "system call {name:?} is unknown, and the rule is stricter than the default"
                )));
            };
            rules = rules.saturating_add(lines.len());
            if rules > MAX_RULES {
                return Err(wrong("too many rules"));
            }
            add(calls.entry(number).or_default(), name, answer, &lines)?;
        }
    }
    let program = assemble(&calls, default)?;
    Ok(Filter { program, flags })
}

/// Whether a profile (OCI runtime-spec, Linux, seccomp) can be done as a whole: the length of its program, in
/// instructions.
///
/// # Errors
/// [`Error::Plan`] with what of it cannot be done.
pub fn check(profile: &serde_json::Value) -> Result<usize, Error> {
    compile(profile).map(|filter| filter.program.len())
}

const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_NATIVE",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

fn action(name: &str, errno: Option<u32>) -> Result<u32, Error> {
    let data = |most: u32, usual: u32| match errno.unwrap_or(usual) {
        errno if errno <= most => Ok(errno),
        errno => Err(wrong(format!("error number {errno}"))),
    };
    let value = match name {
        "SCMP_ACT_ERRNO" => return Ok(libc::SECCOMP_RET_ERRNO | data(MAX_ERRNO, libc::EPERM.unsigned_abs())?),
        "SCMP_ACT_TRACE" => {
            return Ok(libc::SECCOMP_RET_TRACE | data(u16::MAX.into(), libc::EPERM.unsigned_abs())?);
        }
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => libc::SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
        "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
        "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
        "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
        other => return Err(wrong(format!("action {other:?} is not supported"))),
    };
    match errno {
        None => Ok(value),
        Some(_) => Err(wrong(format!("an error number with action {name}"))),
    }
}

/// How much an answer lets through: the call, nothing but an error, nothing at all.
fn permits(answer: u32) -> u8 {
    match answer & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG => 2,
        libc::SECCOMP_RET_ERRNO | libc::SECCOMP_RET_TRACE => 1,
        _ => 0,
    }
}

/// The alternatives under which a rule applies, each a list of conditions that must all hold.
fn conditions(arguments: &[Argument]) -> Result<Vec<Vec<Condition>>, Error> {
    if arguments.len() > 64 {
        return Err(wrong("a rule with more than 64 conditions"));
    }
    let mut all = Vec::new();
    for argument in arguments {
        if argument.index > 5 {
            return Err(wrong(format!("argument {}", argument.index)));
        }
        let (compare, value, mask) = match argument.op.as_str() {
            "SCMP_CMP_NE" => (Compare::NotEqual, argument.value, u64::MAX),
            "SCMP_CMP_LT" => (Compare::Less, argument.value, u64::MAX),
            "SCMP_CMP_LE" => (Compare::LessOrEqual, argument.value, u64::MAX),
            "SCMP_CMP_EQ" => (Compare::Equal, argument.value, u64::MAX),
            "SCMP_CMP_GE" => (Compare::GreaterOrEqual, argument.value, u64::MAX),
            "SCMP_CMP_GT" => (Compare::Greater, argument.value, u64::MAX),
            // The mask comes first: the argument's bits under it are the second value's.
            "SCMP_CMP_MASKED_EQ" => (Compare::Equal, argument.value_two & argument.value, argument.value),
            other => return Err(wrong(format!("comparison {other:?}"))),
        };
        if argument.value_two != 0 && argument.op != "SCMP_CMP_MASKED_EQ" {
            return Err(wrong(format!("a second value with {}", argument.op)));
        }
        // struct seccomp_data: number, architecture, instruction pointer, then six arguments of 64 bits.
        all.push(Condition { offset: 16 + 8 * argument.index, compare, value, mask });
    }
    let twice = |c: &Condition| all.iter().filter(|o| o.offset == c.offset).count() > 1;
    if all.iter().any(twice) {
        return Ok(all.into_iter().map(|c| vec![c]).collect());
    }
    Ok(vec![all])
}

fn add(answers: &mut Answers, name: &str, answer: u32, lines: &[Vec<Condition>]) -> Result<(), Error> {
    for conditions in lines {
        if conditions.is_empty() {
            if answers.otherwise.is_some_and(|other| other != answer) {
                return Err(wrong(format!("two rules for {name} that contradict each other")));
            }
            answers.otherwise = Some(answer);
        } else {
            answers.lines.push((conditions.clone(), answer));
        }
    }
    // Engines differ on what a call meets that has both a rule for some arguments and another for all.
    if answers.otherwise.is_some_and(|all| answers.lines.iter().any(|(_, some)| *some != all)) {
        return Err(wrong(format!(
            "rules for {name} with and without conditions that contradict each other"
        )));
    }
    Ok(())
}

fn wrong(what: impl Into<String>) -> Error {
    Error::Plan(format!("the system call profile: {}", what.into()))
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
