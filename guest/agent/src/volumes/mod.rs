//! The pod's volumes: what containers may mount beside their own root, and what the host may put there.
//!
//! Contract: a plan (or, in a guest without one, the host's word) names the volumes; nothing else is ever mounted. Files
//! of the host are plain data in the guest's memory: regular files, bounded in number and size, without links of the
//! host's making, exchanged as a whole, and where the plan holds digests exactly those. Everything blocks only on
//! threads that may.

mod disk;
mod encrypted;
mod files;
mod sys;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cocoon_blockdev::{MIN_VOLUME, make_volume, volume_root};
use cocoon_plan::pod::{VolumePlan, VolumeSource};
use cocoon_plan::{ContainerPlan, MountPlan};
use cocoon_stage::{Code, Failure, Stage};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::Error;
use crate::container::{DeviceNode, Mounts, VolumeMount};
use crate::prepare::Secret;
use encrypted::Encrypted;
use files::Files;

pub use tree::Piece;

/// How long a container that is being created waits for the files of its volumes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most volumes of a guest without plan.
const MAX_VOLUMES: usize = 256;

/// Where the plan's space is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A folder on it.
    pub folder: PathBuf,
    /// Whether it is the guest's memory; else the scratch disk.
    pub memory: bool,
}

/// Why a request for files is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The request itself is wrong.
    Host(String),
    /// The files are not those of the plan.
    Digests(String),
    /// The guest could not do it.
    Guest(Error),
}

impl Refusal {
    fn io(step: &'static str) -> impl FnOnce(io::Error) -> Refusal {
        move |e| Refusal::Guest(Error::container(step)(e))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        match refusal {
            Refusal::Host(why) => Failure::new(Code::PlanRequestRefused, why).at(Stage::Start),
            Refusal::Digests(why) => Failure::new(Code::PlanFilesMismatch, why).at(Stage::Start),
            Refusal::Guest(error) => error.into(),
        }
    }
}

/// Who has the keys of encrypted volumes.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The key of this `kbs:///…` URI.
    ///
    /// # Errors
    /// `ATTEST-…`, `RELEASE-…`, `FETCH-…`.
    async fn key(&self, uri: &str) -> Result<Secret, Failure>;
}

/// The pod's volumes.
#[derive(Debug)]
pub struct Volumes {
    folder: PathBuf,
    patience: Duration,
    sources: Mutex<BTreeMap<String, VolumeSource>>,
    files: Arc<Files>,
    /// Directories in memory and on the scratch disk that are there already.
    made: tokio::sync::Mutex<BTreeMap<String, PathBuf>>,
    /// Encrypted volumes that are open.
    encrypted: Encrypted,
}

impl Volumes {
    /// The volumes of a plan. `folder` is for what lies in memory, and need not exist.
    pub fn new(folder: PathBuf, plan: &[VolumePlan]) -> Self {
        let volumes = Volumes {
            patience: PATIENCE,
            sources: Mutex::default(),
            files: Arc::new(Files::new(folder.clone())),
            made: tokio::sync::Mutex::default(),
            encrypted: Encrypted::default(),
            folder,
        };
        for volume in plan {
            volumes.insert(volume);
        }
        volumes
    }

    /// The same with another limit to how long a container waits for its files.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn insert(&self, volume: &VolumePlan) {
        if let VolumeSource::Files { digests } = &volume.source {
            self.files.add(&volume.name, digests.clone());
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.entry(volume.name.clone()).or_insert_with(|| volume.source.clone());
    }

    /// Adds volumes that the host of a guest without plan names; one that is there already stays as it is.
    ///
    /// # Errors
    /// A refusal of too many, or of one name for two kinds.
    pub fn add(&self, volumes: &[VolumePlan]) -> Result<(), Failure> {
        for volume in volumes {
            let (there, count) = {
                let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
                (sources.get(&volume.name).cloned(), sources.len())
            };
            match there {
                Some(source) if source == volume.source => {}
                Some(_) => return Err(Refusal::Host(format!("volume {:?} of two kinds", volume.name)).into()),
                None if count >= MAX_VOLUMES => return Err(Refusal::Host("too many volumes".into()).into()),
                None => self.insert(volume),
            }
        }
        Ok(())
    }

    /// Takes files of the host into a volume; see `PutFilesRequest` of the Sandbox service. Blocks.
    ///
    /// # Errors
    /// `PLAN-REQUEST-REFUSED`, `PLAN-FILES-MISMATCH`, `START-RESOURCES`. The generation is dropped then; what containers
    /// see stays as it was.
    pub fn put(
        &self,
        volume: &str,
        generation: u64,
        pieces: &[Piece<'_>],
        commit: bool,
    ) -> Result<(), Failure> {
        Ok(self.files.put(volume, generation, pieces, commit)?)
    }

    /// Makes ready what an instance of a container (by the host's id for it, a plain file name) mounts: waits for files and
    /// disks of the host, makes directories, opens encrypted volumes. `space` finds where the plan's space is, where that is
    /// asked for, and `keys` fetches a volume's key by its URI.
    ///
    /// # Errors
    /// `PLAN-FILES-MISSING`, `PLAN-DEVICE-MISSING`, `VOLUME-…`, `START-…`, and what `space` and `keys` answer.
    pub async fn prepare(
        &self,
        instance: &str,
        container: &ContainerPlan,
        space: impl Future<Output = Result<Place, Failure>>,
        keys: &dyn Keys,
    ) -> Result<Mounts, Failure> {
        let mut mounts = Mounts::default();
        self.release(instance);
        tokio::time::timeout(self.patience, self.arrived(container)).await.map_err(|_| {
            let why =
                format!("volumes of {:?}: not all within {} s", container.name, self.patience.as_secs());
            Failure::new(Code::PlanFilesMissing, why)
        })?;
        let mut space = Some(Box::pin(space));
        let mut place = None;
        for (number, mount) in container.mounts.iter().enumerate() {
            let MountPlan::Volume { target, volume, sub_path, read_only } = mount else { continue };
            let source = self.source(volume)?;
            if matches!(source, VolumeSource::Scratch { .. })
                && let Some(space) = space.take()
            {
                place = Some(space.await?);
            }
            let is_files = matches!(source, VolumeSource::Files { .. });
            let from = match &source {
                VolumeSource::Files { .. } if *read_only => self.files.root(volume),
                VolumeSource::Files { .. } => self.private_copy(instance, number, volume).await?,
                VolumeSource::Memory { size, gid } => self.directory(volume, Some(*size), None, *gid).await?,
                VolumeSource::Scratch { size, gid } => {
                    self.directory(volume, Some(*size).filter(|s| *s != 0), place.as_ref(), *gid).await?
                }
                VolumeSource::Encrypted { key, integrity, gid } => {
                    let wish = encrypted::Wish {
                        volume,
                        key,
                        integrity: *integrity,
                        gid: *gid,
                        read_only: *read_only,
                    };
                    self.encrypted.open(&self.folder, wish, keys).await?
                }
                VolumeSource::Block {} => return Err(no_volume(volume)),
            };
            mounts.volumes.push(VolumeMount {
                source: from,
                beneath: sub_path.clone(),
                target: target.clone(),
                read_only: *read_only,
                // As kubelet does it for directories that belong to the pod.
                make: !is_files,
                files: is_files,
            });
        }
        for device in &container.devices {
            let (major, minor) = disk::find(&device.volume, device.read_only).await?;
            mounts.devices.push(DeviceNode { path: device.path.clone(), major, minor, uid: 0, gid: 0 });
        }
        Ok(mounts)
    }

    /// Closes encrypted volumes, so that all that was written is on their disks. To be called when nothing runs any more.
    pub async fn close(&self) {
        self.encrypted.close().await;
    }

    /// Removes what an instance had for itself.
    pub fn release(&self, instance: &str) {
        let _ = fs::remove_dir_all(self.folder.join("copies").join(instance));
    }

    fn source(&self, volume: &str) -> Result<VolumeSource, Failure> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get(volume).cloned().ok_or_else(|| no_volume(volume))
    }

    /// Waits until every volume of files that the container mounts has a generation, and one with digests all that the
    /// container mounts of it.
    async fn arrived(&self, container: &ContainerPlan) {
        for mount in &container.mounts {
            let MountPlan::Volume { volume, sub_path, .. } = mount else { continue };
            let Some(mut generations) = self.files.generations(volume) else { continue };
            let digests = match self.source(volume) {
                Ok(VolumeSource::Files { digests }) => digests,
                _ => None,
            };
            // Fails only once the volume is gone, which is never while the pod is.
            let _ = generations.wait_for(|arrived| arrived.holds(digests.as_ref(), sub_path)).await;
        }
    }

    /// What a container may write lies in a copy of its own: nothing goes back to the host or to other containers.
    async fn private_copy(&self, instance: &str, number: usize, volume: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder.join("copies").join(instance);
        let (files, volume, to) =
            (Arc::clone(&self.files), volume.to_owned(), folder.join(number.to_string()));
        let at = to.clone();
        blocking(move || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            files.copy(&volume, &to)
        })
        .await
        .map_err(|e| Failure::from(Error::container("copy a volume's files")(e)))?;
        Ok(at)
    }

    /// A directory that the pod's containers share: in memory of its own with a limit, or on the plan's space.
    async fn directory(
        &self,
        volume: &str,
        size: Option<u64>,
        place: Option<&Place>,
        gid: Option<u32>,
    ) -> Result<PathBuf, Failure> {
        let mut made = self.made.lock().await;
        if let Some(path) = made.get(volume) {
            return Ok(path.clone());
        }
        let failed = |e| Failure::from(Error::container(format!("make volume {volume}"))(e));
        let path = match (size, place) {
            // What is too small for a file system on the disk costs little memory.
            (Some(size), Some(Place { folder, memory: false })) if size >= MIN_VOLUME => {
                let file = folder.join("volumes").join(format!("{volume}.disk"));
                limited_on_disk(file, self.folder.join("shared").join(volume), size).await?
            }
            (Some(size), _) => {
                let at = self.folder.join("shared").join(volume);
                let to = at.clone();
                blocking(move || memory(&to, size)).await.map_err(failed)?;
                at
            }
            (None, Some(Place { folder, .. })) => {
                let at = folder.join("volumes").join(volume);
                let to = at.clone();
                blocking(move || folder_0755(&to)).await.map_err(failed)?;
                at
            }
            (None, None) => return Err(no_volume(volume)),
        };
        let to = path.clone();
        blocking(move || open_to_all(&to, gid)).await.map_err(failed)?;
        made.insert(volume.to_owned(), path.clone());
        Ok(path)
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        // Only tests live on after their pod.
        for name in self.made.get_mut().keys() {
            let _ = unmount(self.folder.join("shared").join(name), UnmountFlags::DETACH);
        }
    }
}

fn folder_0755(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Makes a directory as kubelet makes an `emptyDir`: anybody's, and with a group that what is made in it inherits.
fn open_to_all(path: &Path, gid: Option<u32>) -> io::Result<()> {
    std::os::unix::fs::chown(path, None, gid)?;
    let mode = if gid.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn memory(path: &Path, size: u64) -> io::Result<()> {
    folder_0755(path)?;
    let options = std::ffi::CString::new(format!("mode=0777,size={size}"))?;
    Ok(mount("tmpfs", path, "tmpfs", MountFlags::NODEV, Some(options.as_c_str()))?)
}

/// A file system of its own in a file on the scratch disk, so that the kernel keeps the limit.
async fn limited_on_disk(file: PathBuf, at: PathBuf, size: u64) -> Result<PathBuf, Failure> {
    let root = volume_root(&at);
    let made = tokio::task::spawn_blocking(move || make_volume(&file, size, &at));
    let lost = |_| Failure::new(Code::Internal, "a volume was not made").at(Stage::Start);
    let mounted = made.await.map_err(lost)?.map_err(|e| Failure::from(e).at(Stage::Start))?;
    // It stays until the VM ends.
    std::mem::forget(mounted);
    Ok(root)
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn no_volume(volume: &str) -> Failure {
    Failure::new(Code::PlanInvalid, format!("{volume:?} is no volume to mount")).at(Stage::Start)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
