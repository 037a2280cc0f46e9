//! Where Trustee gets vendors' documents: the cache, then vendors, a mirror, or a folder. And NVIDIA's service of verdicts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cocoon_collateral::{
    Bounds, Config, Endpoint, Folder, Nras, Online, Service, Sources, Update, system_clock,
};
use cocoon_config::{CollateralSettings, Settings};
use cocoon_evidence::collateral::Need;
use cocoon_evidence::nvidia::{Device, Evidence};
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{CollateralSource, Gathered, RemoteVerifier};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// How long it may wait for NVIDIA's service after that; both are within the time that a request has by default.
const REMOTE_BUDGET: Duration = Duration::from_secs(14);

/// How often documents that will soon be over are looked for.
const RENEWAL: Duration = Duration::from_secs(3600);

/// The source that the settings ask for; `folder` is the cache.
pub fn source(settings: &Settings, folder: &Path) -> Result<Arc<dyn CollateralSource>, Failure> {
    let settings = &settings.attestation.verifiers.collateral;
    let folder = settings.offline.as_deref().unwrap_or(folder);
    let cache = Folder::open(folder, Bounds::default())?;
    let sources = sources(settings)?;
    let service = Service::new(Config::new(Some(cache), sources));
    let renewed = service.clone();
    let renewal = tokio::spawn(async move {
        let mut hours = tokio::time::interval(RENEWAL);
        loop {
            hours.tick().await;
            renewed.renew();
        }
    });
    Ok(Arc::new(Waiting { service, runtime: Handle::current(), renewal }))
}

fn sources(settings: &CollateralSettings) -> Result<Sources, Failure> {
    let update = if settings.early { Update::Early } else { Update::Standard };
    if let Some(folder) = &settings.offline {
        return Ok(Sources::offline(folder, update));
    }
    if !settings.fetch {
        return Ok(Sources::none());
    }
    let mut online = Online { update, ..Online::default() };
    if let Some(url) = &settings.amd_url {
        online.amd = Endpoint::new(url);
    }
    if let Some(url) = &settings.intel_url {
        online.intel = Endpoint::new(url);
    }
    if let Some(url) = &settings.nvidia_url {
        online.nvidia = Endpoint::new(url);
    }
    if let Some(file) = &settings.ca {
        let pem = std::fs::read_to_string(file)
            .map_err(|e| Failure::new(Code::ConfigInvalid, format!("{}: {e}", file.display())))?;
        online.intel.roots = Some(pem);
    }
    Ok(Sources::online(&online)?)
}

/// Appraisal runs on threads that may wait; fetching does not.
struct Waiting {
    service: Service,
    runtime: Handle,
    renewal: JoinHandle<()>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A reload makes a source of its own.
        self.renewal.abort();
    }
}

impl CollateralSource for Waiting {
    fn gather(&self, needs: &[Need], _: u64, budget: Duration) -> Gathered {
        let found = self.runtime.block_on(self.service.gather(needs, budget));
        let notes = found.notes.into_iter().filter_map(|note| Some((note.need, note.reason?))).collect();
        Gathered { collateral: found.collateral, notes }
    }

    fn doubt(&self, needs: &[Need]) {
        needs.iter().for_each(|need| self.service.doubt(need));
    }
}

/// NVIDIA's remote attestation service, where the settings name it.
pub fn nvidia_remote(settings: &Settings) -> Result<Option<Arc<dyn RemoteVerifier>>, Failure> {
    let Some(url) = &settings.attestation.verifiers.nvidia_remote_url else { return Ok(None) };
    let nras = Nras::new(&Endpoint::new(url), Nras::TIMES, system_clock())?;
    Ok(Some(Arc::new(Asking { nras, runtime: Handle::current() })))
}

/// As [`Waiting`], of the service.
struct Asking {
    nras: Nras,
    runtime: Handle,
}

impl RemoteVerifier for Asking {
    fn verify(&self, evidence: &Evidence, report_data: &[u8], now_unix: u64) -> Vec<Device> {
        self.runtime.block_on(self.nras.verify(evidence, report_data, now_unix, REMOTE_BUDGET))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nvidias_service_is_asked_only_if_it_is_named() {
        let remote = |text: &str| nvidia_remote(&cocoon_config::parse(text).unwrap()).unwrap();
        assert!(remote("").is_none());
        assert!(remote("attestation.nvidia.remote_url = 'https://nras.example'").is_some());
        let query =
            cocoon_config::parse("attestation.nvidia.remote_url = 'https://nras.example/?x'").unwrap();
        assert_eq!(nvidia_remote(&query).err().map(|failure| failure.code), Some(Code::ConfigInvalid));
    }
}
