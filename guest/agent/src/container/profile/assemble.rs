//! Rules to instructions of the kernel's filter machine (linux/filter.h).

use std::collections::BTreeMap;

use seccompiler::sock_filter;

use super::wrong;
use crate::Error;

/// The kernel's `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;
/// What a call meets: each line's conditions all hold, or the next is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) lines: Vec<(Vec<Condition>, u32)>,
    pub(super) otherwise: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Offset in `struct seccomp_data` of the argument's low word; its high word follows.
    pub(super) offset: u32,
    pub(super) compare: Compare,
    pub(super) value: u64,
    pub(super) mask: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
/// AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64 (linux/audit.h).
pub(super) const NATIVE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
/// Numbers with this bit are x32's.
const X32: u32 = 0x4000_0000;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The program: other ABIs are killed, then the number is searched for, then its lines are gone through.
///
/// # Errors
/// [`Error::Plan`] where it is longer than the kernel takes.
pub(super) fn assemble(calls: &BTreeMap<u32, Answers>, default: u32) -> Result<Vec<sock_filter>, Error> {
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
