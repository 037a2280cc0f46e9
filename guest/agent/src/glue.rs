//! Joins the preparation with the crates that do the work: attestation, Trustee, registries.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_datahub::DataHub;
use cocoon_http::Options;
use cocoon_plan::ContainerPlan;
use cocoon_protocol::initdata::InitData;
use cocoon_pull::PullRequest;
use cocoon_registry::Auth;
use cocoon_stage::{Code, Failure, Stage};
use tokio::net::TcpListener;

use crate::prepare::{Backend, Images, Secret, Secrets};

/// Where workloads find the REST endpoint, in the pod's network namespace.
const REST: (&str, u16) = ("127.0.0.1", 8006);

/// The platform's attester, the Trustee that initdata names, and the registries.
///
/// # Errors
/// `ATTEST-EVIDENCE-UNAVAILABLE`, `INITDATA-MALFORMED`.
pub(crate) async fn backend(initdata: InitData, loopback: Option<IpAddr>) -> Result<Backend, Failure> {
    let attester = cocoon_attest::detect().await?;
    let http = cocoon_http::Client::new(Options { loopback, ..Options::default() })
        .map_err(|e| Failure::new(Code::BootGuestFailed, format!("registry client: {e}")))?;
    let hub = DataHub::new(initdata, attester, loopback)?;
    Ok(Backend { secrets: Arc::new(Trustee(Arc::clone(&hub))), images: Arc::new(Registries { hub, http }) })
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

struct Registries {
    hub: Arc<DataHub>,
    http: cocoon_http::Client,
}

#[async_trait]
impl Images for Registries {
    async fn pull(
        &self,
        container: &ContainerPlan,
        rootfs: &Path,
        auth: Option<Secret>,
    ) -> Result<(), Failure> {
        let invalid = |e: cocoon_image::Error| Failure::new(Code::PlanInvalid, e.to_string()).at(Stage::Pull);
        let reference: cocoon_image::Reference = container.image.reference.parse().map_err(invalid)?;
        if auth.is_some() && cocoon_image::Reference::is_loopback(&reference) {
            // Plain HTTP through the host, wherever it says that its loopback is.
            let reason = "credentials are never sent over plain HTTP";
            return Err(Failure::new(Code::ImageUnauthorized, reason));
        }
        let digest = container.image.digest.parse().map_err(invalid)?;
        let auth = match auth {
            None => Auth::anonymous(),
            Some(text) => Auth::from_json(&String::from_utf8_lossy(&text)).map_err(Failure::from)?,
        };
        let registry = cocoon_registry::Client::new(self.http.clone(), auth);
        let mut request = PullRequest::new(reference, digest, rootfs);
        request.signature = container.image.signature.clone();
        request.limits.total_bytes = request.limits.total_bytes.min(memory_for_images());
        let progress = Arc::new(|_| {});
        cocoon_pull::pull(request, &registry, self.hub.as_ref(), progress).await?;
        Ok(())
    }
}

/// Most of the VM's memory, in bytes: what lies in memory file systems cannot be reclaimed, and a guest whose
/// memory an image has eaten dies without a word.
fn memory_for_images() -> u64 {
    let info = rustix::system::sysinfo();
    let total = info.totalram.saturating_mul(u64::from(info.mem_unit));
    total / 4 * 3
}
