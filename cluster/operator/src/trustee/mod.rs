//! The controller of Trustee, and those of what a Trustee knows.

mod admin;
mod backup;
mod certificate;
mod entries;
mod objects;
mod own;
mod report;
mod run;
mod watched;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cocoon_cluster_api::{DeletionPolicy, MANAGER, Trustee, TrusteeSecret};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::apply::apply;
use crate::health::{Metrics, Of};
use crate::{Error, runtime::backoff};
use objects::{Inputs, Names};
use own::{Own, authorities, hex_random, random};
pub(crate) use watched::NamedSecrets;

pub use certificate::{Identity, is_due, new_authority, new_server, renewal, today};
pub use run::run;

/// How often days are counted; nothing is asked of the API server unless something is due.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The field manager of owner references that come and go.
const OWNER: &str = "cocoon-operator-owner";

/// What the controllers share.
pub struct Shared {
    /// The client.
    pub client: Client,
    /// The image where a Trustee names none.
    pub image: String,
    /// What is counted.
    pub metrics: Metrics,
    /// Failures in a row.
    pub failures: backoff::Failures,
    /// Secrets that resources name.
    pub secrets: NamedSecrets,
    /// All Trustees, by namespace.
    pub trustees: Vec<Store<Trustee>>,
    /// All resources that name Secrets.
    pub sources: Vec<Store<TrusteeSecret>>,
    /// Publishes Events.
    pub recorder: Recorder,
}

impl Shared {
    /// Ends watches of Secrets that nobody names any more.
    fn forget_secrets(&self) {
        let mut named = HashSet::new();
        for trustee in self.trustees.iter().flat_map(Store::state) {
            let (ns, names) = (trustee.namespace().unwrap_or_default(), Names::of(&trustee));
            let database = trustee.spec.state.postgres.as_ref().map(|p| p.url_from.name.clone());
            named.extend([names.admin, names.tls].into_iter().chain(database).map(|name| (ns.clone(), name)));
        }
        for source in self.sources.iter().flat_map(Store::state) {
            named.insert((source.namespace().unwrap_or_default(), source.spec.secret_name.clone()));
        }
        self.secrets.keep_only(&named);
    }
}

/// One pass over one Trustee.
///
/// # Errors
/// Of the API server; it is tried again later.
pub async fn reconcile(trustee: Arc<Trustee>, shared: Arc<Shared>) -> Result<Action, Error> {
    let of = Of { controller: "trustee" };
    shared.metrics.reconciled.get_or_create(&of).inc();
    let result = pass(&shared, &trustee).await;
    match &result {
        Ok(_) => shared.failures.succeeded(&key(&*trustee)),
        Err(_) => {
            shared.metrics.failed.get_or_create(&of).inc();
        }
    }
    result
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{}/{}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any())
}

/// When a failed pass is tried again.
pub fn again<K: Resource<DynamicType = ()>>(object: Arc<K>, error: &Error, shared: Arc<Shared>) -> Action {
    let after = shared.failures.failed(&key(&*object));
    tracing::warn!(object = key(&*object), seconds = after.as_secs(), "to be tried again: {error}");
    Action::requeue(after)
}

async fn pass(shared: &Shared, trustee: &Trustee) -> Result<Action, Error> {
    shared.forget_secrets();
    // What it owns goes with it.
    if trustee.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let ns = trustee.namespace().ok_or(Error::Nameless)?;
    let names = Names::of(trustee);
    let owner = trustee.controller_owner_ref(&()).ok_or(Error::Nameless)?;
    let owner = serde_json::to_value(&owner).unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), &ns);
    let own = Own { secrets: &secrets, trustee, owner: owner.clone() };

    own.once(&names.admin, true, || Ok([("token".to_owned(), hex_random()?)].into())).await?;
    let seal = own.once(&names.seal, false, || Ok([("key".to_owned(), random()?.to_vec())].into())).await?;
    let heir = (trustee.spec.deletion_policy == DeletionPolicy::Delete).then_some(&owner);
    bequeath(&secrets, &seal, heir).await?;
    // Another value of these takes a new process.
    let (mut inputs, mut database_ca) = (Sha256::new(), false);
    if let Some(postgres) = &trustee.spec.state.postgres {
        let from = &postgres.url_from;
        let found = shared.secrets.get(&ns, &from.name).await?;
        let Some(url) = found.as_ref().and_then(|s| s.data.as_ref()?.get(&from.key)) else {
            let message =
                format!("Secret {} has no entry {}, where the database's URL should be", from.name, from.key);
            return report::wait(shared, trustee, "DatabaseUnknown", message).await;
        };
        inputs.update(&url.0);
        if let Some(ca) = found.as_ref().and_then(|s| s.data.as_ref()?.get("ca.crt")) {
            inputs.update(&ca.0);
            database_ca = true;
        }
    }
    let bundle = match &trustee.spec.tls.secret_name {
        None => own.certificate(&names).await?,
        Some(name) => match shared.secrets.get(&ns, name).await?.and_then(|s| authorities(&s)) {
            Some(bundle) => bundle,
            None => {
                let message = format!(
                    "Secret {name} has no tls.crt; cert-manager, or whoever makes it, has not done so yet"
                );
                return report::wait(shared, trustee, "CertificateMissing", message).await;
            }
        },
    };
    if let Some(certificate) =
        secrets.get_opt(&names.tls).await?.and_then(|s| s.data?.get("tls.crt").map(|c| c.0.clone()))
    {
        inputs.update(certificate);
    }
    let image = trustee.spec.image.clone().unwrap_or_else(|| shared.image.clone());
    let inputs = Inputs { digest: hex::encode(inputs.finalize()), bundle, database_ca };
    for object in objects::objects(trustee, &owner, &image, &inputs) {
        let sent = match object.get("kind").and_then(Value::as_str).unwrap_or_default() {
            "ConfigMap" => keep::<ConfigMap>(shared, &ns, &object).await?,
            "Service" => keep::<Service>(shared, &ns, &object).await?,
            "PersistentVolumeClaim" => keep::<PersistentVolumeClaim>(shared, &ns, &object).await?,
            "PodDisruptionBudget" => keep::<PodDisruptionBudget>(shared, &ns, &object).await?,
            "CronJob" => keep::<CronJob>(shared, &ns, &object).await?,
            _ => keep::<Deployment>(shared, &ns, &object).await?,
        };
        if sent {
            shared.metrics.sent.inc();
        }
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), &ns);
    if let Some(claim) = claims.get_opt(&names.volume).await? {
        bequeath(&claims, &claim, heir).await?;
    }
    if trustee.spec.backup.is_none() {
        let jobs: Api<CronJob> = Api::namespaced(shared.client.clone(), &ns);
        remove(&jobs, &names.backup).await?;
    }
    if trustee.spec.replicas <= 1 {
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(shared.client.clone(), &ns);
        remove(&budgets, &names.main).await?;
    }
    report::tell(shared, trustee, &names, inputs.bundle).await?;
    Ok(Action::requeue(DAY))
}

/// Removes what is not wished any more, if the operator made it.
async fn remove<K>(api: &Api<K>, name: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let ours = api.get_opt(name).await?.is_some_and(|object| !object.owner_references().is_empty());
    if !ours {
        return Ok(());
    }
    match api.delete(name, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// Makes an object go with the Trustee, or outlive it.
async fn bequeath<K>(api: &Api<K>, live: &K, heir: Option<&Value>) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    if live.owner_references().is_empty() == heir.is_none() {
        return Ok(());
    }
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": {"name": live.name_any(), "ownerReferences": heir.into_iter().collect::<Vec<_>>()},
    });
    api.patch(&live.name_any(), &PatchParams::apply(OWNER).force(), &Patch::Apply(&object)).await?;
    Ok(())
}

async fn keep<K>(shared: &Shared, ns: &str, object: &Value) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    let api: Api<K> = Api::namespaced(shared.client.clone(), ns);
    let name = object.pointer("/metadata/name").and_then(Value::as_str).ok_or(Error::Nameless)?;
    let live = api.get_opt(name).await?;
    apply(&api, name, object, live.as_ref()).await
}

/// Writes a resource's status.
async fn write_status<K>(shared: &Shared, object: &K, status: &impl Serialize) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(shared.client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status});
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(&object.name_any(), &params, &Patch::Apply(&patch)).await {
        // It is gone in the meantime.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}
