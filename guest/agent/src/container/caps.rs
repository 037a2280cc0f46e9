//! Capabilities: from the plan's names to sets, and their application in a container's first process.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};

use crate::Error;

/// Names in the order of their numbers, linux/capability.h.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The set that the plan's names (`CAP_…`) make, as a bit mask.
///
/// # Errors
/// [`Error::Plan`] for a name that is no capability: it is never silently dropped.
pub(crate) fn mask(names: &[String]) -> Result<u64, Error> {
    names.iter().try_fold(0, |mask, name| {
        let plain = name.strip_prefix("CAP_").unwrap_or(name);
        let number = NAMES.iter().position(|n| *n == plain);
        number.map(|n| mask | 1_u64 << n).ok_or_else(|| Error::Plan(format!("{name} is not a capability")))
    })
}

/// Takes everything else out of the bounding set: what is not in it can never be gained again.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn bound(mask: u64) -> io::Result<()> {
    for number in 0..64 {
        let capability = 1_u64 << number;
        if mask & capability != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(capability)) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(Errno::INVAL) if number > 37 => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Sets effective and permitted to the mask; inheritable and ambient to nothing, so that a program of another
/// user gains nothing by exec (CVE-2022-24769).
///
/// # Errors
/// The kernel's answer.
pub(crate) fn apply(mask: u64) -> io::Result<()> {
    let set = CapabilitySet::from_bits_retain(mask);
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        let of = |name: &str| mask(&[name.to_owned()]).unwrap();
        assert_eq!(of("CAP_CHOWN"), 1);
        assert_eq!(of("CAP_SYS_ADMIN"), 1 << 21);
        assert_eq!(of("CAP_SETFCAP"), CapabilitySet::SETFCAP.bits());
        assert_eq!(of("CAP_CHECKPOINT_RESTORE"), 1 << 40);
    }

    #[test]
    fn the_default_set_is_known_and_a_wrong_name_is_refused() {
        let names: Vec<String> =
            cocoon_plan::compile::DEFAULT_CAPABILITIES.iter().map(|c| (*c).into()).collect();
        assert_eq!(mask(&names).unwrap().count_ones(), 14);
        assert!(mask(&["CAP_EVERYTHING".into()]).is_err());
    }
}
