//! Chooses the kernel modules of the guest, with what they depend on, in the order in which to load them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::modinfo::{self, normalise};
use crate::{Error, tool};

/// Modules without which the guest cannot do its work.
const REQUIRED: &[&str] =
    &["virtio_pci", "virtio_blk", "virtio_net", "vmw_vsock_virtio_transport", "overlay"];

/// Modules for hardware that only some hosts have: the SEV-SNP and TDX guest drivers. A kernel may lack them,
/// and loading one where its device is absent fails harmlessly.
const OPTIONAL: &[&str] = &["sev-guest", "tdx-guest"];

/// A module as it lies in the initrd.
pub(crate) struct Module {
    /// The kernel's name of it.
    pub(crate) name: String,
    /// An uncompressed ELF object, ready for `finit_module(2)`.
    pub(crate) object: Vec<u8>,
    /// Whether the guest may go on without it.
    pub(crate) optional: bool,
}

/// The guest's modules from an unpacked `lib/modules/<release>`; dependencies first. What is built into the
/// kernel is left out.
///
/// # Errors
/// [`Error::Package`] where a required module is neither there nor built in, or is not a module.
pub(crate) fn select(folder: &Path, package: &str) -> Result<Vec<Module>, Error> {
    let mut selection = Selection {
        package,
        files: index(&folder.join("kernel"))?,
        built_in: built_in(folder)?,
        seen: BTreeSet::new(),
        chosen: Vec::new(),
    };
    for name in REQUIRED {
        selection.add(&normalise(name), false)?;
    }
    for name in OPTIONAL {
        let name = normalise(name);
        if selection.files.contains_key(&name) {
            selection.add(&name, true)?;
        }
    }
    Ok(selection.chosen)
}

struct Selection<'a> {
    package: &'a str,
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
    seen: BTreeSet<String>,
    chosen: Vec<Module>,
}

impl Selection<'_> {
    fn add(&mut self, name: &str, optional: bool) -> Result<(), Error> {
        if self.built_in.contains(name) || !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let fail = |reason| Error::Package { package: self.package.to_owned(), reason };
        let path = self.files.get(name).ok_or_else(|| fail(format!("it has no module {name}")))?;
        let object = read_object(path)?;
        let depends = modinfo::depends(&object)
            .ok_or_else(|| fail(format!("{} is not a kernel module", path.display())))?;
        for dependency in depends {
            self.add(&dependency, optional)?;
        }
        self.chosen.push(Module { name: name.to_owned(), object, optional });
        Ok(())
    }
}

/// Name to file for every module below `folder`.
fn index(folder: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
            let entry = entry.map_err(Error::io(&folder))?;
            let kind = entry.file_type().map_err(Error::io(&folder))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if let (true, Some(name)) = (kind.is_file(), entry.file_name().to_str())
                && let Some((stem, "" | ".xz" | ".zst")) = name.split_once(".ko")
            {
                files.insert(normalise(stem), entry.path());
            }
        }
    }
    Ok(files)
}

/// Names of the modules that are part of the kernel image.
fn built_in(folder: &Path) -> Result<BTreeSet<String>, Error> {
    let path = folder.join("modules.builtin");
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let stem = |line: &str| Some(normalise(line.rsplit('/').next()?.strip_suffix(".ko")?));
    Ok(text.lines().filter_map(stem).collect())
}

fn read_object(path: &Path) -> Result<Vec<u8>, Error> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => tool::run("xz", ["-dc".as_ref(), path.as_os_str()]),
        Some("zst") => tool::run("zstd", ["-dcq".as_ref(), path.as_os_str()]),
        _ => fs::read(path).map_err(Error::io(path)),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::modinfo::fake_module;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let drivers = dir.path().join("kernel/drivers");
        fs::create_dir_all(&drivers).unwrap();
        let module = |name: &str, depends: &str| {
            let info = format!("license=GPL\0depends={depends}\0");
            fs::write(drivers.join(name), fake_module(info.as_bytes())).unwrap();
        };
        module("virtio_pci.ko", "virtio,virtio_ring");
        module("virtio.ko", "virtio_ring");
        module("virtio_ring.ko", "");
        module("virtio_blk.ko", "virtio");
        module("virtio_net.ko", "virtio,net-failover");
        module("net_failover.ko", "");
        module("vmw_vsock_virtio_transport.ko", "");
        module("tsm.ko", "");
        module("sev-guest.ko", "tsm");
        fs::write(dir.path().join("modules.builtin"), "kernel/fs/overlayfs/overlay.ko\n").unwrap();
        dir
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|m| m.name.as_str()).collect()
    }

    #[test]
    fn dependencies_come_first_and_only_once() {
        let dir = tree();
        let modules = select(dir.path(), "p").unwrap();
        assert_eq!(
            names(&modules),
            [
                "virtio_ring",
                "virtio",
                "virtio_pci",
                "virtio_blk",
                "net_failover",
                "virtio_net",
                "vmw_vsock_virtio_transport",
                "tsm",
                "sev_guest"
            ]
        );
        let optional: Vec<bool> = modules.iter().map(|m| m.optional).collect();
        assert_eq!(optional, [false, false, false, false, false, false, false, true, true]);
    }

    #[test]
    fn a_kernel_without_a_required_module_is_refused() {
        let dir = tree();
        fs::remove_file(dir.path().join("kernel/drivers/net_failover.ko")).unwrap();
        let error = select(dir.path(), "p").err().unwrap().to_string();
        assert!(error.contains("net_failover"), "{error}");
        fs::write(dir.path().join("kernel/drivers/net_failover.ko"), "garbage").unwrap();
        let error = select(dir.path(), "p").err().unwrap().to_string();
        assert!(error.contains("not a kernel module"), "{error}");
    }

    #[test]
    fn compressed_modules_are_unpacked() {
        let plain = tree();
        let want = select(plain.path(), "p").unwrap();
        let packed = tree();
        for (tool, args, file) in [("xz", "-q", "virtio.ko"), ("zstd", "-q", "virtio_blk.ko")] {
            let path = packed.path().join("kernel/drivers").join(file);
            let Ok(status) = Command::new(tool).arg(args).arg(&path).status() else {
                println!("skipped: {tool} is not installed");
                return;
            };
            assert!(status.success());
            let _ = fs::remove_file(path);
        }
        let got = select(packed.path(), "p").unwrap();
        assert_eq!(names(&want), names(&got));
        assert!(want.iter().zip(&got).all(|(a, b)| a.object == b.object));
    }
}
