//! The Sandbox service: configuration once, status, shutdown. Every request is hostile input.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_sandbox_api::sandbox::{
    ConfigureRequest, ConfigureResponse, PutFilesRequest, PutFilesResponse, ShutdownRequest,
    ShutdownResponse, StatusRequest, StatusResponse, TerminationMessageRequest, TerminationMessageResponse,
};
use cocoon_sandbox_api::{sandbox_ttrpc, to_ttrpc};
use cocoon_stage::{Code, Failure};
use ttrpc::r#async::TtrpcContext;

use crate::network::Network;
use crate::open::HostSettings;
use crate::pod::Pod;
use crate::volumes::Piece;

/// The service.
pub(crate) struct SandboxService(pub(crate) Arc<Pod>);

/// Where containers' name resolution files lie.
pub(crate) const ETC: &str = "/run/cocoon/etc";

fn refuse(failure: Failure) -> ttrpc::Error {
    crate::console::report(&failure);
    to_ttrpc(&failure.for_host())
}

#[async_trait]
impl sandbox_ttrpc::Sandbox for SandboxService {
    async fn configure(
        &self,
        _: &TtrpcContext,
        request: ConfigureRequest,
    ) -> ttrpc::Result<ConfigureResponse> {
        let network = Network::check(&request).map_err(|e| refuse(e.into()))?;
        let apply = || network.apply().and_then(|()| network.write_files(Path::new(ETC), Path::new("/etc")));
        let host = HostSettings {
            sysctls: request.sysctls.iter().map(|(n, v)| (n.clone(), v.clone())).collect(),
            share_process_namespace: request.share_process_namespace,
        };
        self.0.configure(network.hostname.clone(), network.host_loopback, host, apply).map_err(refuse)?;
        Ok(ConfigureResponse::new())
    }

    async fn status(&self, _: &TtrpcContext, _: StatusRequest) -> ttrpc::Result<StatusResponse> {
        let (state, failure) = self.0.status();
        let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Ok(StatusResponse {
            state: state.into(),
            failure: failure.and_then(|f| serde_json::to_string(&f.for_host()).ok()).unwrap_or_default(),
            rss_bytes: figure(&memory, "VmRSS:"),
            peak_rss_bytes: figure(&memory, "VmHWM:"),
            ..StatusResponse::default()
        })
    }

    async fn put_files(
        &self,
        _: &TtrpcContext,
        mut request: PutFilesRequest,
    ) -> ttrpc::Result<PutFilesResponse> {
        let volumes = self.0.volumes().map_err(refuse)?;
        if self.0.is_open() {
            // Files come before the container whose document tells of them.
            let volume = cocoon_plan::open::files_volume(&request.volume);
            volume.and_then(|v| volumes.add(&[v])).map_err(refuse)?;
        }
        for file in &mut request.files {
            let whole = file.offset == 0;
            self.0.unseal_file(&request.volume, &file.path, whole, &mut file.data).await.map_err(refuse)?;
        }
        let put = tokio::task::spawn_blocking(move || {
            let pieces = request.files.iter().map(|f| Piece {
                path: &f.path,
                mode: f.mode,
                uid: f.uid,
                gid: f.gid,
                offset: f.offset,
                data: &f.data,
            });
            volumes.put(&request.volume, request.generation, &pieces.collect::<Vec<_>>(), request.commit)
        });
        let lost = |_| refuse(Failure::new(Code::Internal, "the files' way ended without a result"));
        put.await.map_err(lost)?.map_err(refuse)?;
        Ok(PutFilesResponse::new())
    }

    async fn termination_message(
        &self,
        _: &TtrpcContext,
        request: TerminationMessageRequest,
    ) -> ttrpc::Result<TerminationMessageResponse> {
        let message = self.0.termination_message(&request.id).map_err(refuse)?;
        Ok(TerminationMessageResponse { message, ..TerminationMessageResponse::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<ShutdownResponse> {
        self.0.shut_down().await;
        Ok(ShutdownResponse::new())
    }
}

/// A line of `/proc/self/status`, in bytes.
fn figure(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")).and_then(|l| l.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn memory_figures_are_read() {
        let status = "Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(figure(status, "VmRSS:"), 10 << 20);
        assert_eq!(figure(status, "VmHWM:"), 20 << 20);
        assert_eq!(figure("", "VmRSS:"), 0);
    }
}
