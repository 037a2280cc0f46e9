//! Joins the preparation with the crates that do the work: attestation, Trustee, registries.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_datahub::DataHub;
use cocoon_image::AnnotationPacket;
use cocoon_plan::Plan;
use cocoon_plan::sealed::SealedPlan;
use cocoon_protocol::initdata::InitData;
use cocoon_pull::KeyProvider;
use cocoon_stage::{Code, Failure, Stage};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::events::Events;
use crate::images::Delivery;
use crate::prepare::{Backend, Secret, Secrets};

/// Where workloads find the REST endpoint, in the pod's network namespace.
const REST: (&str, u16) = ("127.0.0.1", cocoon_plan::pod::REST_PORT);

/// The platform's attester, the Trustee that initdata names, and the ways in which images come. Without initdata there is
/// neither.
///
/// # Errors
/// `ATTEST-EVIDENCE-UNAVAILABLE`, `INITDATA-MALFORMED`, `IMAGE-POLICY-INVALID`.
pub(crate) async fn backend(
    initdata: Option<InitData>,
    plan: Plan,
    loopback: Option<IpAddr>,
    events: Events,
) -> Result<Backend, Failure> {
    let (secrets, keys): (Arc<dyn Secrets>, Arc<dyn KeyProvider>) = match initdata {
        Some(initdata) => {
            let attester = cocoon_attest::detect().await?;
            let hub = DataHub::new(initdata, attester, loopback)?;
            (Arc::new(Trustee(Arc::clone(&hub))), hub)
        }
        None => (Arc::new(Nobody), Arc::new(Nobody)),
    };
    // No plan is without containers; a guest that runs open gets them one by one.
    let open = plan.containers.is_empty();
    let images = Delivery::new(keys, Arc::clone(&secrets), plan.images, loopback, events, open)?;
    Ok(Backend { secrets, images: Arc::new(images) })
}

/// In a guest that runs open and was told of no Trustee: nobody is asked, and nobody has secrets or keys.
struct Nobody;

fn nobody(what: &str) -> Failure {
    Failure::new(Code::FetchFailed, format!("{what}: this guest runs open and knows no Trustee"))
}

#[async_trait]
impl Secrets for Nobody {
    async fn attest(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn resource(&self, uri: &str) -> Result<Secret, Failure> {
        Err(nobody(uri))
    }

    async fn serve_rest(&self, _: BTreeSet<String>, _: bool) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl KeyProvider for Nobody {
    async fn unwrap(&self, _: &AnnotationPacket) -> Result<Zeroizing<Vec<u8>>, Failure> {
        Err(Failure { code: Code::ImageKeyUnavailable, ..nobody("the key of a layer").at(Stage::Pull) })
    }
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

    async fn unseal(&self, sealed: &[u8], plan: &SealedPlan) -> Result<Secret, Failure> {
        self.0.unseal(sealed, &plan.signer, Some(&plan.resource)).await
    }

    async fn report(&self, failure: &Failure) -> Option<String> {
        self.0.report(failure).await
    }

    async fn serve_rest(&self, allowed: BTreeSet<String>, attestation: bool) -> Result<(), Failure> {
        let failed = |e| {
            Failure::new(Code::Internal, format!("listen on {}:{}: {e}", REST.0, REST.1)).at(Stage::Fetch)
        };
        let listener = TcpListener::bind(REST).await.map_err(failed)?;
        tokio::spawn(cocoon_datahub::serve_rest(Arc::clone(&self.0), listener, Some(allowed), attestation));
        Ok(())
    }
}
