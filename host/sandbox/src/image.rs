//! The guest image's files, as its manifest names them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use cocoon_stage::{Code, Failure, Stage};
use serde::Deserialize;

/// Larger manifests are not read.
const MAX_MANIFEST: u64 = 1 << 20;
/// The manifest's version.
const VERSION: u32 = 1;

/// What of a guest image is booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFiles {
    /// The kernel, a bzImage.
    pub kernel: PathBuf,
    /// The initrd.
    pub initrd: PathBuf,
    /// The firmware of the simulated platform.
    pub firmware: PathBuf,
    /// The kernel command line, constant and measured.
    pub cmdline: String,
}

#[derive(Deserialize)]
struct Manifest {
    version: u32,
    cmdline: String,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Deserialize)]
struct FileRecord {
    size: u64,
}

impl GuestFiles {
    /// Opens the image in `dir`. Files are compared with the manifest by size alone: whoever changed them for good has
    /// changed the manifest too, and the guest's owner learns of either by the measurement.
    ///
    /// # Errors
    /// `BOOT-GUEST-IMAGE-MISSING` where there is none, `BOOT-GUEST-IMAGE-CORRUPT` where it is incomplete.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let missing = |e: std::io::Error| {
            let why = format!("{}/manifest.json: {e}", dir.display());
            Failure::new(Code::BootGuestImageMissing, why)
        };
        let corrupt = |why: String| {
            let why = format!("{}: {why}", dir.display());
            Failure::new(Code::BootGuestImageCorrupt, why).at(Stage::Boot)
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(dir.join("manifest.json")).map_err(missing)?;
        file.take(MAX_MANIFEST).read_to_end(&mut bytes).map_err(missing)?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        if manifest.version != VERSION {
            return Err(corrupt(format!("manifest of version {} instead of {VERSION}", manifest.version)));
        }
        let file = |name: &str| {
            let path = dir.join(name);
            let record = manifest.files.get(name);
            let record = record.ok_or_else(|| corrupt(format!("the manifest does not name {name}")))?;
            match std::fs::metadata(&path) {
                Ok(found) if found.len() == record.size => Ok(path),
                Ok(found) => {
                    Err(corrupt(format!("{name} has {} bytes instead of {}", found.len(), record.size)))
                }
                Err(e) => Err(corrupt(format!("{name}: {e}"))),
            }
        };
        Ok(GuestFiles {
            kernel: file("vmlinuz")?,
            initrd: file("initrd.img")?,
            firmware: file("firmware.bin")?,
            cmdline: manifest.cmdline,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(manifest: &str) -> Result<GuestFiles, Failure> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["vmlinuz", "initrd.img", "firmware.bin"] {
            std::fs::write(dir.path().join(name), "12345").unwrap();
        }
        std::fs::write(dir.path().join("manifest.json"), manifest).unwrap();
        GuestFiles::open(dir.path())
    }

    const GOOD: &str = r#"{"version": 1, "cmdline": "quiet", "files": {"vmlinuz": {"size": 5, "sha256": ""},
        "initrd.img": {"size": 5}, "firmware.bin": {"size": 5}}, "modules": []}"#;

    #[test]
    fn an_image_is_what_its_manifest_says() {
        assert_eq!(image(GOOD).unwrap().cmdline, "quiet");
        for bad in ["{}", &GOOD.replacen("5", "6", 1), &GOOD.replace("\"version\": 1", "\"version\": 2")] {
            assert_eq!(image(bad).unwrap_err().code, Code::BootGuestImageCorrupt, "{bad}");
        }
        let none = GuestFiles::open(Path::new("/proc/cocoon-nothing")).unwrap_err();
        assert_eq!(none.code, Code::BootGuestImageMissing);
    }
}
