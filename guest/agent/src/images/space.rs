//! Where unpacked layers and what containers write lie: in memory, or on the scratch disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cocoon_blockdev::{
    Mounted, OverlayOptions, find_disk, make_ext4, mount_ext4, mount_overlay, open_scratch,
};
use cocoon_plan::images::Space as Kind;
use cocoon_pull::Store;
use cocoon_stage::{Code, Failure, Stage};

use crate::mounts;
use crate::volumes::Place;

/// The scratch disk's serial, and the name of its mapping.
const SCRATCH: &str = "scratch";
/// How long the host's disk may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// A pod's space for images.
pub(crate) struct Space {
    store: Arc<Store>,
    folder: PathBuf,
    bytes: u64,
    volatile: bool,
}

/// A container's writable directory; deleted when dropped.
pub(crate) struct Writable(PathBuf);

impl Drop for Writable {
    fn drop(&mut self) {
        if let Err(e) = cocoon_image::remove_tree(&self.0) {
            tracing::warn!("a container's writable layer stays: {e}");
        }
    }
}

impl Space {
    /// Sets the space up. Blocks.
    ///
    /// # Errors
    /// `IMAGE-SCRATCH-FAILED`, `IMAGE-PULL-FAILED`.
    pub(crate) fn open(kind: Kind) -> Result<Self, Failure> {
        match kind {
            Kind::Memory => Space::at(Path::new(mounts::IMAGES), memory_for_images(), false),
            Kind::Scratch { bytes } => {
                let folder = Path::new(mounts::SCRATCH);
                let usable = scratch(bytes, folder)?;
                Space::at(folder, usable, true)
            }
        }
    }

    fn at(folder: &Path, bytes: u64, volatile: bool) -> Result<Self, Failure> {
        let store = Store::open(&folder.join("store"), bytes).map_err(Failure::from)?;
        Ok(Space { store, folder: folder.to_owned(), bytes, volatile })
    }

    /// The layer store.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        Place { folder: self.folder.clone(), memory: !self.volatile }
    }

    /// Bytes that images may take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stacks layers, topmost first, and a new writable directory into a root file system at `at`. Blocks.
    ///
    /// # Errors
    /// `IMAGE-PULL-FAILED`, `IMAGE-LAYER-…`.
    pub(crate) fn overlay(
        &self,
        container: &str,
        lowers: &[PathBuf],
        at: &Path,
    ) -> Result<(Writable, Mounted), Failure> {
        let failed = |path: &Path, e: std::io::Error| {
            Failure::new(Code::ImagePullFailed, format!("{}: {e}", path.display())).at(Stage::Pull)
        };
        let folder = self.folder.join("writable").join(container);
        cocoon_image::remove_tree(&folder).map_err(|e| failed(&folder, e))?;
        let writable = Writable(folder.clone());
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        for path in [&upper, &work, &at.to_owned()] {
            fs::create_dir_all(path).map_err(|e| failed(path, e))?;
        }
        // The root directory is the image's own, which the upper one would hide; and so is every other directory that a
        // layer uses without describing it.
        cocoon_image::restore(lowers, &upper).map_err(|e| Failure::from(e).at(Stage::Pull))?;
        let options = OverlayOptions { read_only: false, volatile: self.volatile };
        let overlay = mount_overlay(lowers, &upper, &work, at, options).map_err(Failure::from)?;
        Ok((writable, overlay))
    }
}

fn scratch(wanted: u64, at: &Path) -> Result<u64, Failure> {
    let disk = find_disk(SCRATCH, PATIENCE).map_err(cocoon_blockdev::Error::scratch)?;
    if disk.bytes < wanted {
        let why = format!("the host's scratch disk has {} bytes; the plan asks for {wanted}", disk.bytes);
        return Err(Failure::new(Code::ImageScratchFailed, why).at(Stage::Pull));
    }
    let mapped = open_scratch(SCRATCH, &disk)?;
    make_ext4(mapped.path(), mapped.bytes()).map_err(cocoon_blockdev::Error::scratch)?;
    let failed = |e: std::io::Error| {
        Failure::new(Code::ImageScratchFailed, format!("{}: {e}", at.display())).at(Stage::Pull)
    };
    fs::create_dir_all(at).map_err(failed)?;
    let mounted = mount_ext4(mapped.path(), at)?;
    let space = rustix::fs::statvfs(at).map_err(|e| failed(e.into()))?;
    // Both stay until the VM ends; their keys end with it.
    std::mem::forget((mapped, mounted));
    Ok(space.f_bavail.saturating_mul(space.f_frsize) / 10 * 9)
}

/// Most of the VM's memory, in bytes: what lies in memory file systems cannot be reclaimed, and a guest whose
/// memory an image has eaten dies without a word.
fn memory_for_images() -> u64 {
    let info = rustix::system::sysinfo();
    let total = info.totalram.saturating_mul(u64::from(info.mem_unit));
    total / 4 * 3
}
