//! The `runtime-default` system call filter.
//!
//! Its effect is close to the default profile of container engines: what containers have no use for and what
//! attacks on kernels use answers EPERM; calls newer than this list answer ENOSYS, as on an older kernel, so
//! that programs fall back. `clone3` answers ENOSYS too: a filter cannot read its flags. A process of another
//! system call ABI (32-bit) is killed, since its numbers mean other calls.

use std::collections::BTreeMap;

use cocoon_plan::{ContainerPlan, Seccomp};
use libc::c_long;
use rustix::thread::CapabilitySet;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

use serde::{Deserialize, Serialize};

use super::profile::{self, Filter};
use crate::Error;

/// The highest call number that this list was made for: `lsm_list_modules`, Linux 6.8. Later calls answer ENOSYS,
/// and so do those of the x32 ABI, whose numbers have bit 30 set.
const NEWEST_KNOWN: u32 = 461;
/// `CLONE_NEWTIME` shares bits with the exit signal in `clone(2)`, so only `unshare(2)` takes it.
const CLONE_NEWTIME: u64 = 0x80;
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Refused always.
const NEVER: &[c_long] = &[
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_nfsservctl,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
];

/// Refused without the capability.
const WITH_CAPABILITY: &[(CapabilitySet, &[c_long])] = &[
    (
        CapabilitySet::SYS_ADMIN,
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_setns,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_mount_setattr,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_fanotify_init,
            libc::SYS_lookup_dcookie,
        ],
    ),
    (CapabilitySet::SYS_MODULE, &[libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module]),
    (CapabilitySet::BPF, &[libc::SYS_bpf]),
    (CapabilitySet::PERFMON, &[libc::SYS_perf_event_open]),
    (CapabilitySet::DAC_READ_SEARCH, &[libc::SYS_open_by_handle_at]),
    (CapabilitySet::SYS_BOOT, &[libc::SYS_reboot]),
    (CapabilitySet::SYS_TIME, &[libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime]),
    (CapabilitySet::SYS_PACCT, &[libc::SYS_acct]),
    (CapabilitySet::SYS_TTY_CONFIG, &[libc::SYS_vhangup]),
    (CapabilitySet::SYSLOG, &[libc::SYS_syslog]),
    (CapabilitySet::SYS_NICE, &[libc::SYS_move_pages, libc::SYS_migrate_pages]),
    (
        CapabilitySet::SYS_PTRACE,
        &[
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
        ],
    ),
    #[cfg(target_arch = "x86_64")]
    (CapabilitySet::SYS_RAWIO, &[libc::SYS_iopl, libc::SYS_ioperm]),
];

/// The filter for a container that has these capabilities.
///
/// # Errors
/// [`Error::Plan`] where it does not compile; a container never starts without the filter its plan asks for.
pub(crate) fn runtime_default(capabilities: u64) -> Result<BpfProgram, Error> {
    let capabilities = CapabilitySet::from_bits_retain(capabilities);
    let mut refused: BTreeMap<c_long, Vec<SeccompRule>> = NEVER.iter().map(|n| (*n, Vec::new())).collect();
    for (capability, calls) in WITH_CAPABILITY {
        if !capabilities.contains(*capability) {
            refused.extend(calls.iter().map(|n| (*n, Vec::new())));
        }
    }
    if !capabilities.contains(CapabilitySet::SYS_ADMIN) {
        // unshare without namespaces (CLONE_FS, CLONE_FILES) and clone for a thread or process are harmless.
        refused.insert(libc::SYS_clone, any_bit(NEW_NAMESPACES)?);
        refused.insert(libc::SYS_unshare, any_bit(NEW_NAMESPACES | CLONE_NEWTIME)?);
    }
    // vsock leads to the host and to the guest's own services; it knows no network namespace.
    let vsock = u64::from(libc::AF_VSOCK.unsigned_abs());
    refused.insert(libc::SYS_socket, vec![rule(&[(0, SeccompCmpOp::Eq, vsock)])?]);
    // Pushing input into a terminal (TIOCSTI, TIOCLINUX), an old way out of a container.
    let push = [rule(&[(1, SeccompCmpOp::Eq, 0x5412)])?, rule(&[(1, SeccompCmpOp::Eq, 0x541c)])?];
    refused.insert(libc::SYS_ioctl, push.into());
    // Personalities: Linux, 32-bit Linux, either with a 2.6 version number, and asking.
    let other = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff].map(|known| (0, SeccompCmpOp::Ne, known));
    refused.insert(libc::SYS_personality, vec![rule(&other)?]);

    let arch = std::env::consts::ARCH.try_into().map_err(broken)?;
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(refused, SeccompAction::Allow, eperm, arch).map_err(broken)?;
    let filter: BpfProgram = filter.try_into().map_err(broken)?;
    let mut program = not_there()?;
    program.extend(filter);
    Ok(program)
}

/// The first instructions: `clone3` and calls newer than the list answer ENOSYS.
fn not_there() -> Result<BpfProgram, Error> {
    let clone3 = u32::try_from(libc::SYS_clone3).map_err(broken)?;
    // linux/filter.h: load a word of seccomp_data, compare with a constant, return a constant.
    let code = |bits: u32| u16::try_from(bits).map_err(broken);
    let load = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS)?;
    let equal = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K)?;
    let greater = code(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K)?;
    let ret = code(libc::BPF_RET | libc::BPF_K)?;
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    Ok(vec![
        // Offset 0: `nr`.
        sock_filter { code: load, jt: 0, jf: 0, k: 0 },
        sock_filter { code: equal, jt: 1, jf: 0, k: clone3 },
        sock_filter { code: greater, jt: 0, jf: 1, k: NEWEST_KNOWN },
        sock_filter { code: ret, jt: 0, jf: 0, k: enosys },
    ])
}

fn any_bit(mask: u64) -> Result<Vec<SeccompRule>, Error> {
    let bits = (0..64).map(|b| 1_u64 << b).filter(|b| mask & b != 0);
    bits.map(|bit| rule(&[(0, SeccompCmpOp::MaskedEq(bit), bit)])).collect()
}

/// A rule that matches where all hold: argument's number, comparison, value; the low 32 bits count.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, Error> {
    let condition = |(argument, op, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, op.clone(), *value).map_err(broken)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?).map_err(broken)
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::Plan(format!("the system call filter does not compile: {e}"))
}

/// The system call filter that a plan asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// None.
    Unconfined,
    /// The built-in one.
    RuntimeDefault,
    /// The plan's own.
    Profile(serde_json::Value),
}

impl Wish {
    /// What the plan says; a profile is compiled once to see whether it can be.
    ///
    /// # Errors
    /// [`Error::Plan`] for a profile that is not done or refused as a whole.
    pub(crate) fn of(plan: &ContainerPlan) -> Result<Self, Error> {
        if let Some(value) = &plan.seccomp_profile {
            profile::check(value)?;
            return Ok(Wish::Profile(value.clone()));
        }
        Ok(match plan.seccomp {
            Seccomp::RuntimeDefault => Wish::RuntimeDefault,
            Seccomp::Unconfined => Wish::Unconfined,
        })
    }

    /// The filter, for a process with these capabilities; `None` where there is to be none.
    ///
    /// # Errors
    /// [`Error::Plan`].
    pub(crate) fn compile(&self, capabilities: u64) -> Result<Option<Filter>, Error> {
        match self {
            Wish::Unconfined => Ok(None),
            Wish::RuntimeDefault => Ok(Some(Filter { program: runtime_default(capabilities)?, flags: 0 })),
            Wish::Profile(value) => profile::compile(value).map(Some),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What the program answers to a call, by running it as the kernel does.
    pub(crate) fn verdict(program: &[sock_filter], call: c_long, arguments: [u64; 6]) -> u32 {
        let mut data = [0_u32; 16];
        data[0] = u32::try_from(call).unwrap();
        data[1] = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        for (i, argument) in arguments.iter().enumerate() {
            data[4 + 2 * i] = u32::try_from(argument & 0xffff_ffff).unwrap();
            data[5 + 2 * i] = u32::try_from(argument >> 32).unwrap();
        }
        let (mut at, mut a) = (0_usize, 0_u32);
        loop {
            let i = &program[at];
            at += 1;
            let mut jump = |yes: bool| at += usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                0x20 => a = data[usize::try_from(i.k).unwrap() / 4],
                0x54 => a &= i.k,
                0x15 => jump(a == i.k),
                0x25 => jump(a > i.k),
                0x35 => jump(a >= i.k),
                0x05 => at += usize::try_from(i.k).unwrap(),
                0x06 => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;
    const NONE: [u64; 6] = [0; 6];

    #[test]
    fn dangerous_calls_are_refused_and_ordinary_ones_pass() {
        let program = runtime_default(0).unwrap();
        for call in NEVER.iter().chain(WITH_CAPABILITY.iter().flat_map(|(_, calls)| *calls)) {
            assert_eq!(verdict(&program, *call, NONE), EPERM, "{call}");
        }
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_ptrace, libc::SYS_chroot, libc::SYS_unshare]
        {
            assert_eq!(verdict(&program, call, NONE), ALLOW, "{call}");
        }
        assert_eq!(verdict(&program, libc::SYS_clone3, NONE), ENOSYS);
        assert_eq!(verdict(&program, 500, NONE), ENOSYS, "newer than the list");
        assert_eq!(verdict(&program, 0x4000_0000 | libc::SYS_mount, NONE), ENOSYS, "x32");
    }

    #[test]
    fn arguments_decide_where_they_matter() {
        let program = runtime_default(0).unwrap();
        let of = |call, first: u64, second: u64| verdict(&program, call, [first, second, 0, 0, 0, 0]);
        let (user, thread) = (libc::CLONE_NEWUSER as u64, (libc::CLONE_VM | libc::CLONE_THREAD) as u64);
        assert_eq!(of(libc::SYS_clone, thread, 0), ALLOW);
        assert_eq!(of(libc::SYS_clone, thread | user, 0), EPERM);
        assert_eq!(of(libc::SYS_unshare, libc::CLONE_FS as u64, 0), ALLOW);
        assert_eq!(of(libc::SYS_unshare, user, 0), EPERM);
        assert_eq!(of(libc::SYS_socket, 40, 1), EPERM, "vsock");
        assert_eq!(of(libc::SYS_socket, 2, 1), ALLOW);
        assert_eq!(of(libc::SYS_ioctl, 0, 0x5412), EPERM, "TIOCSTI");
        assert_eq!(of(libc::SYS_ioctl, 0, 0x5401), ALLOW);
        assert_eq!(of(libc::SYS_personality, 0, 0), ALLOW);
        assert_eq!(of(libc::SYS_personality, 0x0040_0000, 0), EPERM, "READ_IMPLIES_EXEC");
    }

    #[test]
    fn a_capability_lifts_what_it_is_for() {
        let program = runtime_default(CapabilitySet::SYS_ADMIN.bits()).unwrap();
        assert_eq!(verdict(&program, libc::SYS_mount, NONE), ALLOW);
        assert_eq!(verdict(&program, libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(verdict(&program, libc::SYS_reboot, NONE), EPERM);
        assert_eq!(verdict(&program, libc::SYS_kexec_load, NONE), EPERM);
    }
}
