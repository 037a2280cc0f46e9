//! Kernel settings of the pod, below `/proc/sys`. What may be set is the plan's check's to say; containers see all of it
//! read-only.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::Error;

/// Where the kernel has them.
pub(crate) const ROOT: &str = "/proc/sys";

/// Sets them all. `root` is [`ROOT`].
///
/// # Errors
/// [`Error::Sysctl`] with the first that the kernel does not have or whose value it does not take.
pub(crate) fn apply(root: &Path, sysctls: &BTreeMap<String, String>) -> Result<(), Error> {
    for (name, value) in sysctls {
        // Opened as it is: a setting that the kernel does not have is not made.
        let file = OpenOptions::new().write(true).open(root.join(name.replace('.', "/")));
        file.and_then(|mut f| f.write_all(value.as_bytes()))
            .map_err(|source| Error::Sysctl { name: name.clone(), source })?;
    }
    Ok(())
}

/// The settings of an ipc namespace, and all others.
pub(crate) fn by_namespace(
    sysctls: BTreeMap<String, String>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let of_ipc = |name: &str| {
        ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|k| name.starts_with(k))
    };
    sysctls.into_iter().partition(|(name, _)| of_ipc(name))
}

#[cfg(test)]
mod tests {
    use cocoon_stage::{Code, Failure};

    use super::*;

    #[test]
    fn settings_go_where_their_names_say_and_unknown_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("net/core")).unwrap();
        std::fs::write(dir.path().join("net/core/somaxconn"), "4096").unwrap();
        let set = |name: &str| apply(dir.path(), &BTreeMap::from([(name.to_owned(), "128".to_owned())]));
        set("net.core.somaxconn").unwrap();
        // The kernel's files have no old content to keep; that of a plain one stays behind the new.
        assert_eq!(std::fs::read(dir.path().join("net/core/somaxconn")).unwrap(), b"1286");
        let failure = Failure::from(set("net.core.nothing").unwrap_err());
        assert_eq!(failure.code, Code::PlanSysctlRefused);
        assert!(failure.reason.contains("net.core.nothing"));
        assert!(!dir.path().join("net/core/nothing").exists());
    }

    #[test]
    fn settings_of_ipc_are_told_apart() {
        let all = ["kernel.shmmax", "fs.mqueue.msg_max", "net.core.somaxconn", "kernel.sem"];
        let (ipc, others) = by_namespace(all.map(|n| (n.to_owned(), String::new())).into());
        assert_eq!((ipc.len(), others.len()), (3, 1));
        assert!(others.contains_key("net.core.somaxconn"));
    }
}
