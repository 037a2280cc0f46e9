//! Shared layers: the host's disks, under the plan's root hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cocoon_blockdev::{
    Error, Mapped, Mounted, Watch, find_disk, mount_erofs, open_crypt, open_verity, watch_verity,
};
use cocoon_image::AnnotationPacket;
use cocoon_image::encryption::PrivateOptions;
use cocoon_plan::images::SharedLayer;
use cocoon_pull::KeyProvider;
use cocoon_stage::{Code, Failure, Stage};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::blocking;
use crate::events::Events;
use crate::mounts;
use crate::prepare::Secrets;

/// How long the host's disk may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);
/// Hex digits of the root hash in a disk's serial, which holds 20 bytes. It only finds the disk; the whole hash decides.
const SERIAL: usize = 20;

/// The shared layers of a pod, each mounted once.
pub(super) struct SharedLayers {
    events: Events,
    keys: Arc<dyn KeyProvider>,
    owner: Arc<dyn Secrets>,
    /// By root hash, and whether it was opened with a key.
    mounted: Mutex<BTreeMap<(String, bool), Weak<Mount>>>,
}

/// A mounted layer. Fields are dropped in this order.
pub(super) struct Mount {
    mounted: Mounted,
    _watch: Watch,
    _device: Mapped,
}

impl Mount {
    pub(super) fn at(&self) -> &Path {
        self.mounted.at()
    }

    /// Whether nothing of the layers below shows. Overlayfs looks for the mark on directories, but never on the roots of
    /// its layers.
    pub(super) fn is_opaque(&self) -> bool {
        let mut value = [0; 1];
        rustix::fs::getxattr(self.at(), "trusted.overlay.opaque", &mut value[..]).is_ok_and(|n| n == 1)
            && value == *b"y"
    }
}

impl SharedLayers {
    pub(super) fn new(events: Events, keys: Arc<dyn KeyProvider>, owner: Arc<dyn Secrets>) -> Self {
        SharedLayers { events, keys, owner, mounted: Mutex::default() }
    }

    /// Mounts a layer, or finds it mounted. A layer whose blocks are encrypted needs its key each time, so that only a
    /// workload that may have it reads it.
    ///
    /// # Errors
    /// `IMAGE-LAYER-UNAVAILABLE`, `IMAGE-LAYER-TAMPERED`, `IMAGE-KEY-UNAVAILABLE`, `IMAGE-UNDECRYPTABLE`.
    pub(super) async fn mount(&self, layer: &SharedLayer) -> Result<Arc<Mount>, Failure> {
        let key = match &layer.key {
            Some(packet) => Some(unwrap(packet, self.keys.as_ref()).await?),
            None => None,
        };
        let name = (layer.root.clone(), key.is_some());
        let mut mounted = self.mounted.lock().await;
        if let Some(mount) = mounted.get(&name).and_then(Weak::upgrade) {
            return Ok(mount);
        }
        let (wanted, tell) = (layer.clone(), self.teller());
        let mount = Arc::new(blocking(move || open(&wanted, key.as_ref(), tell)).await?);
        mounted.insert(name, Arc::downgrade(&mount));
        Ok(mount)
    }

    /// Tells of an altered layer: the host's stream of events hears code and layer, and the owner, whom the host can
    /// keep from hearing that, finds it with Trustee.
    fn teller(&self) -> impl FnMut(&str) + Send + 'static {
        let (events, owner) = (self.events.clone(), Arc::clone(&self.owner));
        let runtime = tokio::runtime::Handle::current();
        move |diff_id| {
            let why = format!("layer {diff_id}: the host's copy is not what the plan's root hash says");
            let failure = Failure::new(Code::ImageLayerTampered, why);
            events.fail(&failure, diff_id);
            let owner = Arc::clone(&owner);
            runtime.spawn(async move { owner.report(&failure).await });
        }
    }
}

async fn unwrap(packet: &str, keys: &dyn KeyProvider) -> Result<Zeroizing<[u8; 64]>, Failure> {
    let packet = AnnotationPacket::parse(packet.as_bytes())?;
    let options = PrivateOptions::parse(&keys.unwrap(&packet).await?)?;
    Ok(cocoon_erofs::derive_key(&options.symkey))
}

fn open(
    layer: &SharedLayer,
    key: Option<&Zeroizing<[u8; 64]>>,
    tell: impl FnMut(&str) + Send + 'static,
) -> Result<Mount, Failure> {
    let invalid = || Failure::new(Code::PlanInvalid, "a layer's root is not 32 bytes in hex").at(Stage::Pull);
    let root: [u8; 32] = hex::decode(&layer.root).ok().and_then(|r| r.try_into().ok()).ok_or_else(invalid)?;
    let serial = layer.root.get(..SERIAL).ok_or_else(invalid)?;
    let disk = find_disk(serial, PATIENCE)?;
    let kind = if key.is_some() { "below" } else { "verity" };
    let verity = open_verity(&format!("{kind}-{}", layer.root), &disk, layer.blocks, &root)?;
    let watch = watch_verity(&[(&verity, &layer.diff_id)], tell)?;
    let device = match key {
        Some(key) => open_crypt(&format!("crypt-{}", layer.root), &verity, key)?.over(verity),
        None => verity,
    };
    let at: PathBuf = Path::new(mounts::LAYERS).join(kind).join(&layer.root);
    std::fs::create_dir_all(&at)
        .map_err(|e| Failure::new(Code::ImageLayerUnavailable, format!("{}: {e}", at.display())))?;
    let mounted = mount_erofs(&device, &at).map_err(|e| unfit(e, &layer.diff_id, key.is_some()))?;
    Ok(Mount { mounted, _watch: watch, _device: device })
}

/// Why a layer is not mounted. Its blocks could be read, so they are those of the plan: where they were encrypted and are
/// no file system, the key is another.
fn unfit(e: Error, diff_id: &str, encrypted: bool) -> Failure {
    match &e {
        Error::Io { source, .. } if encrypted && source.raw_os_error() != Some(libc::EIO) => {
            let why = format!("layer {diff_id} is no file system under the key that the plan wraps ({e})");
            Failure::new(Code::ImageUndecryptable, why)
        }
        _ => e.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_fault_of_the_key_and_only_where_there_is_one() {
        let code = |errno, encrypted| {
            let source = std::io::Error::from_raw_os_error(errno);
            unfit(Error::Io { step: "mount".into(), source }, "sha256:x", encrypted).code
        };
        assert_eq!(code(libc::EINVAL, true), Code::ImageUndecryptable);
        assert_eq!(code(libc::EINVAL, false), Code::ImageLayerUnavailable);
        assert_eq!(code(libc::EIO, true), Code::ImageLayerUnavailable);
        assert_eq!(unfit(Error::Tampered("x".into()), "", true).code, Code::ImageLayerTampered);
    }
}
