//! Builds a guest image from a kernel package and the guest program.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::image::{FIRMWARE, INITRD, KERNEL, MANIFEST, MANIFEST_VERSION, REFERENCE_VALUES, sha256_hex};
use crate::kernel::Package;
use crate::modules::When;
use crate::{CMDLINE, Error, FileRecord, GuestImage, Manifest, initrd, modinfo, modules, reference};

/// Where Debian keeps the roots of public certificate authorities.
pub const DEFAULT_CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The firmware that QEMU boots a simulated guest with (Debian package `seabios`).
pub const DEFAULT_FIRMWARE: &str = "/usr/share/seabios/bios-256k.bin";

/// What to build an image from.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// A Debian kernel package; `None` downloads this release's cloud kernel through apt.
    pub kernel_deb: Option<PathBuf>,
    /// The suite to download from (apt's `-t`), e.g. a release's backports.
    pub suite: Option<String>,
    /// The guest program, statically linked; becomes `/init`.
    pub guest_binary: PathBuf,
    /// The folder to make. One that is there is replaced in one step.
    pub out_dir: PathBuf,
    /// PEM roots for registries' certificates, part of the measurement; usually [`DEFAULT_CA_BUNDLE`].
    /// `None`: the guest trusts no public authority.
    pub ca_bundle: Option<PathBuf>,
    /// The simulated platform's firmware; usually [`DEFAULT_FIRMWARE`].
    pub firmware: PathBuf,
    /// Whether the guest may run without a plan, by the host's word alone: for developers. It measures to other values
    /// than one that may not.
    pub developer: bool,
}

/// Builds an image; `progress` hears one short line for each step.
///
/// The result appears in `out_dir` complete or not at all, also where two builds run at once: the later one
/// wins. Nothing is left beside it.
///
/// # Errors
/// See [`Error`]. An image that was in `out_dir` before is untouched then.
pub fn build(options: &BuildOptions, progress: &mut dyn FnMut(&str)) -> Result<GuestImage, Error> {
    let guest = read(&options.guest_binary)?;
    modinfo::check_static_program(&guest)
        .map_err(|reason| Error::GuestBinary { path: options.guest_binary.clone(), reason })?;
    let firmware = read(&options.firmware)?;
    let ca_bundle = options.ca_bundle.as_deref().map(read).transpose()?;

    let parent = match options.out_dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    // Beside the result, so that it can be renamed into place.
    let work =
        tempfile::Builder::new().prefix(".guest-image-").tempdir_in(parent).map_err(Error::io(parent))?;

    let package = match &options.kernel_deb {
        Some(deb) => Package::from_file(deb)?,
        None => {
            progress("looking for the cloud kernel of this Debian release");
            Package::download(options.suite.as_deref(), work.path(), progress)?
        }
    };
    progress(&format!("unpacking {} {}", package.record.name, package.record.version));
    let kernel = package.unpack(work.path())?;
    let selected = modules::select(&kernel.modules, &package.record.name)?;
    let names = |when: When| -> Vec<String> {
        selected.modules.iter().filter(|m| m.when == when).map(|m| m.name.clone()).collect()
    };
    let (required_modules, optional_modules) = (names(When::Always), names(When::Optional));
    let set = |s: &modules::Set| (s.name.to_owned(), s.modules.iter().map(|m| m.name.clone()).collect());
    let module_sets = selected.sets.iter().map(set).collect();

    progress("writing the initrd");
    let guest_sha256 = sha256_hex(&guest);
    let ca_bundle_sha256 = ca_bundle.as_deref().map(sha256_hex);
    let initrd = initrd::compose(guest, selected, ca_bundle, options.developer)?;

    progress("computing the reference values");
    let values = reference::simulated(&firmware, &kernel.image, &initrd, CMDLINE);
    let values = to_json(&values);

    let result = work.path().join("result");
    fs::create_dir(&result).map_err(Error::io(&result))?;
    fs::set_permissions(&result, fs::Permissions::from_mode(0o755)).map_err(Error::io(&result))?;
    let mut files = std::collections::BTreeMap::new();
    for (name, bytes) in
        [(KERNEL, &kernel.image), (INITRD, &initrd), (FIRMWARE, &firmware), (REFERENCE_VALUES, &values)]
    {
        write(&result.join(name), bytes)?;
        files.insert(name.to_owned(), FileRecord::of(bytes));
    }
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        cmdline: CMDLINE.to_owned(),
        kernel_release: kernel.release,
        kernel_package: package.record,
        guest_sha256,
        ca_bundle_sha256,
        developer: options.developer,
        modules: required_modules,
        optional_modules,
        module_sets,
        files,
    };
    write(&result.join(MANIFEST), &to_json(&manifest))?;
    move_into_place(&result, &options.out_dir).map_err(Error::io(&options.out_dir))?;
    work.close().map_err(Error::io(parent))?;
    Ok(GuestImage::at(&options.out_dir, manifest))
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
    let path = path.as_ref();
    fs::read(path).map_err(Error::io(path))
}

/// Pretty JSON with a final newline. Both types that come here are plain records, which always serialise.
fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(Error::io(path))
}

/// Renames `from` to `to`; where `to` is an older image the two change places in one step, so that a reader
/// finds one or the other. What ends up at `from` goes with the working folder.
fn move_into_place(from: &Path, to: &Path) -> io::Result<()> {
    // A concurrent build may create or remove `to` between two attempts.
    for _ in 0..16 {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            other => return Ok(other?),
        }
        if !to.join(MANIFEST).exists() && fs::read_dir(to).map_or(true, |mut d| d.next().is_some()) {
            let reason = "it exists and is not a guest image; it is left alone";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
        }
        match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "other builds keep replacing it"))
}
