//! Volumes of files: their content goes to the guest before the container that mounts them is made, and again whenever it
//! changes on this host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cocoon_protocol::HashAlgorithm;
use cocoon_sandbox::Pod;
use cocoon_sandbox_api::sandbox::{File, PutFilesRequest};
use cocoon_stage::{Code, Failure, Stage};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::mounts::Part;
use crate::tree::{self, Content};
use crate::watch::Watch;

/// Bytes of content in one request; a message has at most 4 MiB.
const MESSAGE: usize = 1 << 20;
/// Files in one request.
const FILES: usize = 512;
/// How long the guest may take for one request.
const LIMIT: Duration = Duration::from_secs(60);

/// The pod's volumes of files.
#[derive(Default)]
pub struct Volumes(Mutex<BTreeMap<String, Arc<Volume>>>);

struct Volume {
    name: String,
    state: Mutex<State>,
    watcher: std::sync::Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    parts: BTreeMap<String, PathBuf>,
    generation: u64,
    /// The fingerprint of what the guest has.
    given: Option<Vec<u8>>,
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Ok(Some(watcher)) = self.watcher.get_mut().map(Option::take) {
            watcher.abort();
        }
    }
}

impl Volumes {
    /// Hands the parts over and keeps them up to date from now on.
    ///
    /// # Errors
    /// What cannot be read, and the guest's refusal.
    pub async fn give(&self, pod: &Arc<Pod>, parts: &[Part]) -> Result<(), Failure> {
        let mut touched = BTreeMap::new();
        for part in parts {
            let volume = {
                let mut known = self.0.lock().await;
                let made = || Arc::new(Volume::new(&part.volume));
                known.entry(part.volume.clone()).or_insert_with(made).clone()
            };
            volume.state.lock().await.parts.insert(part.sub_path.clone(), part.source.clone());
            touched.insert(part.volume.clone(), volume);
        }
        for volume in touched.into_values() {
            // First the watch, so that nothing that changes meanwhile is missed.
            let watch = volume.watch().await;
            volume.push(pod).await?;
            if let Some(watch) = watch {
                let follow = follow(watch, Arc::downgrade(&volume), Arc::downgrade(pod));
                let watcher = tokio::spawn(follow);
                let before = volume.watcher.lock().map(|mut place| place.replace(watcher));
                if let Ok(Some(before)) = before {
                    before.abort();
                }
            }
        }
        Ok(())
    }
}

/// Pushes again after each change, until volume or pod are gone.
async fn follow(mut watch: Watch, volume: Weak<Volume>, pod: Weak<Pod>) {
    while watch.changed().await.is_ok() {
        let (Some(volume), Some(pod)) = (volume.upgrade(), pod.upgrade()) else { return };
        if pod.has_ended() {
            return;
        }
        // What is new below must be watched as well.
        if let Some(anew) = volume.watch().await {
            watch = anew;
        }
        if let Err(failure) = volume.push(&pod).await {
            // The guest keeps what it has.
            tracing::warn!(volume = volume.name, reason = %crate::error::sentence(&failure), "a volume is not renewed");
        }
    }
}

impl Volume {
    fn new(name: &str) -> Volume {
        Volume { name: name.into(), state: Mutex::default(), watcher: std::sync::Mutex::default() }
    }

    /// `None` where the kernel has no watches left: the content then stays as it is.
    async fn watch(&self) -> Option<Watch> {
        let state = self.state.lock().await;
        let watch = Watch::over(state.parts.values());
        watch.inspect_err(|error| tracing::warn!(volume = self.name, %error, "a volume is not watched")).ok()
    }

    /// Sends the content, where it is not what the guest has.
    async fn push(&self, pod: &Pod) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        let (name, parts) = (self.name.clone(), state.parts.clone());
        let read = tokio::task::spawn_blocking(move || tree::read(&name, &parts)).await;
        let lost =
            |_| Failure::new(Code::Internal, "reading a volume ended without a result").at(Stage::Start);
        let content = read.map_err(lost)??;
        let print = fingerprint(&content);
        if state.given.as_ref() == Some(&print) {
            return Ok(());
        }
        state.generation += 1;
        for request in requests(&self.name, state.generation, &content) {
            let limit = ttrpc::context::with_duration(LIMIT);
            let put = pod.sandbox().put_files(limit, &request).await;
            put.map_err(|e| pod.failure_of(&e, Stage::Start))?;
        }
        state.given = Some(print);
        Ok(())
    }
}

/// By which a content is known again.
fn fingerprint(content: &Content) -> Vec<u8> {
    let mut text = Vec::new();
    for (path, entry) in content {
        let digest = HashAlgorithm::Sha256.digest(&entry.data);
        text.extend_from_slice(path.as_bytes());
        text.extend_from_slice(format!("\0{} {} {}\0", entry.mode, entry.uid, entry.gid).as_bytes());
        text.extend_from_slice(&digest);
    }
    HashAlgorithm::Sha256.digest(&text)
}

/// A generation as requests, each of bounded size; the last one completes it.
fn requests(volume: &str, generation: u64, content: &Content) -> Vec<PutFilesRequest> {
    let new = || PutFilesRequest { volume: volume.into(), generation, ..PutFilesRequest::default() };
    let (mut requests, mut current, mut bytes) = (Vec::new(), new(), 0);
    for (path, entry) in content {
        let mut offset = 0;
        let mut rest = entry.data.as_slice();
        loop {
            if bytes >= MESSAGE || current.files.len() >= FILES {
                requests.push(std::mem::replace(&mut current, new()));
                bytes = 0;
            }
            let (piece, after) = rest.split_at(rest.len().min(MESSAGE - bytes));
            current.files.push(File {
                path: path.clone(),
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
                offset,
                data: piece.to_vec(),
                ..File::default()
            });
            // The path counts too, and what it is wrapped in.
            bytes = bytes.saturating_add(piece.len() + path.len() + 64);
            offset += u64::try_from(piece.len()).unwrap_or_default();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    }
    current.commit = true;
    requests.push(current);
    requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Entry;
    use protobuf::Message;

    #[test]
    fn a_generation_is_cut_into_messages_and_put_together_again() {
        let entry = |bytes: usize| Entry { mode: 0o644, uid: 1, gid: 2, data: vec![7; bytes] };
        let mut content: Content = (0..600).map(|n| (format!("dir/{n:04}"), entry(n % 3))).collect();
        content.insert("large".into(), entry((5 << 20) / 2));
        content.insert("more".into(), entry(3 << 19));
        let requests = requests("v", 9, &content);
        let (last, others) = requests.split_last().unwrap();
        assert!(last.commit && others.iter().all(|r| !r.commit));
        assert!(requests.iter().all(|r| r.generation == 9 && r.volume == "v"));
        assert!(requests.iter().all(|r| r.compute_size() < 2 << 20));
        let mut seen = Content::new();
        for file in requests.iter().flat_map(|r| &r.files) {
            let entry = seen.entry(file.path.clone()).or_insert_with(|| entry(0));
            assert_eq!(file.offset, entry.data.len() as u64, "pieces come in order");
            entry.data.extend_from_slice(&file.data);
        }
        assert_eq!(seen, content);
    }

    #[test]
    fn an_empty_volume_is_one_request() {
        let requests = requests("v", 1, &Content::new());
        assert!(requests.len() == 1 && requests[0].commit && requests[0].files.is_empty());
    }
}
