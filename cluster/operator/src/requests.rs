//! A client whose requests are counted: what the operator costs the API server is a figure that anybody can look at.

use std::task::{Context, Poll};

use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use prometheus_client::metrics::counter::Counter;
use tower_layer::layer_fn;
use tower_service::Service;

/// The cluster's client, of the account that the process runs with or of the kubeconfig.
///
/// # Errors
/// Where neither is there, or cannot be used.
pub async fn client(counter: &Counter) -> Result<Client, kube::Error> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    let counter = counter.clone();
    let layer = layer_fn(move |inner| Counted { inner, counter: counter.clone() });
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

/// Counts what it hands on.
#[derive(Clone, Debug)]
struct Counted<S> {
    inner: S,
    counter: Counter,
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        self.counter.inc();
        self.inner.call(request)
    }
}
