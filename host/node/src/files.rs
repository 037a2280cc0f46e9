//! Files and programs: the guest image, firmware, and the tools that demonstrations and builds use.

use std::ffi::OsStr;
use std::path::Path;

use crate::Check;

const IMAGE: [&str; 4] = ["manifest.json", "vmlinuz", "initrd.img", "firmware.bin"];

pub(crate) fn guest_image(dir: &Path) -> Check {
    let name = "guest image";
    let lacking: Vec<&str> = IMAGE.into_iter().filter(|file| !dir.join(file).is_file()).collect();
    if lacking.is_empty() {
        return Check::ok(name, dir.display().to_string(), "the measured guest that pod VMs boot");
    }
    let found = if lacking.len() == IMAGE.len() {
        format!("none in {}", dir.display())
    } else {
        format!("{} lacks {}", dir.display(), lacking.join(", "))
    };
    Check::missing(name, found, "there is nothing to boot").mend("cocoon guest build")
}

pub(crate) fn firmware(root: &Path) -> Check {
    let name = "firmware";
    let path = "usr/share/seabios/bios-256k.bin";
    if root.join(path).is_file() {
        return Check::ok(name, format!("/{path}"), "goes into the guest image for the simulated platform");
    }
    Check::warn(
        name,
        format!("no /{path}"),
        "a guest image cannot be built here (one that is built can be run)",
    )
    .mend("apt-get install --no-install-recommends seabios")
}

/// Program, Debian package, what it is for.
const PROGRAMS: [(&str, &str, &str); 5] = [
    ("dpkg-deb", "dpkg", "`cocoon guest build` cannot unpack the guest's kernel"),
    ("skopeo", "skopeo", "images cannot be copied to a registry by `make demo`"),
    ("umoci", "umoci", "images cannot be made by `make demo`"),
    ("docker-registry", "docker-registry", "`make demo` has no registry to serve images from"),
    ("busybox", "busybox-static", "`make demo` has nothing to make its image from"),
];

pub(crate) fn programs(path: &OsStr) -> Vec<Check> {
    PROGRAMS
        .into_iter()
        .map(|(program, package, means)| {
            let found = std::env::split_paths(path).map(|dir| dir.join(program)).find(|p| p.is_file());
            match found {
                Some(found) => {
                    Check::ok(program, found.display().to_string(), "used by builds and demonstrations")
                }
                None => Check::warn(program, "not installed", means)
                    .mend(format!("apt-get install --no-install-recommends {package}")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn an_image_is_complete_or_missing() {
        let dir = tempfile::tempdir().unwrap();
        let check = guest_image(dir.path());
        assert_eq!(check.status, Status::Missing);
        assert_eq!(check.mend.as_deref(), Some("cocoon guest build"));
        for file in IMAGE {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        assert_eq!(guest_image(dir.path()).status, Status::Ok);
        std::fs::remove_file(dir.path().join("initrd.img")).unwrap();
        assert!(guest_image(dir.path()).found.ends_with("lacks initrd.img"));
    }

    #[test]
    fn programs_are_found_in_the_path_and_else_named_with_their_package() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("skopeo"), "").unwrap();
        let checks = programs(dir.path().as_os_str());
        let of = |name| checks.iter().find(|c| c.name == name).unwrap();
        assert_eq!(of("skopeo").status, Status::Ok);
        assert!(of("busybox").mend.as_deref().is_some_and(|m| m.ends_with("busybox-static")));
    }

    #[test]
    fn firmware_is_looked_for_where_debian_puts_it() {
        let root = tempfile::tempdir().unwrap();
        assert!(firmware(root.path()).mend.is_some_and(|m| m.ends_with("seabios")));
    }
}
