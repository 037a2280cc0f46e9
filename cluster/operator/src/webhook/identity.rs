//! The webhook's certificate: made, kept, and made anew in time, with the cluster's configuration pointing to its CA.

use std::sync::Arc;
use std::time::Duration;

use cocoon_cluster_api::{MANAGER, labels};
use futures::{Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{CONFIGURATION, NAME, host, of_class};
use crate::Error;
use crate::runtime::backoff::Failures;
use crate::trustee::{Identity, is_due, new_authority, new_server, renewal, today};

/// Annotation of the certificate: the day from which on it is made anew.
const RENEW: &str = "cocoon.dev/renew-on";
/// How often days are counted.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The field manager of the CA in the configuration.
const CA_MANAGER: &str = "cocoon-operator-webhook";

/// Keeps certificate and configuration in order. Ends never; the operator that has the lease does it.
pub async fn keep(client: Client, namespace: String) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client);
    let mut changes = futures::stream::select(
        changes(secrets.clone(), NAME),
        changes(configurations.clone(), CONFIGURATION),
    );
    let failures = Failures::default();
    loop {
        let pause = match pass(&secrets, &configurations, &namespace).await {
            Ok(()) => {
                failures.succeeded(NAME);
                DAY
            }
            Err(e) => {
                let pause = failures.failed(NAME);
                warn!(seconds = pause.as_secs(), "the webhook's certificate, to be tried again: {e}");
                pause
            }
        };
        // Several changes at once are one.
        let _ = tokio::time::timeout(pause, changes.next()).await;
    }
}

/// Changes of one object.
fn changes<K>(api: Api<K>, name: &str) -> impl Stream<Item = ()> + Send + Unpin + use<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watcher(api, config).default_backoff().filter_map(|event| async move { event.ok().map(drop) }).boxed()
}

async fn pass(
    secrets: &Api<Secret>,
    configurations: &Api<MutatingWebhookConfiguration>,
    namespace: &str,
) -> Result<(), Error> {
    let live = secrets.get_opt(NAME).await?;
    let bundle = live.as_ref().and_then(usable);
    let bundle = match bundle {
        Some(bundle) => bundle,
        None => {
            let (bundle, object) = made(namespace, live.as_ref())?;
            // First whom to believe, then who says it: calls in between find one they believe.
            point(configurations, &bundle).await?;
            secrets.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
            info!("the webhook has a new certificate");
            bundle
        }
    };
    point(configurations, &bundle).await
}

fn entry(secret: &Secret, name: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(name)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
}

/// Whom to believe, if the certificate is there and its day has not come.
fn usable(secret: &Secret) -> Option<String> {
    let due = is_due(secret.annotations().get(RENEW).map_or("", String::as_str), today());
    let whole = entry(secret, "tls.crt").is_some() && entry(secret, "tls.key").is_some();
    entry(secret, "ca.crt").filter(|_| whole && !due)
}

/// A new CA and a certificate of it, as a Secret, and whom to believe: the new CA, and the one before for processes that still show a
/// certificate of that.
fn made(namespace: &str, before: Option<&Secret>) -> Result<(String, Value), Error> {
    let (called, now) = (format!("{NAME} in {namespace}"), today());
    let authority = new_authority(&called, now)?;
    let names = [host(namespace), format!("{}.cluster.local", host(namespace))];
    let Identity { certificate, key } = new_server(&called, &authority.key, &names, now)?;
    let end = "-----END CERTIFICATE-----\n";
    let old = before.and_then(|s| entry(s, "ca.crt"));
    let old = old.and_then(|text| text.split_once(end).map(|(first, _)| format!("{first}{end}")));
    let bundle = format!("{}{}", authority.certificate, old.unwrap_or_default());
    let secret = Secret {
        metadata: kube::api::ObjectMeta {
            name: Some(NAME.into()),
            labels: Some(labels("operator", "cocoon")),
            annotations: Some([(RENEW.to_owned(), renewal(now))].into()),
            ..kube::api::ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".into()),
        data: Some(
            [("tls.crt", certificate), ("tls.key", key), ("ca.crt", bundle.clone())]
                .map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())))
                .into(),
        ),
        ..Secret::default()
    };
    let mut object = serde_json::to_value(&secret).unwrap_or_default();
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), json!("v1"));
        map.insert("kind".into(), json!("Secret"));
    }
    Ok((bundle, object))
}

/// Points the cluster's configuration, where there is one, to whom to believe.
async fn point(configurations: &Api<MutatingWebhookConfiguration>, bundle: &str) -> Result<(), Error> {
    let Some(live) = configurations.get_opt(CONFIGURATION).await? else { return Ok(()) };
    let bytes = ByteString(bundle.as_bytes().to_vec());
    let hooks: Vec<String> = live.webhooks.iter().flatten().map(|w| w.name.clone()).collect();
    let so = live.webhooks.iter().flatten().all(|w| w.client_config.ca_bundle.as_ref() == Some(&bytes));
    let ours: Arc<[String]> = super::CLASSES.map(of_class).into();
    if so {
        return Ok(());
    }
    let webhooks: Vec<Value> = hooks
        .iter()
        .filter(|name| ours.contains(name))
        .map(|name| json!({"name": name, "clientConfig": {"caBundle": bytes}}))
        .collect();
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION}, "webhooks": webhooks,
    });
    configurations
        .patch(CONFIGURATION, &PatchParams::apply(CA_MANAGER).force(), &Patch::Apply(&object))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_ca_is_believed_beside_the_one_before_and_no_longer() {
        let read = |object: &Value| serde_json::from_value::<Secret>(object.clone()).unwrap();
        let (first, object) = made("ns", None).unwrap();
        let secret = read(&object);
        assert_eq!(usable(&secret), Some(first.clone()));
        let (second, object) = made("ns", Some(&secret)).unwrap();
        assert!(second.ends_with(&first) && second.len() > first.len());
        let third = made("ns", Some(&read(&object))).unwrap().0;
        assert_eq!(third.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(!third.contains(&first));

        let mut due = secret.clone();
        due.annotations_mut().insert(RENEW.into(), "2020-01-01".into());
        assert_eq!(usable(&due), None);
        let mut damaged = secret;
        damaged.data.as_mut().unwrap().remove("tls.key");
        assert_eq!(usable(&damaged), None);
    }
}
