//! Joins the preparation with the crates that do the work: attestation, Trustee, registries.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_datahub::DataHub;
use cocoon_plan::Plan;
use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure, Stage};
use tokio::net::TcpListener;

use crate::events::Events;
use crate::images::Delivery;
use crate::prepare::{Backend, Secret, Secrets};

/// Where workloads find the REST endpoint, in the pod's network namespace.
const REST: (&str, u16) = ("127.0.0.1", 8006);

/// The platform's attester, the Trustee that initdata names, and the ways in which images come.
///
/// # Errors
/// `ATTEST-EVIDENCE-UNAVAILABLE`, `INITDATA-MALFORMED`, `IMAGE-POLICY-INVALID`.
pub(crate) async fn backend(
    initdata: InitData,
    plan: Plan,
    loopback: Option<IpAddr>,
    events: Events,
) -> Result<Backend, Failure> {
    let attester = cocoon_attest::detect().await?;
    let hub = DataHub::new(initdata, attester, loopback)?;
    let images = Delivery::new(Arc::clone(&hub), plan.images, loopback, events)?;
    Ok(Backend { secrets: Arc::new(Trustee(hub)), images: Arc::new(images) })
}

struct Trustee(Arc<DataHub>);

#[async_trait]
impl Secrets for Trustee {
    async fn attest(&self) -> Result<(), Failure> {
        self.0.attest().await
    }

    async fn resource(&self, uri: &str) -> Result<Secret, Failure> {
        self.0.resource(uri).await
    }

    async fn report(&self, failure: &Failure) -> Option<String> {
        self.0.report(failure).await
    }

    async fn serve_rest(&self, allowed: BTreeSet<String>, attestation: bool) -> Result<(), Failure> {
        let failed = |e| {
            Failure::new(Code::Internal, format!("listen on {}:{}: {e}", REST.0, REST.1)).at(Stage::Fetch)
        };
        let listener = TcpListener::bind(REST).await.map_err(failed)?;
        tokio::spawn(cocoon_datahub::serve_rest(Arc::clone(&self.0), listener, allowed, attestation));
        Ok(())
    }
}
