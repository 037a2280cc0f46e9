//! A system call profile of the plan: OCI runtime-spec, Linux, seccomp, to a program for the kernel.
//!
//! What it says is done or refused at start, nothing is passed over: but for calls that this processor does not have, and
//! for unknown names of calls that would be let through no less without their rule. A process of another system call ABI
//! than the processor's own (32-bit, x32) is killed, whatever `architectures` says: its numbers mean other calls.
//!
//! Where a call has several rules, the first in the document's order whose conditions hold decides. Within one rule
//! conditions on different arguments must all hold; where two concern the same argument, each is a rule of its own, as
//! container engines read it.

use std::collections::BTreeMap;

use seccompiler::sock_filter;
use serde::Deserialize;

use super::syscall_names;
use crate::Error;

/// The kernel's `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;
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

/// What a call meets: each line's conditions all hold, or the next is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answers {
    lines: Vec<(Vec<Condition>, u32)>,
    otherwise: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    /// Offset in `struct seccomp_data` of the argument's low word; its high word follows.
    offset: u32,
    compare: Compare,
    value: u64,
    mask: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
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
    Ok(Filter { program, flags: flags.into() })
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

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
/// AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64 (linux/audit.h).
const NATIVE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
/// Numbers with this bit are x32's.
const X32: u32 = 0x4000_0000;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn assemble(calls: &BTreeMap<u32, Answers>, default: u32) -> Result<Vec<sock_filter>, Error> {
    // Ranges of numbers that meet the same: the first number of each.
    let plain = Answers { lines: Vec::new(), otherwise: Some(default) };
    let mut ranges: Vec<(u32, &Answers)> = vec![(0, &plain)];
    let mut push = |from: u32, answers| {
        if ranges.last().is_some_and(|(start, _)| *start == from) {
            ranges.pop();
        }
        if ranges.last().is_none_or(|(_, last)| *last != answers) {
            ranges.push((from, answers));
        }
    };
    for (number, answers) in calls {
        push(*number, answers);
        push(number.saturating_add(1), &plain);
    }
    let kill = Answers { lines: Vec::new(), otherwise: Some(libc::SECCOMP_RET_KILL_PROCESS) };
    push(X32, &kill);
    let mut program = vec![
        instruction(LOAD, 0, 0, 4),
        instruction(IF_EQUAL, 1, 0, NATIVE),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(LOAD, 0, 0, 0),
    ];
    search(&mut program, &ranges, default)?;
    Ok(program)
}

/// Emits a search for the range that the number is in.
fn search(program: &mut Vec<sock_filter>, ranges: &[(u32, &Answers)], default: u32) -> Result<(), Error> {
    if program.len() > MAX_INSTRUCTIONS {
        return Err(wrong("it takes more instructions than the kernel allows"));
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    match (left, right.first()) {
        ([], Some((_, answers))) => leaf(program, answers, default),
        (left, Some((from, _))) => {
            let mut below = Vec::new();
            search(&mut below, left, default)?;
            let over = u32::try_from(below.len()).map_err(|_| wrong("it is too large"))?;
            program.push(instruction(IF_AT_LEAST, 0, 1, *from));
            program.push(instruction(JUMP, 0, 0, over));
            program.append(&mut below);
            search(program, right, default)
        }
        (_, None) => Ok(()),
    }
}

fn leaf(program: &mut Vec<sock_filter>, answers: &Answers, default: u32) -> Result<(), Error> {
    for (conditions, answer) in &answers.lines {
        if program.len() > MAX_INSTRUCTIONS {
            return Err(wrong("it takes more instructions than the kernel allows"));
        }
        // From the end, so that each knows how far it is to the next line.
        let mut line = vec![instruction(RETURN, 0, 0, *answer)];
        for condition in conditions.iter().rev() {
            let next = u32::try_from(line.len()).map_err(|_| wrong("it is too large"))?;
            let mut test = condition.test(next);
            test.append(&mut line);
            line = test;
        }
        program.append(&mut line);
    }
    program.push(instruction(RETURN, 0, 0, answers.otherwise.unwrap_or(default)));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(wrong("it takes more instructions than the kernel allows"));
    }
    Ok(())
}

impl Condition {
    /// Falls through to the instruction after it where it holds; else goes `miss` instructions further.
    fn test(&self, miss: u32) -> Vec<sock_filter> {
        let low = |v: u64| u32::try_from(v & 0xffff_ffff).unwrap_or(u32::MAX);
        let high = |v: u64| low(v >> 32);
        let masked = self.mask != u64::MAX;
        let mut low_half = vec![instruction(LOAD, 0, 0, self.offset)];
        if masked {
            low_half.push(instruction(AND, 0, 0, low(self.mask)));
        }
        // Words: the high ones decide, and where they are equal the low ones.
        let (decides, code, wanted) = match self.compare {
            Compare::Equal => (false, IF_EQUAL, true),
            Compare::NotEqual => (false, IF_EQUAL, false),
            Compare::Greater => (true, IF_GREATER, true),
            Compare::GreaterOrEqual => (true, IF_AT_LEAST, true),
            Compare::Less => (true, IF_AT_LEAST, false),
            Compare::LessOrEqual => (true, IF_GREATER, false),
        };
        // The end: where the last comparison is as wanted the jump past the line is jumped over.
        let (jt, jf) = if wanted { (1, 0) } else { (0, 1) };
        low_half.push(instruction(code, jt, jf, low(self.value)));
        low_half.push(instruction(JUMP, 0, 0, miss));
        let to_miss = u8::try_from(low_half.len()).unwrap_or(u8::MAX).saturating_sub(1);
        let to_hit = to_miss.saturating_add(1);
        let mut test = vec![instruction(LOAD, 0, 0, self.offset + 4)];
        if masked {
            test.push(instruction(AND, 0, 0, high(self.mask)));
        }
        if decides {
            // Greater: a hit for Greater, a miss for Less; smaller the other way round.
            let (above, below) = if wanted { (to_hit, to_miss) } else { (to_miss, to_hit) };
            test.push(instruction(IF_GREATER, above.saturating_add(1), 0, high(self.value)));
            test.push(instruction(IF_EQUAL, 0, below, high(self.value)));
        } else {
            test.push(instruction(IF_EQUAL, 0, if wanted { to_miss } else { to_hit }, high(self.value)));
        }
        test.append(&mut low_half);
        test
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::Plan(format!("the system call profile: {}", what.into()))
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
