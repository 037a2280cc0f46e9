//! Secrets that resources name, each watched by its name: others are never asked for.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt, reflector::ObjectRef};
use kube::{Api, Client};
use tokio::task::AbortHandle;
use tracing::warn;

use crate::Error;
use crate::watch::Ticks;

/// How long the first answer may take.
const FIRST: Duration = Duration::from_secs(10);

/// A namespace and a name in it.
pub type Key = (String, String);

/// The watches. A tick comes where one of these Secrets is made, changed or removed.
pub struct NamedSecrets {
    client: Client,
    ticks: Arc<Ticks>,
    watches: Mutex<HashMap<Key, Watch>>,
}

struct Watch {
    store: Store<Secret>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NamedSecrets {
    /// Nothing is watched yet.
    pub fn new(client: Client, ticks: Arc<Ticks>) -> Self {
        NamedSecrets { client, ticks, watches: Mutex::default() }
    }

    /// The Secret as it is now, if there is one. From the first call on it is watched.
    ///
    /// # Errors
    /// Where the API server does not say.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, Error> {
        let store = {
            let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (namespace.to_owned(), name.to_owned());
            watches.entry(key).or_insert_with(|| self.watch(namespace, name)).store.clone()
        };
        match tokio::time::timeout(FIRST, store.wait_until_ready()).await {
            Ok(Ok(())) => Ok(store.get(&ObjectRef::new(name).within(namespace))),
            _ => Err(Error::Own(format!("Secret {name} cannot be read"))),
        }
    }

    /// Ends watches of Secrets that nobody names any more.
    pub fn keep_only(&self, named: &HashSet<Key>) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| named.contains(key));
    }

    fn watch(&self, namespace: &str, name: &str) -> Watch {
        let (store, writer) = reflector::store();
        let ticks = self.ticks.clone();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let stream = watcher(api, config).default_backoff().modify(|secret: &mut Secret| {
            secret.metadata.managed_fields = None;
        });
        let what = format!("{namespace}/{name}");
        let task = tokio::spawn(async move {
            let mut stream = std::pin::pin!(reflector::reflector(writer, stream));
            while let Some(event) = stream.next().await {
                match event {
                    Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                    Ok(_) => ticks.tick(),
                    Err(e) => warn!(secret = what, "watching it: {e}"),
                }
            }
        });
        Watch { store, task: task.abort_handle() }
    }
}
