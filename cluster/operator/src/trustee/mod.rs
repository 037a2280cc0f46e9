//! The controller of Trustee.

mod certificate;
mod objects;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cocoon_cluster_api::{ConditionKind, MANAGER, Trustee, TrusteeStatus, condition, labels, set_condition};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::apply::apply;
use crate::health::{Metrics, Of};
use crate::{Error, runtime::backoff};
use certificate::Identity;
use objects::Names;

/// Annotation of the server's certificate: the day from which on it is made anew.
const RENEW: &str = "cocoon.dev/renew-on";
/// Annotation of the server's certificate: the names that it is for.
const FOR: &str = "cocoon.dev/names";
/// How often days are counted; nothing is asked of the API server unless something is due.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the controller shares.
pub struct Shared {
    /// The client.
    pub client: Client,
    /// The image where a Trustee names none.
    pub image: String,
    /// What is counted.
    pub metrics: Metrics,
    /// Failures in a row.
    pub failures: backoff::Failures,
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
        Ok(_) => shared.failures.succeeded(&key(&trustee)),
        Err(_) => {
            shared.metrics.failed.get_or_create(&of).inc();
        }
    }
    result
}

fn key(trustee: &Trustee) -> String {
    format!("{}/{}", trustee.namespace().unwrap_or_default(), trustee.name_any())
}

/// When a failed pass is tried again.
pub fn again(trustee: Arc<Trustee>, error: &Error, shared: Arc<Shared>) -> Action {
    let after = shared.failures.failed(&key(&trustee));
    tracing::warn!(trustee = key(&trustee), seconds = after.as_secs(), "to be tried again: {error}");
    Action::requeue(after)
}

async fn pass(shared: &Shared, trustee: &Trustee) -> Result<Action, Error> {
    // What it owns goes with it.
    if trustee.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let ns = trustee.namespace().ok_or(Error::Nameless)?;
    let names = Names::of(trustee);
    let owner = trustee.controller_owner_ref(&()).ok_or(Error::Nameless)?;
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), &ns);
    let own = Own { secrets: &secrets, trustee, owner: serde_json::to_value(&owner).unwrap_or_default() };

    own.once(&names.admin, || Ok([("token".to_owned(), hex_random()?)].into())).await?;
    if let Some(postgres) = &trustee.spec.state.postgres {
        own.once(&names.seal, || Ok([("key".to_owned(), random()?.to_vec())].into())).await?;
        let from = &postgres.url_from;
        let found = secrets.get_opt(&from.name).await?;
        if !found.is_some_and(|s| s.data.is_some_and(|d| d.contains_key(&from.key))) {
            let message =
                format!("Secret {} has no entry {}, where the database's URL should be", from.name, from.key);
            return wait(shared, trustee, "DatabaseUnknown", message).await;
        }
    }
    let bundle = match &trustee.spec.tls.secret_name {
        None => own.certificate(&names).await?,
        Some(name) => match secrets.get_opt(name).await?.and_then(|s| authorities(&s)) {
            Some(bundle) => bundle,
            None => {
                let message = format!(
                    "Secret {name} has no tls.crt; cert-manager, or whoever makes it, has not done so yet"
                );
                return wait(shared, trustee, "CertificateMissing", message).await;
            }
        },
    };
    let image = trustee.spec.image.clone().unwrap_or_else(|| shared.image.clone());
    for object in objects::objects(trustee, &own.owner, &image) {
        let sent = match object.get("kind").and_then(Value::as_str).unwrap_or_default() {
            "ConfigMap" => keep::<ConfigMap>(shared, &ns, &object).await?,
            "Service" => keep::<Service>(shared, &ns, &object).await?,
            "PersistentVolumeClaim" => keep::<PersistentVolumeClaim>(shared, &ns, &object).await?,
            "PodDisruptionBudget" => keep::<PodDisruptionBudget>(shared, &ns, &object).await?,
            _ => keep::<Deployment>(shared, &ns, &object).await?,
        };
        if sent {
            shared.metrics.sent.inc();
        }
    }
    let deployments: Api<Deployment> = Api::namespaced(shared.client.clone(), &ns);
    let status = deployments.get_opt(&names.main).await?.and_then(|d| d.status);
    let ready = status.and_then(|s| s.ready_replicas).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let wished = trustee.spec.replicas;
    let status = TrusteeStatus {
        ready_replicas: ready,
        url: Some(objects::url(trustee)),
        ca_bundle: Some(bundle),
        admin_secret: Some(names.admin),
        ..TrusteeStatus::default()
    };
    let reason = if ready >= wished { "Serving" } else { "Starting" };
    say(shared, trustee, status, ready >= wished, reason, format!("{ready} of {wished} replicas answer"))
        .await?;
    Ok(Action::requeue(DAY))
}

async fn wait(shared: &Shared, trustee: &Trustee, reason: &str, message: String) -> Result<Action, Error> {
    let status = trustee.status.clone().unwrap_or_default();
    say(shared, trustee, status, false, reason, message).await?;
    // Secrets of others are not watched.
    Ok(Action::requeue(Duration::from_secs(15)))
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

async fn say(
    shared: &Shared,
    trustee: &Trustee,
    mut status: TrusteeStatus,
    ready: bool,
    reason: &str,
    message: String,
) -> Result<(), Error> {
    let old = trustee.status.clone().unwrap_or_default();
    status.observed_generation = trustee.metadata.generation;
    status.conditions.clone_from(&old.conditions);
    let now = Time(Timestamp::now());
    set_condition(
        &mut status.conditions,
        condition(ConditionKind::Ready, ready, reason, message, trustee.metadata.generation, now),
    );
    if status == old {
        return Ok(());
    }
    let api: Api<Trustee> = Api::namespaced(shared.client.clone(), &trustee.namespace().unwrap_or_default());
    let object = json!({"apiVersion": "cocoon.dev/v1alpha1", "kind": "Trustee", "status": status});
    api.patch_status(&trustee.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object))
        .await?;
    Ok(())
}

/// What a Secret with a certificate says is to be trusted: its `ca.crt`, else the certificate itself.
fn authorities(secret: &Secret) -> Option<String> {
    let data = secret.data.as_ref()?;
    data.get("tls.crt")?;
    let text =
        |key: &str| data.get(key).and_then(|b| String::from_utf8(b.0.clone()).ok()).filter(|t| !t.is_empty());
    text("ca.crt").or_else(|| text("tls.crt"))
}

fn random() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Own("no random bytes".into()))?;
    Ok(bytes)
}

fn hex_random() -> Result<Vec<u8>, Error> {
    Ok(hex::encode(random()?).into_bytes())
}

/// Secrets that the operator makes for a Trustee.
struct Own<'a> {
    secrets: &'a Api<Secret>,
    trustee: &'a Trustee,
    owner: Value,
}

type Data = BTreeMap<String, Vec<u8>>;

impl Own<'_> {
    fn secret(&self, name: &str, kind: &str, data: Data, annotations: BTreeMap<String, String>) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(name.into()),
                labels: Some(labels("trustee", &self.trustee.name_any())),
                annotations: Some(annotations),
                owner_references: serde_json::from_value(json!([self.owner])).ok(),
                ..ObjectMeta::default()
            },
            type_: Some(kind.into()),
            data: Some(data.into_iter().map(|(k, v)| (k, ByteString(v))).collect()),
            ..Secret::default()
        }
    }

    /// A Secret that is made once and never changed: what it holds could not be made again.
    async fn once(&self, name: &str, data: impl FnOnce() -> Result<Data, Error>) -> Result<Secret, Error> {
        if let Some(secret) = self.secrets.get_opt(name).await? {
            return Ok(secret);
        }
        let secret = self.secret(name, "Opaque", data()?, BTreeMap::new());
        match self.secrets.create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(self.secrets.get(name).await?),
            other => Ok(other?),
        }
    }

    /// CA and server's certificate; gives the CA's.
    async fn certificate(&self, names: &Names) -> Result<String, Error> {
        let today = certificate::today();
        let authority = self
            .once(&names.authority, || {
                let Identity { certificate, key } = certificate::new_authority(self.trustee, today)?;
                Ok([("ca.crt".to_owned(), certificate.into_bytes()), ("ca.key".to_owned(), key.into_bytes())]
                    .into())
            })
            .await?;
        let of = |key: &str| {
            let bytes = authority.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.clone());
            let text = bytes.and_then(|b| String::from_utf8(b).ok());
            text.ok_or_else(|| {
                Error::Own(format!("Secret {} has no {key}; delete it to have it made anew", names.authority))
            })
        };
        let (ca, key) = (of("ca.crt")?, of("ca.key")?);
        let wished = objects::dns(self.trustee);
        let live = self.secrets.get_opt(&names.tls).await?;
        let good = live.as_ref().is_some_and(|s| {
            let note = |key: &str| s.annotations().get(key).cloned().unwrap_or_default();
            let same = s.data.as_ref().and_then(|d| d.get("ca.crt")).is_some_and(|b| b.0 == ca.as_bytes());
            same && note(FOR) == wished.join(",") && !certificate::is_due(&note(RENEW), today)
        });
        if !good {
            let server = certificate::new_server(self.trustee, &key, &wished, today)?;
            let data = [("tls.crt", server.certificate), ("tls.key", server.key), ("ca.crt", ca.clone())];
            let data = data.map(|(k, v)| (k.to_owned(), v.into_bytes())).into();
            let notes =
                [(FOR.to_owned(), wished.join(",")), (RENEW.to_owned(), certificate::renewal(today))].into();
            let secret = self.secret(&names.tls, "kubernetes.io/tls", data, notes);
            let mut object = serde_json::to_value(&secret).unwrap_or_default();
            if let Some(map) = object.as_object_mut() {
                map.insert("apiVersion".into(), json!("v1"));
                map.insert("kind".into(), json!("Secret"));
            }
            self.secrets
                .patch(&names.tls, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object))
                .await?;
        }
        Ok(ca)
    }
}
