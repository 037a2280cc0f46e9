//! The operator as a process.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cocoon_cluster_api::CocoonRuntime;
use futures::StreamExt;
use kube::runtime::controller::{self, Controller};
use kube::runtime::watcher;
use kube::{Api, Client};
use tracing::{debug, info, warn};

use crate::health::{self, Metrics};
use crate::{Context, Error, lease, runtime, trustee, webhook};

/// Requests for passes over one object that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its namespace.
    pub namespace: String,
    /// Its name among operators: the pod's.
    pub identity: String,
    /// The image that is used where a resource names none.
    pub image: String,
    /// Where probes and metrics are.
    pub address: SocketAddr,
    /// Namespaces that may have a Trustee.
    pub trustees: Vec<String>,
    /// Where the admission webhook is, if there is one.
    pub webhook: Option<SocketAddr>,
}

/// Runs until `stop`.
///
/// # Errors
/// Where the lease was lost, or the process cannot do its work: it is to be started anew.
pub async fn run(settings: Settings, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let metrics = Metrics::default();
    let mut server = tokio::spawn(health::serve(settings.address, metrics.clone()));
    let client = crate::requests::client(&metrics.requests).await?;
    if let Some(address) = settings.webhook {
        let (client, namespace) = (client.clone(), settings.namespace.clone());
        let webhook = tokio::spawn(webhook::serve(client, namespace, address));
        let probes = server;
        server = tokio::spawn(async move {
            // Whichever ends, the process does.
            futures::future::select(probes, webhook).await.factor_first().0.unwrap_or(Ok(()))
        });
    }
    let mut stop = Box::pin(stop);
    let leases = Api::namespaced(client.clone(), &settings.namespace);
    // One that waits for another to end is ready to work.
    metrics.set_ready();
    let mut held = tokio::select! {
        held = lease::acquire(leases, &settings.identity) => held?,
        ended = &mut server => return ended.unwrap_or(Ok(())),
        () = &mut stop => return Ok(()),
    };
    metrics.leads.set(1);
    let work = work(&settings, client, metrics.clone());
    let result = tokio::select! {
        result = work => result,
        lost = held.keep() => return Err(lost),
        ended = &mut server => ended.unwrap_or(Ok(())),
        () = &mut stop => {
            info!("asked to end");
            Ok(())
        }
    };
    held.release().await;
    result
}

async fn work(settings: &Settings, client: Client, metrics: Metrics) -> Result<(), Error> {
    let (namespace, image) = (&settings.namespace, &settings.image);
    let (identity, context_client) = (&settings.identity, client.clone());
    let trustees_client = client.clone();
    let trustees = async {
        if settings.trustees.is_empty() {
            std::future::pending::<()>().await;
        }
        trustee::run(&settings.trustees, &trustees_client, image, identity, &metrics, DEBOUNCE).await;
    };
    let controller = Controller::new(Api::<CocoonRuntime>::all(client.clone()), watcher::Config::default());
    let runtimes = controller.store();
    let context =
        Context::start(client.clone(), namespace, image, &settings.identity, metrics.clone(), runtimes)
            .await?;
    let context = Arc::new(context);
    info!(namespace, image, "the operator works");
    let runtimes = controller
        .with_config(controller::Config::default().debounce(DEBOUNCE))
        .reconcile_all_on(context.ticks.stream())
        .run(runtime::reconcile, runtime::again, context)
        .for_each(|result| async { heard(result.map(|(object, _)| object.name)) });
    let webhook = async {
        match settings.webhook {
            Some(_) => webhook::keep(context_client, namespace.clone()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = runtimes => {}
        () = trustees => {}
        () = webhook => {}
    }
    Err(Error::Own("the controller ended".into()))
}

/// What a controller says of a pass.
pub(crate) fn heard<E: std::error::Error + 'static>(
    result: Result<String, controller::Error<E, watcher::Error>>,
) {
    match result {
        Ok(name) => debug!(name, "a pass is done"),
        // Failures of passes were logged where they are tried again.
        Err(controller::Error::ReconcilerFailed(..)) => {}
        Err(e) => warn!("{e}"),
    }
}
