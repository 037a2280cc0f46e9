//! Where Trustee gets vendors' documents: the cache, then vendors, a mirror, or a folder. And NVIDIA's service of verdicts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cocoon_collateral::{
    Bounds, Config, Endpoint, Folder, Nras, Online, Policy, Service, Sources, Update, system_clock,
};
use cocoon_config::{CollateralSettings, Settings};
use cocoon_evidence::collateral::Need;
use cocoon_evidence::nvidia::{Device, Evidence};
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{CollateralSource, Gathered, RemoteVerifier};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How long it may wait for NVIDIA's service after that; both are within the time that a request has by default.
const REMOTE_BUDGET: Duration = Duration::from_secs(14);

/// How many attestations may wait for documents at once; others get what is in memory.
const MAX_WAITING: usize = 64;

/// How old a document of an offline folder may become before the folder is looked into again.
const OFFLINE_REFRESH: Duration = Duration::from_secs(60);

/// How often documents that will soon be over are looked for.
const RENEWAL: Duration = Duration::from_secs(3600);

/// The source that the settings ask for; `folder` is the cache.
pub fn source(settings: &CollateralSettings, folder: &Path) -> Result<Arc<dyn CollateralSource>, Failure> {
    if let Some(offline) = settings.offline.as_deref().filter(|folder| !folder.is_dir()) {
        // A cache may begin empty; a folder that an operator has filled is there.
        return Err(super::invalid(
            "attestation.offline_collateral",
            format!("{}: no such folder", offline.display()),
        ));
    }
    let mut config = Config::new(None, sources(settings)?);
    match &settings.offline {
        // What the operator puts there counts at once.
        Some(folder) => {
            config.folder = Some(Folder::open(folder, Bounds::default())?);
            config.policy = Policy { refresh: OFFLINE_REFRESH, least: OFFLINE_REFRESH };
        }
        None => config.folder = Some(Folder::open(folder, Bounds::default())?),
    }
    let service = Service::new(config);
    let renewed = service.clone();
    let renewal = tokio::spawn(async move {
        let mut hours = tokio::time::interval(RENEWAL);
        loop {
            hours.tick().await;
            renewed.renew();
        }
    });
    let waiting = Semaphore::new(MAX_WAITING);
    Ok(Arc::new(Waiting { service, runtime: Handle::current(), renewal, waiting }))
}

/// The source of a Trustee that nobody has set anything for.
pub fn usual(folder: &Path) -> Result<Arc<dyn CollateralSource>, Failure> {
    let wrong = |_| Failure::new(Code::Internal, "the settings' defaults contradict each other");
    let settings = cocoon_config::parse("").map_err(wrong)?;
    source(&settings.attestation.verifiers.collateral, folder)
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
        let key = "attestation.collateral_ca";
        let pem = super::read(key, file)?;
        let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).peekable();
        if certificates.peek().is_none() || certificates.any(|certificate| certificate.is_err()) {
            return Err(super::invalid(key, format!("{}: not certificates in PEM", file.display())));
        }
        online.intel.roots = Some(pem.to_string());
    }
    Ok(Sources::online(&online)?)
}

/// Appraisal runs on threads that may wait; fetching does not.
struct Waiting {
    service: Service,
    runtime: Handle,
    renewal: JoinHandle<()>,
    waiting: Semaphore,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A reload makes a source of its own.
        self.renewal.abort();
    }
}

impl CollateralSource for Waiting {
    fn gather(&self, needs: &[Need], _: u64, budget: Duration) -> Gathered {
        // The threads that wait here must leave some for those who read files for them.
        let budget = self.waiting.try_acquire().map_or((Duration::ZERO, None), |turn| (budget, Some(turn)));
        let found = self.runtime.block_on(self.service.gather(needs, budget.0));
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
    use cocoon_stage::Code;

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
