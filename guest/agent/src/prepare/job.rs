//! The work of a preparation, and the making of one root file system.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use cocoon_plan::{ContainerPlan, Plan};
use cocoon_stage::{Code, Failure, Stage};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::again::{Again, Senders, is_passing};
use super::{Backend, Documents, Images, Progress, Secrets, Sender, Slot, settled};
use crate::container::SecretFile;
use crate::events::Events;

pub(super) struct Job {
    pub(super) plan: Plan,
    pub(super) folder: PathBuf,
    pub(super) events: Events,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) found: watch::Sender<Option<Backend>>,
    /// Gone with those who could ask.
    pub(super) again: Weak<Again>,
}

impl Job {
    pub(super) async fn run(
        self,
        backend: impl Future<Output = Result<Backend, Failure>>,
        files: Sender<Arc<Vec<SecretFile>>>,
        images: Vec<(ContainerPlan, Sender<PathBuf>)>,
        (documents, documents_seen): (Sender<Documents>, Option<Slot<Documents>>),
    ) {
        let backend = match backend.await {
            Ok(backend) => backend,
            Err(failure) => {
                self.events.begin(failure.stage, "");
                self.events.fail(&failure, "");
                self.fail(&failure);
                files.send_replace(Some(Err(failure)));
                return;
            }
        };
        self.found.send_replace(Some(backend.clone()));
        let mut pulls = JoinSet::new();
        for (container, sender) in images {
            let pull = Pull {
                images: Arc::clone(&backend.images),
                documents: documents_seen.clone(),
                rootfs: self.folder.join(&container.name),
                events: self.events.clone(),
                container,
            };
            pulls.spawn(async move {
                let result = pull.run().await;
                sender.send_replace(Some(result.clone()));
                result.map(|_| ())
            });
        }
        let mut senders = Senders { files, documents };
        let mut tried_again = false;
        let refused = loop {
            let fetched = self.secrets(Arc::clone(&backend.secrets), &senders.documents).await;
            let failed = fetched.as_ref().err().cloned();
            if let Some(failure) = &failed {
                self.fail(failure);
            }
            // First the answer, then the end of the pulls: a container that waits must hear the reason, not the end.
            senders.files.send_replace(Some(fetched.map(Arc::new)));
            match failed {
                Some(failure) if is_passing(&failure) => {
                    let Some(asked) = self.again.upgrade().map(|again| again.put(senders)) else { return };
                    let Ok(back) = asked.await else { return };
                    (senders, tried_again) = (back, true);
                }
                failed => break failed.is_some(),
            }
            self.progress.send_if_modified(|p| {
                let over = matches!(p, Progress::Failed(f) if is_passing(f));
                if over {
                    *p = Progress::Started;
                }
                over
            });
        };
        if refused {
            // A workload without its secrets never starts: nothing more is pulled for it.
            pulls.abort_all();
        }
        while let Some(done) = pulls.join_next().await {
            // What failed for want of Trustee is made anew when it is asked for.
            if let Ok(Err(failure)) = done
                && !(tried_again && is_passing(&failure))
            {
                self.fail(&failure);
            }
        }
        self.progress.send_if_modified(|p| {
            let ready = !matches!(p, Progress::Failed(_));
            if ready {
                *p = Progress::Ready;
            }
            ready
        });
    }

    fn fail(&self, failure: &Failure) {
        self.progress.send_if_modified(|p| {
            let first = !matches!(p, Progress::Failed(_));
            if first {
                *p = Progress::Failed(failure.clone());
            }
            first
        });
    }

    async fn secrets(
        &self,
        trustee: Arc<dyn Secrets>,
        documents: &Sender<Documents>,
    ) -> Result<Vec<SecretFile>, Failure> {
        self.events.begin(Stage::Attest, "");
        let attested = trustee.attest().await;
        self.events.finish(Stage::Attest, "", &attested);
        if let Err(failure) = attested {
            documents.send_replace(Some(Err(failure.clone())));
            return Err(failure);
        }
        self.progress.send_if_modified(|p| {
            let started = *p == Progress::Started;
            if started {
                *p = Progress::Attested;
            }
            started
        });
        self.events.begin(Stage::Fetch, "");
        let fetched = self.fetch(&trustee, documents).await;
        self.events.finish(Stage::Fetch, "", &fetched);
        let files = fetched?;
        // Before any container starts, so that none finds the port taken or closed.
        let paths = self.plan.secrets.iter().map(|s| path_of(&s.uri)).collect();
        trustee.serve_rest(paths, self.plan.attestation_api).await?;
        Ok(files)
    }

    async fn fetch(
        &self,
        trustee: &Arc<dyn Secrets>,
        documents: &Sender<Documents>,
    ) -> Result<Vec<SecretFile>, Failure> {
        let mut fetches = JoinSet::new();
        for (number, secret) in self.plan.secrets.iter().enumerate() {
            let (trustee, secret) = (Arc::clone(trustee), secret.clone());
            fetches.spawn(async move { (number, secret.file, trustee.resource(&secret.uri).await) });
        }
        let result = self.documents(trustee).await;
        documents.send_replace(Some(result.clone()));
        result?;
        let mut files = BTreeMap::new();
        while let Some(done) = fetches.join_next().await {
            let lost = |_| Failure::new(Code::Internal, "a fetch ended without a result").at(Stage::Fetch);
            let (number, file, bytes) = done.map_err(lost)?;
            let bytes = bytes?;
            // A secret without a file is fetched all the same: a workload that cannot have it must not start.
            if let Some(path) = file {
                files.insert(number, SecretFile { path, bytes });
            }
        }
        Ok(files.into_values().collect())
    }

    async fn documents(&self, trustee: &Arc<dyn Secrets>) -> Result<Documents, Failure> {
        let fetch = async |uri: &Option<String>| match uri {
            Some(uri) => trustee.resource(uri).await.map(Some),
            None => Ok(None),
        };
        Ok(Documents {
            auth: fetch(&self.plan.registry_auth).await?,
            policy: fetch(&self.plan.images.policy_uri).await?,
        })
    }
}

pub(super) struct Pull {
    pub(super) images: Arc<dyn Images>,
    /// Where credentials and policy will appear, if the plan names any.
    pub(super) documents: Option<Slot<Documents>>,
    pub(super) rootfs: PathBuf,
    pub(super) events: Events,
    pub(super) container: ContainerPlan,
}

impl Pull {
    pub(super) async fn run(self) -> Result<PathBuf, Failure> {
        let documents = match self.documents {
            Some(slot) => settled(slot).await?,
            None => Documents::default(),
        };
        let name = &self.container.name;
        self.events.begin(Stage::Pull, name);
        let pulled = self.images.deliver(&self.container, &self.rootfs, documents).await;
        self.events.finish(Stage::Pull, name, &pulled);
        pulled.map(|()| self.rootfs)
    }
}

/// `repository/type/tag` of a resource URI; the plan's check has made sure that it is one.
fn path_of(uri: &str) -> String {
    uri.parse::<cocoon_protocol::uri::ResourceUri>().map(|u| u.path()).unwrap_or_default()
}
