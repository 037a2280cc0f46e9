//! Where Trustee gets vendors' documents: the cache, then vendors, a mirror, or a folder.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cocoon_collateral::{Bounds, Config, Endpoint, Folder, Online, Service, Sources, Update};
use cocoon_config::{CollateralSettings, Settings};
use cocoon_evidence::collateral::Need;
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{CollateralSource, Gathered};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// How long one attestation may wait for documents that are not at hand.
const BUDGET: Duration = Duration::from_secs(12);

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
    fn gather(&self, needs: &[Need], _: u64) -> Gathered {
        let found = self.runtime.block_on(self.service.gather(needs, BUDGET));
        let notes = found.notes.into_iter().filter_map(|note| Some((note.need, note.reason?))).collect();
        Gathered { collateral: found.collateral, notes }
    }
}
