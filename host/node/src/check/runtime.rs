//! The shim, the class files and the guest images that they name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Installed, Look};
use crate::install::Places;
use crate::program::run;
use crate::{Check, Status, host};

const INSTALL: &str = "cocoon node install";

pub(crate) fn checks(look: &Look<'_>, installed: &[Installed]) -> Vec<Check> {
    let mut checks = vec![shim(&look.places.on_disk(&look.places.shim())), classes(installed)];
    let images: BTreeSet<PathBuf> =
        installed.iter().filter_map(|i| Some(i.config.as_ref().ok()?.guest_image.clone())).collect();
    checks.extend(images.iter().map(|dir| image(&look.places.on_disk(dir), look)));
    checks
}

fn shim(path: &Path) -> Check {
    let name = "shim";
    let none = "no pod of Cocoon can start";
    if !path.is_file() {
        return Check::missing(name, format!("no {}", path.display()), none).mend(INSTALL);
    }
    match run(Command::new(path).arg("-v"), Duration::from_secs(10)) {
        Ok(output) if output.success => {
            let said: Vec<&str> = output.stdout.split_whitespace().collect();
            Check::ok(name, format!("{} ({})", path.display(), said.join(" ")), "runs")
        }
        Ok(output) => {
            Check::missing(name, format!("{} -v: {}", path.display(), output.complaint()), none).mend(INSTALL)
        }
        Err(e) => Check::missing(name, format!("{}: {e}", path.display()), none).mend(INSTALL),
    }
}

fn classes(installed: &[Installed]) -> Check {
    let name = "classes";
    let wrong: Vec<String> = installed.iter().filter_map(|i| i.config.as_ref().err().cloned()).collect();
    if !wrong.is_empty() {
        let mend = "correct it (docs/runtime-reference.md), or remove it and install again";
        return Check::missing(name, wrong.join("; "), "pods of that class cannot start").mend(mend);
    }
    if installed.is_empty() {
        return Check::missing(name, "no class file", "there is nothing that a RuntimeClass could name")
            .mend(INSTALL);
    }
    let names: Vec<&str> = installed.iter().map(|i| i.class.name).collect();
    Check::ok(name, names.join(", "), "their files can be read")
}

fn image(dir: &Path, look: &Look<'_>) -> Check {
    let name = "guest image";
    match (look.verify_image)(dir) {
        Ok(what) => Check::ok(name, what, "whole: every byte is what its manifest says"),
        Err(e) => Check::missing(name, e, "pods cannot boot, or would not be given secrets")
            .mend("cocoon guest build, then cocoon node install --guest-image DIR"),
    }
}

/// Free space where pods' data and the installation are.
pub(crate) fn space(places: &Places, installed: &[Installed]) -> Vec<Check> {
    let mut dirs: BTreeSet<PathBuf> =
        installed.iter().filter_map(|i| Some(i.config.as_ref().ok()?.data.clone())).collect();
    dirs.insert(places.prefix.clone());
    let mut checks: Vec<Check> = dirs.iter().map(|dir| host::space(&places.on_disk(dir))).collect();
    // COCOON_DATA_DIR, which the doctor would name, moves nothing here.
    for check in checks.iter_mut().filter(|c| c.status != Status::Ok) {
        check.mend = Some("free space there, or set `data` in the class file to a larger file system".into());
    }
    checks.dedup_by(|a, b| a == b);
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_is_run_not_just_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(shim(&dir.path().join("none")).status, Status::Missing);
        assert_eq!(shim(Path::new("/bin/true")).status, Status::Ok);
        assert_eq!(shim(Path::new("/bin/false")).status, Status::Missing);
        let text = dir.path().join("text");
        std::fs::write(&text, "no program").unwrap();
        assert_eq!(shim(&text).status, Status::Missing);
    }
}
