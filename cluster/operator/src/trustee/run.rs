//! The controllers of Trustees and of what they know, in each namespace that may have one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cocoon_cluster_api::{MANAGER, Trustee, TrusteeReferenceValues, TrusteeReleaseRule, TrusteeSecret};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use kube::runtime::controller::{self, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

use super::entries::{self, Entry};
use super::watched::NamedSecrets;
use super::{Shared, again, reconcile};
use crate::health::Metrics;
use crate::run::heard;
use crate::runtime::backoff::Failures;
use crate::watch::Ticks;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Works until the process ends.
pub async fn run(
    namespaces: &[String],
    client: &Client,
    image: &str,
    identity: &str,
    metrics: &Metrics,
    debounce: Duration,
) {
    let ticks = Arc::new(Ticks::default());
    let config = || controller::Config::default().debounce(debounce);
    let every = watcher::Config::default;
    let trustees: Vec<_> = namespaces
        .iter()
        .map(|ns| Controller::new(Api::<Trustee>::namespaced(client.clone(), ns), every()))
        .collect();
    let secrets: Vec<_> = namespaces
        .iter()
        .map(|ns| Controller::new(Api::<TrusteeSecret>::namespaced(client.clone(), ns), every()))
        .collect();
    let reporter = Reporter { controller: "cocoon-operator".into(), instance: Some(identity.into()) };
    let shared = Arc::new(Shared {
        client: client.clone(),
        image: image.to_owned(),
        metrics: metrics.clone(),
        failures: Failures::default(),
        secrets: NamedSecrets::new(client.clone(), ticks.clone()),
        trustees: trustees.iter().map(Controller::store).collect(),
        sources: secrets.iter().map(Controller::store).collect(),
        recorder: Recorder::new(client.clone(), reporter),
    });
    let mut work: Vec<Work> = Vec::new();
    for (ns, controller) in namespaces.iter().zip(trustees) {
        // What the operator made, and nothing else.
        let ours = every().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
        let client = || client.clone();
        let run = controller
            .with_config(config())
            .owns(Api::<Deployment>::namespaced(client(), ns), ours.clone())
            .owns(Api::<Service>::namespaced(client(), ns), ours.clone())
            .owns(Api::<ConfigMap>::namespaced(client(), ns), ours.clone())
            .owns(Api::<CronJob>::namespaced(client(), ns), ours.clone())
            .owns(Api::<Secret>::namespaced(client(), ns), ours.clone())
            .watches(Api::<PersistentVolumeClaim>::namespaced(client(), ns), ours, of_instance)
            .reconcile_all_on(ticks.stream())
            .run(reconcile, again, shared.clone())
            .for_each(|result| async { heard(result.map(|(object, _)| object.name)) });
        work.push(Box::pin(run));
    }
    for (ns, controller) in namespaces.iter().zip(secrets) {
        let controller = controller.with_config(config()).reconcile_all_on(ticks.stream());
        work.push(of_entry(ns, client, controller, &shared));
        let api = Api::<TrusteeReferenceValues>::namespaced(client.clone(), ns);
        work.push(of_entry(ns, client, Controller::new(api, every()).with_config(config()), &shared));
        let api = Api::<TrusteeReleaseRule>::namespaced(client.clone(), ns);
        work.push(of_entry(ns, client, Controller::new(api, every()).with_config(config()), &shared));
    }
    futures::future::join_all(work).await;
}

/// The Trustee to which an object belongs by its labels.
fn of_instance<K: ResourceExt>(object: K) -> Option<ObjectRef<Trustee>> {
    let name = object.labels().get("app.kubernetes.io/instance")?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// The controller of one kind: told too when a Trustee comes, goes, answers or ceases to.
fn of_entry<K: Entry>(ns: &str, client: &Client, controller: Controller<K>, shared: &Arc<Shared>) -> Work {
    let store: Store<K> = controller.store();
    let trustees = Api::<Trustee>::namespaced(client.clone(), ns);
    let run = controller
        .watches(trustees, watcher::Config::default(), move |trustee: Trustee| {
            let name = trustee.name_any();
            store
                .state()
                .into_iter()
                .filter(move |entry| entry.trustee() == name)
                .map(|entry| ObjectRef::from_obj(&*entry))
                .collect::<Vec<_>>()
        })
        .run(entries::reconcile::<K>, again::<K>, shared.clone())
        .for_each(|result| async { heard(result.map(|(object, _)| object.name)) });
    Box::pin(run)
}
