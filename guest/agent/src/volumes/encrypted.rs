//! Encrypted volumes: opened once for the pod by the owner's key, closed when nothing runs any more.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cocoon_blockdev::{Mounted, Protection, mount_lasting_ext4, open_encrypted};
use cocoon_stage::{Code, Failure, Stage};
use zeroize::Zeroizing;

use super::{Keys, disk, folder_0755, open_to_all};
use crate::Error;

/// What is to be opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) volume: &'a str,
    /// `kbs:///…`.
    pub(super) key: &'a str,
    pub(super) integrity: bool,
    pub(super) gid: Option<u32>,
    /// Whether the container that asks only reads it. The file system itself is mounted as its disk allows.
    pub(super) read_only: bool,
}

/// Those that are open, by name.
#[derive(Debug, Default)]
pub(super) struct Encrypted(tokio::sync::Mutex<BTreeMap<String, Open>>);

/// Fields are dropped in this order: the mount before what it is of.
#[derive(Debug)]
struct Open {
    mounted: Mounted,
    plaintext: cocoon_blockdev::Mapped,
    read_only: bool,
}

impl Encrypted {
    /// The folder at which the volume is mounted, below `folder`. One that is open stays as it is.
    ///
    /// # Errors
    /// `VOLUME-…`, `PLAN-DEVICE-MISSING`, what `keys` answers.
    pub(super) async fn open(
        &self,
        folder: &Path,
        wish: Wish<'_>,
        keys: &dyn Keys,
    ) -> Result<PathBuf, Failure> {
        let at = folder.join("encrypted").join(wish.volume);
        let mut open = self.0.lock().await;
        if let Some(open) = open.get(wish.volume) {
            if open.read_only && !wish.read_only {
                let why = format!("volume {:?}: the host offers its disk for reading only", wish.volume);
                return Err(Failure::new(Code::VolumeFailed, why).at(Stage::Start));
            }
            return Ok(at);
        }
        let key = keys.key(wish.key).await?;
        let disk = disk::attached(wish.volume, false).await?;
        let (volume, mount_at) = (wish.volume.to_owned(), at.clone());
        let protection = if wish.integrity { Protection::Authentic } else { Protection::Secret };
        let gid = wish.gid;
        let work = move || -> Result<Open, Failure> {
            let read_only = disk.read_only;
            let named = |e: cocoon_blockdev::Error| {
                let mut failure = Failure::from(e);
                failure.reason = format!("volume {volume:?}: {}", failure.reason);
                failure.at(Stage::Start)
            };
            let key: &Zeroizing<Vec<u8>> = &key;
            let opened =
                open_encrypted(&format!("volume-{volume}"), &disk, key, protection).map_err(named)?;
            let step = |e| Failure::from(Error::container(format!("make volume {volume}"))(e));
            folder_0755(&mount_at).map_err(step)?;
            let mounted = mount_lasting_ext4(opened.mapped.path(), read_only, &mount_at).map_err(named)?;
            if opened.new {
                first_use(&mount_at, gid).map_err(step)?;
            }
            Ok(Open { mounted, plaintext: opened.mapped, read_only })
        };
        let lost = |_| Failure::new(Code::Internal, "a volume was not opened").at(Stage::Start);
        let new = tokio::task::spawn_blocking(work).await.map_err(lost)??;
        if new.read_only && !wish.read_only {
            let why = format!("volume {:?}: the host offers its disk for reading only", wish.volume);
            return Err(Failure::new(Code::VolumeFailed, why).at(Stage::Start));
        }
        open.insert(wish.volume.to_owned(), new);
        Ok(at)
    }

    /// Takes all mounts and mappings away.
    pub(super) async fn close(&self) {
        let open = std::mem::take(&mut *self.0.lock().await);
        let closed = tokio::task::spawn_blocking(move || {
            for (volume, Open { mounted, plaintext, .. }) in open {
                if let Err(e) = mounted.close().and_then(|()| plaintext.close()) {
                    tracing::warn!("close volume {volume}: {e}");
                }
            }
        });
        let _ = closed.await;
    }
}

/// A new file system is the pod's: as kubelet makes a volume with `fsGroup`, and empty.
fn first_use(root: &Path, gid: Option<u32>) -> io::Result<()> {
    fs::remove_dir(root.join("lost+found"))?;
    open_to_all(root, gid)
}
