//! A store in a temporary folder, pulls into it, and what a container would see.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cocoon_image::encryption::unwrap_key;
use cocoon_image::{AnnotationPacket, Digest, Platform, Reference};
use cocoon_pull::{Gate, KeyProvider, Layer, OnProgress, PullRequest, Pulled, Store};
use cocoon_registry::{Auth, Client, Retry};
use cocoon_signature::Subject;
use cocoon_signature::policy::Requirement;
use cocoon_signatures::Places;
use cocoon_stage::{Code, Failure};
use zeroize::Zeroizing;

use crate::image::KEK;

/// Room enough for all tests.
pub const BUDGET: u64 = 4 << 30;

/// Holds the test KEK, or none.
pub struct Keys(pub Option<[u8; 32]>);

#[async_trait]
impl KeyProvider for Keys {
    async fn unwrap(&self, packet: &AnnotationPacket) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match &self.0 {
            Some(kek) => unwrap_key(kek, packet).map_err(Failure::from),
            None => Err(Failure::new(Code::ImageKeyUnavailable, "denied")),
        }
    }
}

/// Asks for a signature by a key, as the guest's agent does.
#[derive(Debug)]
pub struct Signed(Vec<Requirement>);

impl Signed {
    pub fn by(key_pem: &str) -> Option<Arc<dyn Gate>> {
        Some(Arc::new(Signed(vec![Requirement::cosign_key(key_pem).unwrap()])))
    }
}

#[async_trait]
impl Gate for Signed {
    async fn admit(&self, registry: &Client, subject: &Subject<'_>) -> Result<(), Failure> {
        let http = cocoon_http::Client::new(cocoon_http::Options::default()).unwrap();
        cocoon_signatures::check(registry, &http, &Places::default(), subject, &self.0, 1_800_000_000)
            .await?;
        Ok(())
    }
}

pub fn client() -> Client {
    let options = cocoon_http::Options { idle_timeout: Duration::from_millis(300), ..Default::default() };
    let retry = Retry { attempts: 3, pause: Duration::from_millis(1), ..Retry::default() };
    Client::new(cocoon_http::Client::new(options).unwrap(), Auth::anonymous()).with_retry(retry)
}

/// Waits long for a silent registry.
pub fn patient() -> Client {
    let http = cocoon_http::Client::new(cocoon_http::Options::default()).unwrap();
    Client::new(http, Auth::anonymous())
}

pub fn silent() -> OnProgress {
    Arc::new(|_| {})
}

pub fn request(name: &str, digest: Digest) -> PullRequest {
    PullRequest {
        platform: Platform::linux("amd64"),
        ..PullRequest::new(Reference::parse(name).unwrap(), digest)
    }
}

/// A store and its folder.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub store: Arc<Store>,
}

impl Place {
    pub fn new() -> Place {
        Place::with(BUDGET)
    }

    pub fn with(budget: u64) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images"), budget).unwrap();
        Place { dir, store }
    }

    /// Names in the store's folder of layers.
    pub fn names(&self) -> Vec<String> {
        let layers = std::fs::read_dir(self.dir.path().join("images/layers")).unwrap();
        let mut names: Vec<_> = layers.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub async fn pull(&self, request: PullRequest) -> Result<Pulled, Failure> {
        self.pull_with(request, Keys(Some(KEK))).await
    }

    pub async fn pull_with(&self, request: PullRequest, keys: Keys) -> Result<Pulled, Failure> {
        self.store.pull(request, &client(), &keys, silent()).await.map_err(Failure::from)
    }

    /// A pull that must fail with this code and leave nothing behind that was not there.
    pub async fn refused(&self, request: PullRequest, keys: Keys, code: Code) -> Failure {
        self.store.collect();
        let (before, used) = (self.names(), self.store.used_bytes());
        let failure = self.pull_with(request, keys).await.unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
        // Other layers of the image may have been complete.
        self.store.collect();
        assert_eq!(self.names(), before, "nothing is left behind");
        assert_eq!(self.store.used_bytes(), used, "what was reserved is returned");
        failure
    }
}

/// The layers as a container sees them: mounted with overlayfs, for as long as this lives.
pub struct Rootfs {
    at: tempfile::TempDir,
}

impl Rootfs {
    /// `None`, and a word on the terminal, where this cannot be done here.
    pub fn mount(layers: &[Layer]) -> Option<Rootfs> {
        let at = tempfile::tempdir().unwrap();
        for name in ["view", "empty"] {
            std::fs::create_dir(at.path().join(name)).unwrap();
        }
        // Through descriptors, as paths of many layers do not fit into a page.
        let mut open: Vec<_> = layers.iter().map(|l| std::fs::File::open(l.path()).unwrap()).collect();
        open.insert(0, std::fs::File::open(at.path().join("empty")).unwrap());
        let lower: Vec<_> = open
            .iter()
            .rev()
            .map(|f| format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(f)))
            .collect();
        let data = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
        let flags = rustix::mount::MountFlags::RDONLY;
        match rustix::mount::mount("overlay", at.path().join("view"), "overlay", flags, &*data) {
            Ok(()) => Some(Rootfs { at }),
            Err(e) => {
                println!("skipped: no overlay can be mounted: {e}");
                None
            }
        }
    }

    pub fn path(&self) -> PathBuf {
        self.at.path().join("view")
    }

    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path().join(path)
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH);
    }
}
