//! All that listens: guests and administrators, the attestation API, metrics.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use cocoon_config::{Metrics, Settings};
use cocoon_rpc::RpcLimits;
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{AttestationApi, Limits, ReloadableTls, Tls, Trustee};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::callers::Callers;
use super::{metrics, read};

/// Sockets that are bound, but not served yet.
pub struct Listeners {
    main: Vec<TcpListener>,
    rest: Option<TcpListener>,
    grpc: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds every address of the settings, or none.
    pub async fn bind(settings: &Settings) -> Result<Self, Failure> {
        let mut main = Vec::new();
        for address in &settings.server.listen {
            main.push(bind(*address).await?);
        }
        let api = settings.attestation_api.as_ref();
        Ok(Listeners {
            main,
            rest: maybe(api.and_then(|api| api.listen_rest)).await?,
            grpc: maybe(api.and_then(|api| api.listen_grpc)).await?,
            metrics: match settings.metrics {
                Metrics::At(address) => Some(bind(address).await?),
                Metrics::Off | Metrics::WithServer => None,
            },
        })
    }

    /// Says where the server is. `certificate` is the file that clients pin; `None`: there is no TLS.
    pub fn tell(&self, certificate: Option<&Path>) -> Result<(), Failure> {
        for listener in &self.main {
            let address = local(listener)?;
            match certificate {
                Some(file) => {
                    eprintln!("cocoon: Trustee on https://{address}, certificate {}", file.display());
                }
                None => eprintln!("cocoon: Trustee on http://{address}, without TLS"),
            }
        }
        for (name, listener) in [("REST", &self.rest), ("gRPC", &self.grpc), ("metrics", &self.metrics)] {
            if let Some(listener) = listener {
                let name =
                    if name == "metrics" { name.to_owned() } else { format!("attestation API ({name})") };
                eprintln!("cocoon: {name} on {}", local(listener)?);
            }
        }
        Ok(())
    }

    /// Serves all of them until `stop` says so; a listener that fails ends the others.
    pub fn serve(
        self,
        trustee: &Trustee,
        settings: &Settings,
        identity: Option<&Tls>,
        tls: Option<&ReloadableTls>,
        stop: &watch::Receiver<bool>,
    ) -> Result<JoinSet<Result<(), Failure>>, Failure> {
        let mut jobs = JoinSet::new();
        for listener in self.main {
            let (trustee, tls, limits) = (trustee.clone(), tls.cloned(), limits(settings));
            let stopped = told(stop.clone());
            jobs.spawn(async move {
                Ok(cocoon_trustee::serve_with(trustee, listener, tls, limits, stopped).await?)
            });
        }
        if let Some(api) = &settings.attestation_api {
            let backend = Arc::new(AttestationApi::new(trustee.clone()));
            let callers = Callers::new(AttestationApi::new(trustee.clone()), api)?;
            let ca =
                api.client_ca.as_deref().map(|file| read("attestation_api.client_ca", file)).transpose()?;
            let config = match identity {
                Some(identity) => {
                    let client_authorities_pem = ca.map(|pem| pem.to_string());
                    Some(Arc::new(Tls { client_authorities_pem, ..identity.clone() }.server_config()?))
                }
                None => None,
            };
            if let Some(listener) = self.rest {
                let (tls, backend, callers) = (config.clone(), backend.clone(), callers.clone());
                let (limits, stopped) = (rpc_limits(settings), told(stop.clone()));
                jobs.spawn(async move {
                    Ok(cocoon_rpc::serve_rest(listener, tls, backend, callers, limits, stopped).await?)
                });
            }
            if let Some(listener) = self.grpc {
                let (limits, stopped) = (rpc_limits(settings), told(stop.clone()));
                jobs.spawn(async move {
                    Ok(cocoon_rpc::serve(listener, config, backend, callers, limits, stopped).await?)
                });
            }
        }
        if let Some(listener) = self.metrics {
            let (trustee, stopped) = (trustee.clone(), told(stop.clone()));
            jobs.spawn(async move {
                metrics::serve(trustee, listener, stopped).await;
                Ok(())
            });
        }
        Ok(jobs)
    }
}

async fn maybe(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Failure> {
    match address {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |e: std::io::Error| Failure::new(Code::RegisterFailed, format!("{address}: {e}"));
    TcpListener::bind(address).await.map_err(failed)
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|e| Failure::new(Code::RegisterFailed, format!("a listener: {e}")))
}

/// Resolves when it is time to stop, also if nobody is left to say so.
async fn told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn limits(settings: &Settings) -> Limits {
    let limits = &settings.server.limits;
    Limits {
        connections: limits.connections,
        header_bytes: limits.header_bytes,
        headers: limits.header_time,
        request: limits.request_time,
        idle: limits.idle_time,
        drain: limits.drain_time,
    }
}

fn rpc_limits(settings: &Settings) -> RpcLimits {
    let limits = &settings.server.limits;
    RpcLimits {
        connections: limits.connections,
        connections_per_address: limits.connections_per_peer,
        header_bytes: u32::try_from(limits.header_bytes).unwrap_or(u32::MAX),
        message_bytes: limits.body_bytes,
        headers: limits.header_time,
        request: limits.request_time,
        idle: limits.idle_time,
        drain: limits.drain_time,
        ..RpcLimits::default()
    }
}
