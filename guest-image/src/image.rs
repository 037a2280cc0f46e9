//! A built guest image: its manifest, and opening it with every byte checked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::{Error, reference};

pub(crate) const KERNEL: &str = "vmlinuz";
pub(crate) const INITRD: &str = "initrd.img";
pub(crate) const FIRMWARE: &str = "firmware.bin";
pub(crate) const REFERENCE_VALUES: &str = "reference-values.json";
pub(crate) const MANIFEST: &str = "manifest.json";

/// The version of [`Manifest`] that this program writes and reads.
pub(crate) const MANIFEST_VERSION: u32 = 1;

/// Larger manifests and reference value files are not read.
const MAX_JSON: u64 = 1024 * 1024;

/// What a guest image was made of; `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format's version, 1.
    pub version: u32,
    /// The kernel command line.
    pub cmdline: String,
    /// The kernel's release, e.g. `6.1.0-56-cloud-amd64`.
    pub kernel_release: String,
    /// The Debian package that the kernel and modules come from.
    pub kernel_package: PackageRecord,
    /// SHA-256 of the guest program, hexadecimal.
    pub guest_sha256: String,
    /// SHA-256 of the CA bundle, hexadecimal; absent where the image has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_sha256: Option<String>,
    /// Whether the guest may run without a plan, by the host's word alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub developer: bool,
    /// Kernel modules that the guest loads, in order.
    pub modules: Vec<String>,
    /// Kernel modules that the guest loads where the hardware is there.
    pub optional_modules: Vec<String>,
    /// Kernel modules that the guest loads where its plan needs them, by set, in order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub module_sets: BTreeMap<String, Vec<String>>,
    /// The image's files: `vmlinuz`, `initrd.img`, `firmware.bin`, `reference-values.json`.
    pub files: BTreeMap<String, FileRecord>,
}

/// A Debian package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageRecord {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the `.deb` file, hexadecimal.
    pub sha256: String,
}

/// A file of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

impl FileRecord {
    /// The record of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        FileRecord { size: bytes.len() as u64, sha256: sha256_hex(bytes) }
    }
}

/// A guest image whose files were found to match its manifest.
#[derive(Clone, Debug)]
pub struct GuestImage {
    /// The folder that holds it.
    pub dir: PathBuf,
    /// The kernel, a bzImage.
    pub kernel: PathBuf,
    /// The initrd.
    pub initrd: PathBuf,
    /// The kernel command line.
    pub cmdline: String,
    /// The firmware of the simulated platform.
    pub firmware: PathBuf,
    /// What it was made of.
    pub manifest: Manifest,
}

impl GuestImage {
    /// Opens the image in `dir`; reads and hashes every file.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no manifest, [`Error::Manifest`] where it cannot be used,
    /// [`Error::Corrupt`] where a file is missing or differs.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(MANIFEST);
        let bytes = match read_bounded(&path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Error::Missing(dir.to_owned()));
            }
            other => other.map_err(Error::io(&path))?,
        };
        let bad = |reason: String| Error::Manifest { path: path.clone(), reason };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if manifest.version != MANIFEST_VERSION {
            return Err(bad(format!("version {} instead of {MANIFEST_VERSION}", manifest.version)));
        }
        for name in [KERNEL, INITRD, FIRMWARE, REFERENCE_VALUES] {
            let record = manifest.files.get(name).ok_or_else(|| bad(format!("it does not name {name}")))?;
            check(&dir.join(name), record)?;
        }
        Ok(GuestImage::at(dir, manifest))
    }

    /// The image of that manifest in `dir`, unchecked.
    pub(crate) fn at(dir: &Path, manifest: Manifest) -> Self {
        GuestImage {
            dir: dir.to_owned(),
            kernel: dir.join(KERNEL),
            initrd: dir.join(INITRD),
            cmdline: manifest.cmdline.clone(),
            firmware: dir.join(FIRMWARE),
            manifest,
        }
    }

    /// The launch measurements that this image may have on the simulated platform, by the names that
    /// appraisal knows: `sim_launch_measurement`, one lower-case hexadecimal value for each number of vCPUs
    /// from 1 to [`crate::MAX_VCPUS`], in that order.
    ///
    /// # Errors
    /// A file that can no longer be read or no longer matches the manifest.
    pub fn reference_values(&self) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let path = self.dir.join(REFERENCE_VALUES);
        let bytes = read_bounded(&path).map_err(Error::io(&path))?;
        if let Some(record) = self.manifest.files.get(REFERENCE_VALUES) {
            compare(&path, record, sha256_hex(&bytes))?;
        }
        serde_json::from_slice(&bytes).map_err(|e| Error::Manifest { path, reason: e.to_string() })
    }

    /// The launch measurements that this image may have on SEV-SNP with that OVMF firmware (Debian's
    /// `OVMF.amdsev.fd`), under the name `snp_launch_measurement`.
    ///
    /// # Errors
    /// Files that cannot be read, and a firmware without the SEV metadata.
    pub fn snp_reference_values(&self, ovmf: &Path) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let read = |path: &Path| fs::read(path).map_err(Error::io(path));
        reference::snp(&read(ovmf)?, &read(&self.kernel)?, &read(&self.initrd)?, &self.cmdline)
    }

    /// The launch digest on SEV-SNP with that firmware and so many vCPUs.
    ///
    /// # Errors
    /// As [`GuestImage::snp_reference_values`]; numbers of vCPUs that no guest has.
    pub fn snp_launch_digest(&self, ovmf: &Path, vcpus: u32) -> Result<[u8; 48], Error> {
        let read = |path: &Path| fs::read(path).map_err(Error::io(path));
        reference::snp_digest(&read(ovmf)?, &read(&self.kernel)?, &read(&self.initrd)?, &self.cmdline, vcpus)
    }

    /// What a TPM's registers may hold after a measured boot of this image, under the names `tpm_pcr02`, `tpm_pcr04` and `tpm_pcr09`.
    ///
    /// # Errors
    /// Files that cannot be read, and a kernel that is no EFI application.
    pub fn tpm_reference_values(&self) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let read = |path: &Path| fs::read(path).map_err(Error::io(path));
        reference::tpm(&read(&self.kernel)?, &read(&self.initrd)?, &self.cmdline)
    }
}

fn check(path: &Path, record: &FileRecord) -> Result<(), Error> {
    let got = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => "missing".to_owned(),
        Err(e) => return Err(Error::io(path)(e)),
        Ok(m) if m.len() != record.size => format!("of a file of {} bytes", m.len()),
        Ok(_) => sha256_file(path).map_err(Error::io(path))?,
    };
    compare(path, record, got)
}

fn compare(path: &Path, record: &FileRecord, got: String) -> Result<(), Error> {
    if got == record.sha256 {
        return Ok(());
    }
    Err(Error::Corrupt { path: path.to_owned(), expected: record.sha256.clone(), got })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_JSON + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than 1 MiB"));
    }
    Ok(bytes)
}

/// SHA-256 of bytes, lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// SHA-256 of a file, lower-case hexadecimal.
pub(crate) fn sha256_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(context.finish())),
            n => context.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}
