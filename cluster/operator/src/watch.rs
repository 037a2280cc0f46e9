//! Caches of what controllers look at, each filled by one watch; and a tick when something that counts has changed.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::warn;

/// Ticks of all caches.
#[derive(Debug)]
pub struct Ticks {
    sender: watch::Sender<u64>,
}

impl Default for Ticks {
    fn default() -> Self {
        Ticks { sender: watch::Sender::new(0) }
    }
}

impl Ticks {
    /// Something has changed.
    pub fn tick(&self) {
        self.sender.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// A stream of ticks; those that come while one is looked at are one.
    pub fn stream(&self) -> impl Stream<Item = ()> + Send + 'static {
        futures::stream::unfold(self.sender.subscribe(), |mut receiver| async move {
            receiver.changed().await.ok()?;
            Some(((), receiver))
        })
    }
}

/// Watches, with `trim` on each object, and ticks where what is left of one differs. The task lives as long as the process; a
/// watch that breaks is begun again, later each time.
pub fn cache<K>(
    api: Api<K>,
    config: watcher::Config,
    ticks: &Ticks,
    trim: impl Fn(&mut K) + Send + 'static,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let sender = ticks.sender.clone();
    let stream = watcher(api, config).default_backoff().modify(move |object: &mut K| {
        object.managed_fields_mut().clear();
        trim(object);
    });
    tokio::spawn(async move {
        let mut seen = HashMap::new();
        let mut listed = HashMap::new();
        let mut stream = reflector::reflector(writer, stream).boxed();
        while let Some(event) = stream.next().await {
            let changed = match &event {
                Err(e) => {
                    warn!("watching {}: {e}", <K as Resource>::plural(&()));
                    false
                }
                Ok(Event::Init) => {
                    listed.clear();
                    false
                }
                Ok(Event::InitApply(object)) => {
                    listed.insert(object.uid(), print(object));
                    false
                }
                Ok(Event::InitDone) => {
                    let changed = listed != seen;
                    seen = std::mem::take(&mut listed);
                    changed
                }
                Ok(Event::Apply(object)) => {
                    let new = print(object);
                    seen.insert(object.uid(), new) != Some(new)
                }
                Ok(Event::Delete(object)) => {
                    seen.remove(&object.uid());
                    true
                }
            };
            if changed {
                sender.send_modify(|n| *n = n.wrapping_add(1));
            }
        }
    });
    store
}

/// A digest of what is left of an object.
fn print<K: Serialize>(object: &K) -> u64 {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(|m| m.as_object_mut()) {
        metadata.remove("resourceVersion");
    }
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}
