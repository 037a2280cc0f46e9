//! The embedded Trustee: the same server code as `cocoon trustee serve`, in this process, with its state in the
//! user's data folder. Several `cocoon` processes share that state safely.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cocoon_evidence::x509::Certificate;
use cocoon_image::encryption::KEK_BYTES;
use cocoon_sim::SecureProcessor;
use cocoon_stage::{Code, Failure, Stage};
use cocoon_store::{RedbStore, Sealer, Store};
use cocoon_trustee::{Config, Live, ResourcePath, Tls, Trustee};
use serde_json::Value;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::dirs;

/// The embedded Trustee, opened.
pub struct Embedded {
    trustee: Trustee,
    store: Arc<dyn Store>,
    state: PathBuf,
}

/// The names under which a Trustee on this machine is reached; guests with user networking reach it by them too.
pub const LOOPBACK_NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// The folder of the simulated secure processor's keys.
pub fn sim_dir() -> Result<PathBuf, Failure> {
    Ok(dirs::data_dir()?.join("sim"))
}

/// Opens (or makes) the state folder's store and sealing key, to share it with other processes.
fn open_state(state: &Path) -> Result<(Arc<dyn Store>, Arc<Sealer>), Failure> {
    let store = open_store(state, false)?;
    let sealer = Sealer::open_or_create(&state.join("seal.key"))?;
    Ok((store, Arc::new(sealer)))
}

/// Makes a state folder that only its owner may enter, where there is none.
pub fn make_folder(state: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(|e| Failure::new(Code::RegisterFailed, format!("{}: {e}", state.display())))
}

/// Opens (or makes) the state folder's store. `exclusive` keeps other processes out.
pub fn open_store(state: &Path, exclusive: bool) -> Result<Arc<dyn Store>, Failure> {
    make_folder(state)?;
    let file = state.join("state.redb");
    let store = if exclusive { RedbStore::open_exclusive(&file)? } else { RedbStore::open_shared(&file)? };
    Ok(Arc::new(store))
}

/// Reference values by name: what the guest image measures to, and the simulated processor's TCB.
pub fn simulated_references(
    processor: &SecureProcessor,
    measurements: &BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, Vec<Value>> {
    let tcb = processor.tcb();
    // The file beside a guest image speaks for simulated guests only, whatever names it holds.
    let measured = measurements
        .iter()
        .filter(|(name, _)| *name == "sim_launch_measurement")
        .map(|(name, values)| (name.clone(), values.iter().cloned().map(Value::from).collect()));
    let platform = [
        ("sim_bootloader", tcb.bootloader),
        ("sim_microcode", tcb.microcode),
        ("sim_snp_svn", tcb.snp),
        ("sim_tee_svn", tcb.tee),
    ];
    measured.chain(platform.map(|(name, value)| (name.to_owned(), vec![value.into()]))).collect()
}

/// Reference values by name for a guest whose boot a TPM measures. A TPM that is this machine's own is a simulated one, to
/// the Trustee in this process; any other Trustee that trusts it says so by its maker's roots.
pub fn tpm_references(
    registers: &BTreeMap<String, Vec<String>>,
    simulated: bool,
) -> BTreeMap<String, Vec<Value>> {
    let named = |name: &String| if simulated { format!("sim_{name}") } else { name.clone() };
    registers.iter().map(|(n, v)| (named(n), v.iter().cloned().map(Value::from).collect())).collect()
}

/// The audit log's journal in a state folder.
pub const JOURNAL: &str = "audit.journal";

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Embedded {
    /// Opens the embedded Trustee; `simulated` is the processor whose evidence it accepts, if any.
    pub fn open(simulated: Option<&SecureProcessor>) -> Result<Self, Failure> {
        Embedded::open_with(simulated, Vec::new())
    }

    /// Opens it; it accepts TPMs too whose endorsement keys these certificates certify, as simulated ones.
    pub fn open_with(simulated: Option<&SecureProcessor>, tpms: Vec<Certificate>) -> Result<Self, Failure> {
        let state = dirs::data_dir()?.join("trustee");
        let (store, sealer) = open_state(&state)?;
        let mut config = Config::new(store.clone(), sealer);
        config.journal = Some(state.join(JOURNAL));
        config.live.simulated_roots = simulated.map(SecureProcessor::root).into_iter().collect();
        // This machine's own authority certifies no TPMs but this machine's.
        config.live.trust.tpm.any_of_roots = !tpms.is_empty();
        config.live.trust.tpm.simulated_roots = tpms;
        Ok(Embedded { trustee: Trustee::new(config)?, store, state })
    }

    /// Serves on a free loopback port until `shutdown`; gives the address and the certificate that guests must pin.
    pub async fn serve(
        &self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(SocketAddr, String), Failure> {
        let failed = |e: std::io::Error| Failure::new(Code::RegisterFailed, format!("embedded Trustee: {e}"));
        // What `cocoon collateral` keeps, and vendors for what real guests do not bring. A simulated one needs neither.
        let collateral = crate::trustee::usual_collateral(&self.state.join("collateral"))?;
        self.trustee.reload(Live { collateral, ..self.trustee.live() })?;
        let tls: Tls = cocoon_trustee::self_signed(&self.state, &LOOPBACK_NAMES, now())?;
        let certificate = tls.cert_chain_pem.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let trustee = self.trustee.clone();
        tokio::spawn(async move {
            if let Err(e) = cocoon_trustee::serve(trustee, listener, Some(tls), shutdown).await {
                tracing::warn!(error = %e, "embedded Trustee");
            }
        });
        Ok((address, certificate))
    }

    /// The Trustee itself.
    pub fn trustee(&self) -> &Trustee {
        &self.trustee
    }

    /// Its state.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A shared secret's value.
    pub fn secret(&self, path: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        Ok(self.trustee.secret(&resource_path(path)?)?)
    }

    /// The key-encryption key at a path, made where there is none: several layers, or images, may share one.
    pub fn image_key(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if let Some(key) = self.secret(path)? {
            return Ok(key);
        }
        let mut key = Zeroizing::new(vec![0; KEK_BYTES]);
        aws_lc_rs::rand::fill(&mut key).map_err(|_| Failure::new(Code::Internal, "no random numbers"))?;
        // Of two that make it at once, both must go on with the one that was kept.
        if self.trustee.put_secret_if_absent(&resource_path(path)?, &key)? {
            return Ok(key);
        }
        self.secret(path)?
            .ok_or_else(|| Failure::new(Code::ReleaseSecretMissing, format!("{path} was removed just now")))
    }
}

/// A resource path from a person.
pub fn resource_path(path: &str) -> Result<ResourcePath, Failure> {
    path.parse::<ResourcePath>()
        .map_err(|e| Failure::new(Code::PlanSecretInvalid, format!("{path:?}: {e}")).at(Stage::Register))
}
