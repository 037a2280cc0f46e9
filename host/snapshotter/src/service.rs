//! containerd's snapshot service over the store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use cocoon_grpc::{Code, Limits, Server, Sink, Status};
use protobuf::well_known_types::empty::Empty;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{EnumOrUnknown, MessageField};

use crate::api::snapshots as api;
use crate::filter::Filter;
use crate::record::Time;
use crate::store::{Labels, REFERENCE};
use crate::{Accounts, Error, ImageUsers, Kind, Snapshot, Store};

/// How keys begin under which containerd unpacks a layer.
const UNPACKING: &str = "extract-";
/// Snapshots in one message of a list.
const PAGE: usize = 100;
/// Most filters of a list.
const MAX_FILTERS: usize = 64;

/// The service.
#[derive(Clone, Debug)]
pub struct Snapshotter {
    store: Arc<Store>,
    users: Option<ImageUsers>,
}

/// A server of the service, ready to be started.
pub fn server(snapshotter: Snapshotter, limits: Limits) -> Server {
    macro_rules! method {
        ($method:ident) => {{
            let snapshotter = snapshotter.clone();
            move |_, request| {
                let snapshotter = snapshotter.clone();
                async move { snapshotter.$method(request).await }
            }
        }};
    }
    let listing = snapshotter.clone();
    Server::new(limits)
        .unary("/containerd.services.snapshots.v1.Snapshots/Prepare", method!(prepare))
        .unary("/containerd.services.snapshots.v1.Snapshots/View", method!(view))
        .unary("/containerd.services.snapshots.v1.Snapshots/Mounts", method!(mounts))
        .unary("/containerd.services.snapshots.v1.Snapshots/Commit", method!(commit))
        .unary("/containerd.services.snapshots.v1.Snapshots/Remove", method!(remove))
        .unary("/containerd.services.snapshots.v1.Snapshots/Stat", method!(stat))
        .unary("/containerd.services.snapshots.v1.Snapshots/Update", method!(update))
        .unary("/containerd.services.snapshots.v1.Snapshots/Usage", method!(usage))
        .unary("/containerd.services.snapshots.v1.Snapshots/Cleanup", method!(cleanup))
        .streaming("/containerd.services.snapshots.v1.Snapshots/List", move |_, request, sink| {
            let snapshotter = listing.clone();
            async move { snapshotter.list(request, sink).await }
        })
}

impl Snapshotter {
    /// Over a store; with a containerd to ask for images' users, if there is one.
    pub fn new(store: Store, users: Option<ImageUsers>) -> Self {
        Snapshotter { store: Arc::new(store), users }
    }

    /// Runs what waits for disks on a thread that may. It runs to its end even if the caller leaves.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        Ok(done.map_err(|e| Status::new(Code::Internal, e.to_string()))??)
    }

    async fn prepare(
        &self,
        request: api::PrepareSnapshotRequest,
    ) -> Result<api::PrepareSnapshotResponse, Status> {
        let labels = labels(request.labels)?;
        if let Some(reference) = labels.get(REFERENCE).filter(|_| is_unpacking(&request.key)).cloned() {
            let parent = request.parent;
            let made = self.run(move |store| store.adopt(&reference, &parent, labels)).await?;
            // To containerd this means: somebody else provides the layer.
            return Err(Error::AlreadyExists(made.name).into());
        }
        let mounts =
            self.create(Kind::Active, request.snapshotter, request.key, request.parent, labels).await?;
        Ok(api::PrepareSnapshotResponse { mounts, ..Default::default() })
    }

    async fn view(&self, request: api::ViewSnapshotRequest) -> Result<api::ViewSnapshotResponse, Status> {
        let labels = labels(request.labels)?;
        let mounts =
            self.create(Kind::View, request.snapshotter, request.key, request.parent, labels).await?;
        Ok(api::ViewSnapshotResponse { mounts, ..Default::default() })
    }

    async fn create(
        &self,
        kind: Kind,
        snapshotter: String,
        key: String,
        parent: String,
        labels: Labels,
    ) -> Result<Vec<api::Mount>, Status> {
        let accounts = self.accounts(&snapshotter, &key, &parent).await;
        self.run(move |store| {
            store.create(kind, &key, &parent, labels, accounts.as_ref())?;
            let (snapshot, path, _) = store.room(&key)?;
            Ok(vec![bind(&path, snapshot.kind)])
        })
        .await
    }

    async fn mounts(&self, request: api::MountsRequest) -> Result<api::MountsResponse, Status> {
        let key = request.key.clone();
        let (snapshot, path, furnished) = self.run(move |store| store.room(&key)).await?;
        if !furnished {
            // containerd could not be asked when it was made.
            if let Some(accounts) = self.accounts(&request.snapshotter, &request.key, &snapshot.parent).await
            {
                let furnish = self.run(move |store| store.furnish(&request.key, &accounts)).await;
                if let Err(error) = furnish {
                    tracing::warn!(%error, "a container's accounts cannot be written");
                }
            }
        }
        Ok(api::MountsResponse { mounts: vec![bind(&path, snapshot.kind)], ..Default::default() })
    }

    async fn commit(&self, request: api::CommitSnapshotRequest) -> Result<Empty, Status> {
        let labels = labels(request.labels)?;
        self.run(move |store| store.commit(&request.key, &request.name, labels)).await?;
        Ok(Empty::new())
    }

    async fn remove(&self, request: api::RemoveSnapshotRequest) -> Result<Empty, Status> {
        self.run(move |store| store.remove(&request.key)).await?;
        Ok(Empty::new())
    }

    async fn stat(&self, request: api::StatSnapshotRequest) -> Result<api::StatSnapshotResponse, Status> {
        let info = MessageField::some(info(self.store.get(&request.key)?));
        Ok(api::StatSnapshotResponse { info, ..Default::default() })
    }

    async fn update(
        &self,
        request: api::UpdateSnapshotRequest,
    ) -> Result<api::UpdateSnapshotResponse, Status> {
        let wanted = request.info.unwrap_or_default();
        let labels = labels(wanted.labels)?;
        let mut only = Vec::new();
        let mut all = request.update_mask.paths.is_empty();
        for path in &request.update_mask.paths {
            match path.strip_prefix("labels.") {
                Some(name) => only.push(name.to_owned()),
                None if path == "labels" => all = true,
                None => return Err(Error::Invalid(format!("{path} of a snapshot cannot be changed")).into()),
            }
        }
        let changed = self
            .run(move |store| store.relabel(&wanted.name, labels, Some(&only[..]).filter(|_| !all)))
            .await?;
        Ok(api::UpdateSnapshotResponse { info: MessageField::some(info(changed)), ..Default::default() })
    }

    async fn usage(&self, request: api::UsageRequest) -> Result<api::UsageResponse, Status> {
        let used = self.run(move |store| store.used(&request.key)).await?;
        Ok(api::UsageResponse { size: used.bytes, inodes: used.inodes, ..Default::default() })
    }

    async fn cleanup(&self, _: api::CleanupRequest) -> Result<Empty, Status> {
        self.run(Store::clean).await?;
        Ok(Empty::new())
    }

    async fn list(
        &self,
        request: api::ListSnapshotsRequest,
        sink: Sink<api::ListSnapshotsResponse>,
    ) -> Result<(), Status> {
        if request.filters.len() > MAX_FILTERS {
            return Err(Error::Invalid(format!("at most {MAX_FILTERS} filters")).into());
        }
        let filters = request.filters.iter().map(|f| Filter::parse(f)).collect::<Result<Vec<_>, _>>()?;
        let found = self.store.list(|s| filters.is_empty() || filters.iter().any(|f| f.holds(s)));
        let mut found = found.into_iter().map(info);
        loop {
            let page: Vec<_> = found.by_ref().take(PAGE).collect();
            if page.is_empty() {
                return Ok(());
            }
            sink.send(&api::ListSnapshotsResponse { info: page, ..Default::default() }).await?;
        }
    }

    /// The accounts for a container's look-ups: `None` where it is none, or where nobody knows.
    async fn accounts(&self, snapshotter: &str, key: &str, parent: &str) -> Option<Accounts> {
        let users = self.users.as_ref().filter(|_| !parent.is_empty() && !is_unpacking(key))?;
        let (namespace, _) = names(key)?;
        let chain = match self.store.get(parent).ok()?.labels.get(REFERENCE) {
            Some(reference) => reference.clone(),
            None => names(parent)?.1.to_owned(),
        };
        match users.of(namespace, snapshotter, &chain).await {
            Ok(accounts) => Some(accounts),
            Err(error) => {
                tracing::warn!(key, %error, "containerd does not say which user a container's image names");
                None
            }
        }
    }
}

/// containerd's namespace and its own name for what it calls `namespace/number/name` here.
fn names(key: &str) -> Option<(&str, &str)> {
    let mut parts = key.splitn(3, '/');
    let (namespace, number, name) = (parts.next()?, parts.next()?, parts.next()?);
    number.bytes().all(|b| b.is_ascii_digit()).then_some((namespace, name))
}

fn is_unpacking(key: &str) -> bool {
    names(key).map_or(key, |(_, name)| name).starts_with(UNPACKING)
}

fn bind(path: &Path, kind: Kind) -> api::Mount {
    let access = if kind == Kind::View { "ro" } else { "rw" };
    api::Mount {
        type_: "bind".into(),
        source: path.to_string_lossy().into_owned(),
        options: vec![access.into(), "rbind".into()],
        ..Default::default()
    }
}

fn labels(labels: HashMap<String, String>) -> Result<Labels, Status> {
    if labels.len() > 1024 {
        return Err(Error::Invalid("too many labels".into()).into());
    }
    Ok(labels.into_iter().collect())
}

fn info(snapshot: Snapshot) -> api::Info {
    let time = |Time(seconds, nanos)| MessageField::some(Timestamp { seconds, nanos, ..Default::default() });
    let kind = match snapshot.kind {
        Kind::View => api::Kind::VIEW,
        Kind::Active => api::Kind::ACTIVE,
        Kind::Committed => api::Kind::COMMITTED,
    };
    api::Info {
        name: snapshot.name,
        parent: snapshot.parent,
        kind: EnumOrUnknown::new(kind),
        created_at: time(snapshot.created),
        updated_at: time(snapshot.updated),
        labels: snapshot.labels.into_iter().collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerds_keys_are_taken_apart() {
        assert_eq!(names("k8s.io/12/extract-1-ab sha256:aa"), Some(("k8s.io", "extract-1-ab sha256:aa")));
        assert_eq!(names("default/3/a/b"), Some(("default", "a/b")));
        for other in ["", "a", "a/b", "a/b/c", "sha256:aa"] {
            assert_eq!(names(other), None, "{other}");
        }
        assert!(is_unpacking("k8s.io/12/extract-1-ab sha256:aa") && is_unpacking("extract-1"));
        assert!(!is_unpacking("extract-/12/x") && !is_unpacking("k8s.io/12/web"));
    }
}
