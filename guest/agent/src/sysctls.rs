//! Kernel settings of the pod, below `/proc/sys`. What may be set is the plan's check's to say; containers see all of it
//! read-only.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use cocoon_stage::{Code, Failure};

/// Where the kernel has them.
pub(crate) const ROOT: &str = "/proc/sys";

/// Sets them all. `root` is [`ROOT`].
///
/// # Errors
/// `PLAN-SYSCTL-REFUSED` with the first that the kernel does not have or whose value it does not take.
pub(crate) fn apply(root: &Path, sysctls: &BTreeMap<String, String>) -> Result<(), Failure> {
    for (name, value) in sysctls {
        let refused = |e: std::io::Error| Failure::new(Code::PlanSysctlRefused, format!("{name}: {e}"));
        // Opened as it is: a setting that the kernel does not have is not made.
        let file = OpenOptions::new().write(true).open(root.join(name.replace('.', "/")));
        file.and_then(|mut f| f.write_all(value.as_bytes())).map_err(refused)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let failure = set("net.core.nothing").unwrap_err();
        assert_eq!(failure.code, Code::PlanSysctlRefused);
        assert!(failure.reason.contains("net.core.nothing"));
        assert!(!dir.path().join("net/core/nothing").exists());
    }
}
