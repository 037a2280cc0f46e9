//! Probes and metrics, on one port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::Error;

/// Of one controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Of {
    /// Its name.
    pub controller: &'static str,
}

/// What the operator counts.
#[derive(Clone)]
pub struct Metrics {
    /// Passes.
    pub reconciled: Family<Of, Counter>,
    /// Passes that failed.
    pub failed: Family<Of, Counter>,
    /// Seconds of a pass.
    pub seconds: Histogram,
    /// Objects that were sent to the API server.
    pub sent: Counter,
    /// Requests to the API server, watches included.
    pub requests: Counter,
    /// Whether this operator has the lease.
    pub leads: Gauge,
    ready: Arc<AtomicBool>,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let (reconciled, failed) = (Family::<Of, Counter>::default(), Family::<Of, Counter>::default());
        let seconds = Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0]);
        let (sent, requests, leads) = (Counter::default(), Counter::default(), Gauge::default());
        let mut registry = Registry::with_prefix("cocoon_operator");
        registry.register("reconciliations", "Passes of a controller", reconciled.clone());
        registry.register("reconciliation_failures", "Passes that failed", failed.clone());
        registry.register("reconciliation_seconds", "How long a pass takes", seconds.clone());
        registry.register("objects_sent", "Objects sent to the API server", sent.clone());
        registry.register("requests", "Requests to the API server", requests.clone());
        registry.register("leads", "1 where this operator has the lease", leads.clone());
        let registry = Arc::new(registry);
        Metrics { reconciled, failed, seconds, sent, requests, leads, ready: Arc::default(), registry }
    }
}

impl Metrics {
    /// The caches are filled, or another operator works: traffic may come.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics` until the process ends. A process that answers here is alive: the tasks that it
/// consists of end the process when they end.
///
/// # Errors
/// Where the port cannot be listened on.
pub async fn serve(address: SocketAddr, metrics: Metrics) -> Result<(), Error> {
    let port = |source| Error::Port { port: address.port(), source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(port)?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .with_state(metrics);
    axum::serve(listener, router).await.map_err(port)
}

async fn ready(State(metrics): State<Metrics>) -> (StatusCode, &'static str) {
    match metrics.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not yet\n"),
    }
}

async fn text(State(metrics): State<Metrics>) -> Result<String, StatusCode> {
    let mut out = String::new();
    encode(&mut out, &metrics.registry).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(out)
}
