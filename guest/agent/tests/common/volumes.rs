//! Containers with volumes, on the same machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use cocoon_guest::container::{Container, HostPart, Parts, SecretFile, Streams};
use cocoon_guest::volumes::{Piece, Place, Volumes};
use cocoon_plan::ContainerPlan;
use cocoon_plan::pod::{VolumePlan, VolumeSource};
use cocoon_stage::Failure;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::Outcome;

/// A machine whose pod has volumes.
pub struct Machine {
    pub volumes: Volumes,
    /// Links that every image has: path below its root, and where it leads.
    pub links: Vec<(&'static str, &'static str)>,
    pub secrets: Vec<SecretFile>,
    /// Last, so that nothing is mounted below its folder any more when that goes.
    pub base: super::Machine,
}

pub fn volume(name: &str, source: VolumeSource) -> VolumePlan {
    VolumePlan { name: name.into(), source }
}

/// Has no keys.
struct Nobody;

#[async_trait::async_trait]
impl cocoon_guest::volumes::Keys for Nobody {
    async fn key(&self, uri: &str) -> Result<cocoon_guest::prepare::Secret, Failure> {
        Err(Failure::new(cocoon_stage::Code::FetchFailed, uri))
    }
}

impl Machine {
    pub fn new(sysctls: &[(&str, &str)]) -> Option<Self> {
        let base = super::Machine::with(false, sysctls)?;
        let digests =
            BTreeMap::from([("key".to_owned(), cocoon_image::Digest::sha256(b"pinned").to_string())]);
        let digest = |text: &[u8]| cocoon_image::Digest::sha256(text).to_string();
        let two = BTreeMap::from([("a".to_owned(), digest(b"A")), ("d/b".to_owned(), digest(b"B"))]);
        let plan = [
            volume("config", VolumeSource::Files { digests: None }),
            volume("two", VolumeSource::Files { digests: Some(two) }),
            volume("pinned", VolumeSource::Files { digests: Some(digests) }),
            volume("memory", VolumeSource::Memory { size: 1 << 20, gid: None }),
            volume("scratch", VolumeSource::Scratch { size: 0, gid: None }),
            volume("limited", VolumeSource::Scratch { size: 2 << 20, gid: None }),
            volume("memory-2000", VolumeSource::Memory { size: 1 << 20, gid: Some(2000) }),
            volume("scratch-2000", VolumeSource::Scratch { size: 0, gid: Some(2000) }),
            volume("limited-2000", VolumeSource::Scratch { size: 2 << 20, gid: Some(2000) }),
        ];
        let volumes =
            Volumes::new(base.dir.path().join("volumes"), &plan).patient(Duration::from_millis(300));
        Some(Machine { volumes, links: Vec::new(), secrets: Vec::new(), base })
    }

    pub fn image(&self, name: &str) -> PathBuf {
        let root = self.base.image(name);
        for (path, to) in &self.links {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            let _ = symlink(to, root.join(path));
        }
        root
    }

    pub fn put(&self, volume: &str, generation: u64, files: &[(&str, &str)]) -> Result<(), Failure> {
        let pieces: Vec<_> = files
            .iter()
            .map(|(path, text)| Piece { path, mode: 0o644, uid: 0, gid: 0, offset: 0, data: text.as_bytes() })
            .collect();
        self.volumes.put(volume, generation, &pieces, true)
    }

    pub async fn create(&self, plan: &ContainerPlan, streams: Streams) -> Result<Container, Failure> {
        let image = self.image(&plan.name);
        let space = async { Ok(Place { folder: self.base.dir.path().join("space"), memory: true }) };
        let mounts = self.volumes.prepare(&plan.name, plan, space, &Nobody).await?;
        let host = HostPart { id: plan.name.clone(), ..HostPart::default() };
        let parts = Parts { plan, rootfs: &image, host: &host, secrets: &self.secrets, mounts: &mounts };
        Ok(Container::create(&self.base.settings, &self.base.shared, parts, streams).await?)
    }

    pub async fn run(&self, plan: &ContainerPlan) -> Outcome {
        self.start(plan).await.finish().await
    }

    pub async fn start(&self, plan: &ContainerPlan) -> Running {
        let (out, near_out) = tokio::io::duplex(4096);
        let (err, near_err) = tokio::io::duplex(4096);
        let streams =
            Streams { stdin: None, stdout: Some(Box::new(near_out)), stderr: Some(Box::new(near_err)) };
        let container = self.create(plan, streams).await.unwrap();
        let running = Running { container, out, err };
        running.container.start().await.unwrap();
        running
    }

    /// Why a container does not come to be.
    pub async fn refused(&self, plan: &ContainerPlan) -> Failure {
        match self.create(plan, Streams::default()).await {
            Err(failure) => failure,
            Ok(container) => {
                container.destroy().await;
                panic!("{} came to be", plan.name);
            }
        }
    }
}

/// A container, which ends with this whatever becomes of its test.
pub struct Running {
    container: Container,
    pub out: tokio::io::DuplexStream,
    err: tokio::io::DuplexStream,
}

impl Running {
    pub async fn finish(mut self) -> Outcome {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let read = async {
            tokio::try_join!(self.out.read_to_string(&mut stdout), self.err.read_to_string(&mut stderr))
        };
        let read = tokio::time::timeout(Duration::from_secs(60), read).await;
        if read.is_err() {
            self.container.destroy().await;
            panic!("it goes on and on");
        }
        let exit = self.container.wait().await;
        self.container.destroy().await;
        Outcome { stdout, stderr, exit }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.container.exited().is_none() {
            let _ = self.container.signal(9);
        }
    }
}

pub fn plan(name: &str, script: &str, mounts: Value) -> ContainerPlan {
    ContainerPlan { mounts: serde_json::from_value(mounts).unwrap(), ..super::plan(name, script) }
}

pub fn mount(target: &str, volume: &str, sub_path: &str, read_only: bool) -> Value {
    json!({"kind": "volume", "target": target, "volume": volume, "sub_path": sub_path, "read_only": read_only})
}
