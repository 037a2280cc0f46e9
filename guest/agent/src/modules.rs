//! Kernel modules, loaded in the order in which the guest image lists them.

use std::fs;
use std::io;
use std::path::Path;

use cocoon_blockdev::insert_module as insert;

use crate::Error;

/// Where the guest image keeps them: the modules, `list` and `optional` (file names, one a line).
pub(crate) const FOLDER: &str = "/modules";

/// Loads all modules; those of `optional` may fail, for they belong to hardware that is not always there.
///
/// # Errors
/// [`Error::Boot`] with the module that failed.
pub(crate) fn load(folder: &Path) -> Result<(), Error> {
    for name in names(&folder.join("list"))? {
        insert(&folder.join(&name)).map_err(Error::boot(format!("load module {name}")))?;
    }
    for name in names(&folder.join("optional"))? {
        if let Err(e) = insert(&folder.join(&name)) {
            tracing::debug!("optional module {name}: {e}");
        }
    }
    Ok(())
}

/// Lets nobody load further modules.
pub(crate) fn seal() {
    if let Err(e) = fs::write("/proc/sys/kernel/modules_disabled", "1") {
        tracing::warn!("module loading stays open: {e}");
    }
}

/// The lines of a list; none where there is no list.
fn names(list: &Path) -> Result<Vec<String>, Error> {
    match fs::read_to_string(list) {
        Ok(text) => Ok(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::boot(format!("read {}", list.display()))(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_module_must_load_and_an_optional_one_need_not() {
        let dir = tempfile::tempdir().unwrap();
        load(dir.path()).unwrap();
        fs::write(dir.path().join("optional"), "00-none.ko\n\n").unwrap();
        load(dir.path()).unwrap();
        fs::write(dir.path().join("list"), "01-none.ko\n").unwrap();
        let failure = cocoon_stage::Failure::from(load(dir.path()).unwrap_err());
        assert_eq!(failure.code, cocoon_stage::Code::BootGuestFailed);
        assert!(failure.reason.contains("01-none.ko"));
    }
}
