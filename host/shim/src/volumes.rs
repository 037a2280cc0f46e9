//! Volumes of files: their content goes to the guest before the container that mounts them is made, and again whenever it
//! changes on this host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use cocoon_protocol::HashAlgorithm;
use cocoon_sandbox::Pod;
use cocoon_sandbox_api::sandbox::{File, PutFilesRequest};
use cocoon_stage::{Code, Failure, Stage};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::mounts::Part;
use crate::tree::{self, Content, Entry};
use crate::watch::Watches;

/// Bytes of content in one request; a message has at most 4 MiB.
const MESSAGE: usize = 1 << 20;
/// Files in one request.
const FILES: usize = 512;
/// How long the guest may take for one request.
const LIMIT: Duration = Duration::from_secs(60);

/// For how long further changes are waited for after the first: who writes a volume writes several files.
const CALM: Duration = Duration::from_secs(1);

/// The pod's volumes of files.
#[derive(Default)]
pub struct Volumes {
    known: Arc<Known>,
    follower: std::sync::Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Known {
    volumes: Mutex<BTreeMap<String, Arc<Volume>>>,
    /// `None` inside: the kernel has no instance left.
    watches: OnceLock<Option<Watches>>,
}

struct Volume {
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parts: BTreeMap<String, PathBuf>,
    generation: u64,
    /// The fingerprint of what the guest has.
    given: Option<Vec<u8>>,
}

impl Drop for Volumes {
    fn drop(&mut self) {
        if let Ok(Some(follower)) = self.follower.get_mut().map(Option::take) {
            follower.abort();
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
                let mut known = self.known.volumes.lock().await;
                let made = || Arc::new(Volume { name: part.volume.clone(), state: Mutex::default() });
                known.entry(part.volume.clone()).or_insert_with(made).clone()
            };
            volume.state.lock().await.parts.insert(part.sub_path.clone(), part.source.clone());
            touched.insert(part.volume.clone(), volume);
        }
        if touched.is_empty() {
            return Ok(());
        }
        for volume in touched.into_values() {
            // First the watch, so that nothing that changes meanwhile is missed.
            self.known.watch(&volume).await;
            volume.push(pod).await?;
        }
        if let Ok(mut follower) = self.follower.lock()
            && follower.is_none()
        {
            *follower = Some(tokio::spawn(follow(self.known.clone(), Arc::downgrade(pod))));
        }
        Ok(())
    }
}

/// Pushes again after each change, until the pod is gone.
async fn follow(known: Arc<Known>, pod: Weak<Pod>) {
    let Some(watches) = known.watches() else { return };
    while let Ok(changed) = calm(watches).await {
        let Some(pod) = pod.upgrade().filter(|pod| !pod.has_ended()) else { return };
        for name in changed {
            let Some(volume) = known.volumes.lock().await.get(&name).cloned() else { continue };
            // What is new below must be watched as well.
            known.watch(&volume).await;
            if let Err(failure) = volume.push(&pod).await {
                // The guest keeps what it has.
                tracing::warn!(volume = volume.name, reason = %crate::error::sentence(&failure), "a volume is not renewed");
            }
        }
    }
}

/// What has changed, with all that changes shortly after.
async fn calm(watches: &Watches) -> std::io::Result<BTreeSet<String>> {
    let mut changed = watches.changed().await?;
    let calm = tokio::time::sleep(CALM);
    tokio::pin!(calm);
    loop {
        tokio::select! {
            () = &mut calm => return Ok(changed),
            more = watches.changed() => changed.extend(more?),
        }
    }
}

impl Known {
    fn watches(&self) -> Option<&Watches> {
        let made = || Watches::new().inspect_err(|error| tracing::warn!(%error, "no volume is watched")).ok();
        self.watches.get_or_init(made).as_ref()
    }

    /// Where the kernel has no watches left, the content stays as it is.
    async fn watch(&self, volume: &Volume) {
        let Some(watches) = self.watches() else { return };
        let state = volume.state.lock().await;
        if let Err(error) = watches.set(&volume.name, state.parts.values()) {
            tracing::warn!(volume = volume.name, %error, "a volume is not watched");
        }
    }
}

impl Volume {
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
        for request in Requests::new(&self.name, state.generation, content) {
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

/// A generation as requests, each of bounded size; the last one completes it. Made one after the other, and what has been
/// passed on is let go: a large volume is in memory once.
struct Requests {
    volume: String,
    generation: u64,
    files: std::collections::btree_map::IntoIter<String, Entry>,
    /// A file of which so much is passed on.
    begun: Option<(String, Entry, usize)>,
    complete: bool,
}

impl Requests {
    fn new(volume: &str, generation: u64, content: Content) -> Requests {
        Requests {
            volume: volume.into(),
            generation,
            files: content.into_iter(),
            begun: None,
            complete: false,
        }
    }
}

impl Iterator for Requests {
    type Item = PutFilesRequest;

    fn next(&mut self) -> Option<PutFilesRequest> {
        if self.complete {
            return None;
        }
        let (volume, generation) = (self.volume.clone(), self.generation);
        let mut request = PutFilesRequest { volume, generation, ..PutFilesRequest::default() };
        let mut bytes = 0;
        while bytes < MESSAGE && request.files.len() < FILES {
            let begun = self.begun.take();
            let next = begun.or_else(|| self.files.next().map(|(path, entry)| (path, entry, 0)));
            let Some((path, mut entry, done)) = next else {
                request.commit = true;
                self.complete = true;
                break;
            };
            let rest = entry.data.get(done..).unwrap_or_default();
            let (piece, after) = rest.split_at(rest.len().min(MESSAGE - bytes));
            let (length, more) = (piece.len(), !after.is_empty());
            let whole = done == 0 && !more;
            // The path counts too, and what it is wrapped in.
            bytes += length + path.len() + 64;
            request.files.push(File {
                path: path.clone(),
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
                offset: u64::try_from(done).unwrap_or_default(),
                data: if whole { std::mem::take(&mut entry.data) } else { piece.to_vec() },
                ..File::default()
            });
            if more {
                self.begun = Some((path, entry, done + length));
            }
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::Message;

    #[test]
    fn a_generation_is_cut_into_messages_and_put_together_again() {
        let entry = |bytes: usize| Entry { mode: 0o644, uid: 1, gid: 2, data: vec![7; bytes] };
        let mut content: Content = (0..600).map(|n| (format!("dir/{n:04}"), entry(n % 3))).collect();
        content.insert("large".into(), entry((5 << 20) / 2));
        content.insert("more".into(), entry(3 << 19));
        let requests: Vec<_> = Requests::new("v", 9, content.clone()).collect();
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
        let requests: Vec<_> = Requests::new("v", 1, Content::new()).collect();
        assert!(requests.len() == 1 && requests[0].commit && requests[0].files.is_empty());
    }
    #[tokio::test]
    async fn changes_that_follow_each_other_are_one() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let watches = Watches::new().unwrap();
        watches.set("a", [&dirs[0].path().to_owned()]).unwrap();
        watches.set("b", [&dirs[1].path().to_owned()]).unwrap();
        std::fs::write(dirs[0].path().join("1"), "x").unwrap();
        let late = async {
            tokio::time::sleep(CALM / 4).await;
            std::fs::write(dirs[1].path().join("2"), "x").unwrap();
        };
        let (changed, ()) = tokio::join!(calm(&watches), late);
        assert_eq!(changed.unwrap().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(tokio::time::timeout(CALM / 10, watches.changed()).await.is_err(), "all of them are taken");
    }
}
