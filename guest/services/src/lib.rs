//! The attestation agent and the data hub of CoCo's guests, as one process beside a kata-agent.
//!
//! Contract: runs inside the TEE, for programs of the same guest: who may open the sockets may ask for anything that Trustee
//! gives this guest. There is no plan here. Initdata says where Trustee is, and must be what the TEE bound. One attestation
//! session serves all. Errors carry code and stage alone, since an agent passes them on to the host; the reason is logged.
//!
//! Served are `attestation_agent.AttestationAgentService`, `api.GetResourceService`, `api.SealedSecretService` and
//! `keyprovider.KeyProviderService` (unwrapping). What is not served (`BindInitData`, `WrapKey`, mounts, image pulls) is answered
//! with "not found", as by a service that never heard of it.

mod agent;
mod hub;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_datahub::DataHub;
use cocoon_services_api::{AGENT_SOCKET, HUB_SOCKET, api_ttrpc, attestation_agent_ttrpc, keyprovider_ttrpc};
use cocoon_stage::Failure;
use tokio::net::TcpListener;
use ttrpc::asynchronous::Server;

/// Where to serve, and what is decided before anything is asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The attestation agent's socket.
    pub agent: PathBuf,
    /// The data hub's socket.
    pub hub: PathBuf,
    /// Where the REST interface listens; nowhere where there is none. On loopback.
    pub rest: Option<SocketAddr>,
    /// `kbs:///…` of the public key that must have signed sealed secrets; without one none is unsealed.
    pub sealing_key: Option<String>,
}

impl Default for Settings {
    /// CoCo's sockets, no REST interface, no sealed secrets.
    fn default() -> Self {
        Settings { agent: AGENT_SOCKET.into(), hub: HUB_SOCKET.into(), rest: None, sealing_key: None }
    }
}

/// What is being served; it ends with this.
pub struct Serving {
    _servers: [Server; 2],
    rest: Option<(SocketAddr, tokio::task::JoinHandle<()>)>,
}

impl Serving {
    /// Where the REST interface listens.
    pub fn rest(&self) -> Option<SocketAddr> {
        self.rest.as_ref().map(|(address, _)| *address)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.rest {
            task.abort();
        }
    }
}

/// Serves until the result is dropped. Everything listens when this returns. Sockets are the owner's alone (0600).
///
/// # Errors
/// Where something cannot listen.
pub async fn serve(hub: Arc<DataHub>, settings: &Settings) -> io::Result<Serving> {
    let agent =
        attestation_agent_ttrpc::create_attestation_agent_service(Arc::new(agent::Agent(hub.clone())));
    let service = Arc::new(hub::Hub { hub: hub.clone(), sealing_key: settings.sealing_key.clone() });
    let mut first = bound(&settings.agent)?.register_service(agent);
    let mut second = bound(&settings.hub)?
        .register_service(api_ttrpc::create_get_resource_service(service.clone()))
        .register_service(api_ttrpc::create_sealed_secret_service(service.clone()))
        .register_service(keyprovider_ttrpc::create_key_provider_service(service));
    first.start().await.map_err(io::Error::other)?;
    second.start().await.map_err(io::Error::other)?;
    let rest = match settings.rest {
        Some(address) => {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Some((address, tokio::spawn(cocoon_datahub::serve_rest(hub, listener, None, true))))
        }
        None => None,
    };
    Ok(Serving { _servers: [first, second], rest })
}

/// A server on a socket of its own, in place of one that nobody listens on any more.
fn bound(path: &Path) -> io::Result<Server> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let address = format!("unix://{}", path.display());
    let server = Server::new().bind(&address).map_err(io::Error::other)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(server)
}

/// A failure as an agent may pass it on.
fn told(failure: &Failure) -> ttrpc::Error {
    tracing::warn!("{failure}");
    let text = format!("{} ({})", failure.code, failure.stage);
    ttrpc::Error::RpcStatus(ttrpc::get_status(ttrpc::Code::INTERNAL, text))
}
