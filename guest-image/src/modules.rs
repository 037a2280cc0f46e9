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

/// Modules that only some plans need; the guest loads a set by its name. What may fail to load are drivers for
/// processors that not all are, and algorithms that a kernel may have under another name or built in.
const SETS: &[SetOf] = &[
    // Shared layers.
    SetOf { name: "layers", required: &["erofs", "dm-verity"], optional: VERITY_HASHES },
    // Encrypted shared layers.
    SetOf { name: "crypt", required: &["dm-crypt", "xts", "ecb"], optional: CIPHERS },
    // The scratch disk.
    SetOf {
        name: "scratch",
        required: &["dm-crypt", "xts", "ecb", "dm-integrity", "authenc", "ext4"],
        optional: &[
            ("hmac", ""),
            ("aes-generic", ""),
            ("aesni-intel", "aes"),
            ("sha256-generic", ""),
            ("sha256-ssse3", "sha_ni"),
        ],
    },
    // Volumes with a limit on the scratch disk.
    SetOf { name: "volumes", required: &["loop"], optional: &[] },
];
/// With its vector code alone that module is slower under emulation than plain C (a half, measured on dm-integrity),
/// and every processor with a TEE has the instructions.
const VERITY_HASHES: &[(&str, &str)] = &[("sha256-generic", ""), ("sha256-ssse3", "sha_ni")];
const CIPHERS: &[(&str, &str)] = &[("aes-generic", ""), ("aesni-intel", "aes")];

/// What a set is made of, before dependencies.
struct SetOf {
    name: &'static str,
    required: &'static [&'static str],
    /// With the processor's flag (of /proc/cpuinfo) without which it is not worth loading, or nothing.
    optional: &'static [(&'static str, &'static str)],
}

/// When the guest loads a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At every boot; it must load.
    Always,
    /// At every boot; it may fail to load.
    Optional,
    /// With a set.
    OnDemand,
}

/// A module as it lies in the initrd.
pub(crate) struct Module {
    /// The kernel's name of it.
    pub(crate) name: String,
    /// An uncompressed ELF object, ready for `finit_module(2)`.
    pub(crate) object: Vec<u8>,
    pub(crate) when: When,
}

/// Modules that the guest loads together, where its plan needs them.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    /// In load order.
    pub(crate) modules: Vec<Member>,
}

/// A module of a set.
pub(crate) struct Member {
    pub(crate) name: String,
    /// It may fail to load; and it is tried only where the processor has that flag, if one is named.
    pub(crate) optional: Option<&'static str>,
}

/// What goes into the initrd.
pub(crate) struct Selected {
    /// Each once.
    pub(crate) modules: Vec<Module>,
    pub(crate) sets: Vec<Set>,
}

/// The guest's modules from an unpacked `lib/modules/<release>`; dependencies first. What is built into the
/// kernel is left out, and what is loaded at every boot is not in a set.
///
/// # Errors
/// [`Error::Package`] where a required module is neither there nor built in, or is not a module.
pub(crate) fn select(folder: &Path, package: &str) -> Result<Selected, Error> {
    let mut selection = Selection {
        package,
        files: index(&folder.join("kernel"))?,
        built_in: built_in(folder)?,
        depends: BTreeMap::new(),
        chosen: Vec::new(),
    };
    let (mut base, mut order) = (BTreeSet::new(), Vec::new());
    for name in REQUIRED {
        selection.add(&normalise(name), When::Always, &mut base, &mut order)?;
    }
    for name in OPTIONAL {
        selection.add_if_there(name, When::Optional, &mut base, &mut order)?;
    }
    let mut sets = Vec::new();
    for set in SETS {
        let (mut seen, mut must) = (base.clone(), Vec::new());
        for name in set.required {
            selection.add(&normalise(name), When::OnDemand, &mut seen, &mut must)?;
        }
        let mut modules: Vec<_> = must.into_iter().map(|name| Member { name, optional: None }).collect();
        for (name, flag) in set.optional {
            let mut may = Vec::new();
            selection.add_if_there(name, When::OnDemand, &mut seen, &mut may)?;
            modules.extend(may.into_iter().map(|name| Member { name, optional: Some(flag) }));
        }
        sets.push(Set { name: set.name, modules });
    }
    Ok(Selected { modules: selection.chosen, sets })
}

struct Selection<'a> {
    package: &'a str,
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
    /// What the chosen ones depend on.
    depends: BTreeMap<String, Vec<String>>,
    chosen: Vec<Module>,
}

impl Selection<'_> {
    /// Appends `name` to `order` after all that it needs, unless `seen` has it.
    fn add(
        &mut self,
        name: &str,
        when: When,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
    ) -> Result<(), Error> {
        if self.built_in.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let known = self.depends.get(name).cloned();
        let (depends, object) = match known {
            Some(depends) => (depends, None),
            None => {
                let (depends, object) = self.read(name)?;
                self.depends.insert(name.to_owned(), depends.clone());
                (depends, Some(object))
            }
        };
        for dependency in depends {
            self.add(&dependency, when, seen, order)?;
        }
        if let Some(object) = object {
            self.chosen.push(Module { name: name.to_owned(), object, when });
        }
        order.push(name.to_owned());
        Ok(())
    }

    /// The same for a module that the package may lack.
    fn add_if_there(
        &mut self,
        name: &str,
        when: When,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
    ) -> Result<(), Error> {
        let name = normalise(name);
        if self.files.contains_key(&name) { self.add(&name, when, seen, order) } else { Ok(()) }
    }

    /// Its dependencies and bytes.
    fn read(&self, name: &str) -> Result<(Vec<String>, Vec<u8>), Error> {
        let fail = |reason| Error::Package { package: self.package.to_owned(), reason };
        let path = self.files.get(name).ok_or_else(|| fail(format!("it has no module {name}")))?;
        let object = read_object(path)?;
        let depends = modinfo::depends(&object)
            .ok_or_else(|| fail(format!("{} is not a kernel module", path.display())))?;
        Ok((depends, object))
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
        module("loop.ko", "");
        module("erofs.ko", "libcrc32c");
        module("libcrc32c.ko", "");
        module("dm-verity.ko", "dm-mod,dm-bufio");
        module("dm-bufio.ko", "dm-mod");
        module("dm-mod.ko", "");
        module("sha256-ssse3.ko", "");
        module("dm-crypt.ko", "dm-mod");
        module("xts.ko", "gf128mul");
        module("gf128mul.ko", "");
        module("ecb.ko", "");
        module("aesni-intel.ko", "crypto_simd");
        module("crypto_simd.ko", "");
        module("dm-integrity.ko", "dm-mod,dm-bufio,virtio");
        module("authenc.ko", "");
        let built_in = "kernel/fs/overlayfs/overlay.ko\nkernel/fs/ext4/ext4.ko\n";
        fs::write(dir.path().join("modules.builtin"), built_in).unwrap();
        dir
    }

    fn names(selected: &Selected, of: &[When]) -> Vec<String> {
        let wanted = |m: &&Module| of.contains(&m.when);
        selected.modules.iter().filter(wanted).map(|m| m.name.clone()).collect()
    }

    #[test]
    fn dependencies_come_first_and_only_once() {
        let dir = tree();
        let modules = select(dir.path(), "p").unwrap();
        assert_eq!(
            names(&modules, &[When::Always, When::Optional]),
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
        assert_eq!(names(&modules, &[When::Optional]), ["tsm", "sev_guest"]);
        let on_demand = names(&modules, &[When::OnDemand]);
        assert_eq!(on_demand.iter().collect::<BTreeSet<_>>().len(), on_demand.len(), "each lies there once");
        assert_eq!(on_demand.len(), 15);
    }

    #[test]
    fn a_set_is_whole_by_itself() {
        let dir = tree();
        let selected = select(dir.path(), "p").unwrap();
        let set = |name: &str| {
            let set = selected.sets.iter().find(|s| s.name == name).unwrap();
            let shown = |m: &Member| m.optional.map_or(m.name.clone(), |flag| format!("?{}:{flag}", m.name));
            set.modules.iter().map(shown).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(set("layers"), "libcrc32c erofs dm_mod dm_bufio dm_verity ?sha256_ssse3:sha_ni");
        assert_eq!(set("crypt"), "dm_mod dm_crypt gf128mul xts ecb ?crypto_simd:aes ?aesni_intel:aes");
        assert_eq!(
            set("scratch"),
            "dm_mod dm_crypt gf128mul xts ecb dm_bufio dm_integrity authenc ?crypto_simd:aes \
             ?aesni_intel:aes ?sha256_ssse3:sha_ni"
        );
    }

    #[test]
    fn volumes_with_a_limit_need_loop_devices() {
        let selected = select(tree().path(), "p").unwrap();
        let set = selected.sets.iter().find(|s| s.name == "volumes").unwrap();
        assert!(set.modules.iter().map(|m| m.name.as_str()).eq(["loop"]));
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
        let all = [When::Always, When::Optional, When::OnDemand];
        assert_eq!(names(&want, &all), names(&got, &all));
        assert!(want.modules.iter().zip(&got.modules).all(|(a, b)| a.object == b.object));
    }
}
