//! Kernel modules that only some plans need, in sets that the guest image lists.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::system::finit_module;

use crate::Error;

/// `MODULE_INIT_COMPRESSED_FILE`, linux/module.h: the kernel decompresses.
const COMPRESSED: i32 = 4;
/// What begins a line of a module that may fail to load, since it is for processors that not all are.
const OPTIONAL: char = '?';

/// A set of modules, listed in the file of its name beside the modules. Sets overlap; what is loaded already is passed
/// over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleSet {
    /// Shared layers: EROFS, dm-verity.
    Layers,
    /// Encrypted shared layers: dm-crypt with AES-XTS.
    Crypt,
    /// The scratch disk: those of `Crypt`, dm-integrity, HMAC.
    Scratch,
    /// Volumes with a limit on it: loop devices.
    Volumes,
}

impl ModuleSet {
    /// The list's file name.
    pub fn file(self) -> &'static str {
        match self {
            ModuleSet::Layers => "layers",
            ModuleSet::Crypt => "crypt",
            ModuleSet::Scratch => "scratch",
            ModuleSet::Volumes => "volumes",
        }
    }
}

/// Loads a set from `folder` (the guest's `/modules`), in the list's order: file names, one a line; those that may fail
/// begin with `?` and may be followed by the processor's flag (of `/proc/cpuinfo`) without which they are passed over.
/// To be called with /proc mounted and before loading is closed for good.
///
/// # Errors
/// [`Error::Io`] with the module that failed, or where the image has no such list.
pub fn load_modules(folder: &Path, set: ModuleSet) -> Result<(), Error> {
    let list = folder.join(set.file());
    let text = fs::read_to_string(&list).map_err(Error::io(format!("read {}", list.display())))?;
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let Some(optional) = line.strip_prefix(OPTIONAL) else {
            insert_module(&folder.join(line)).map_err(Error::io(format!("load module {line}")))?;
            continue;
        };
        let (name, flag) = optional.split_once(' ').unwrap_or((optional, ""));
        if !flag.is_empty() && !has_flag(&processor, flag) {
            continue;
        }
        if let Err(e) = insert_module(&folder.join(name)) {
            tracing::debug!("optional module {name}: {e}");
        }
    }
    Ok(())
}

/// Whether the first processor of /proc/cpuinfo has a flag.
fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|l| l.strip_prefix("flags")?.trim_start().strip_prefix(':'));
    flags.is_some_and(|flags| flags.split_whitespace().any(|f| f == flag))
}

/// Loads one module from a file: an ELF object (`.ko`), or one that the kernel decompresses. One that is loaded already, or
/// built in, is no error.
///
/// # Errors
/// What the kernel says, or that the file cannot be read.
pub fn insert_module(path: &Path) -> io::Result<()> {
    let flags = if path.extension().is_some_and(|e| e == "ko") { 0 } else { COMPRESSED };
    match finit_module(File::open(path)?, c"", flags) {
        // Loaded already, or built in.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_must_load_unless_it_is_optional() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load_modules(dir.path(), ModuleSet::Layers).is_err(), "an image without the list");
        fs::write(dir.path().join("layers"), "?00-none.ko\n\n?02-none.ko aes\n").unwrap();
        load_modules(dir.path(), ModuleSet::Layers).unwrap();
        fs::write(dir.path().join("layers"), "?00-none.ko\n01-none.ko\n").unwrap();
        let error = load_modules(dir.path(), ModuleSet::Layers).unwrap_err().to_string();
        assert!(error.contains("01-none.ko"), "{error}");
    }

    #[test]
    fn flags_are_whole_words_of_the_flags_line() {
        let text = "processor\t: 0\nflags\t\t: fpu aes sha_ni_x\nbugs\t\t: sha_ni\n";
        assert!(has_flag(text, "aes") && !has_flag(text, "sha_ni") && !has_flag("", "aes"));
    }
}
