//! Evidence of a TPM, and the proof of its attestation key.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cocoon_evidence::eventlog::Algorithm;
use cocoon_evidence::tpm::Public;
use cocoon_protocol::tpm::{Candidature, CredentialChallenge};
use cocoon_protocol::{Tee, b64};
use cocoon_stage::Failure;
use serde_json::{Value, json};

use super::commands::{Loaded, Tpm};
use super::device::{DEVICE, Device, bind, bound};
use super::extended;
use super::wire::Channel;
use crate::measured::Measured;
use crate::{Aael, Attester, KeyProof, unavailable};

/// Where the maker's certificate of the RSA 2048 endorsement key is (EK Credential Profile 2.5, 2.2.1.4).
const CERTIFICATE: u32 = 0x01c0_0002;
/// Events of the boot, as firmware and kernel recorded them (TCG PC Client Platform Firmware Profile, 10).
const EVENTS: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// The register for the workload's measurements: for applications, by the PC Client profile (3.3.4.14); extended by any
/// locality, and reset by the machine's owner alone.
const REGISTER: u32 = 23;
/// Longest record that is sent; what is longer is left out.
const MAX_EVENTS: u64 = 512 * 1024;

/// The attester of a guest whose only root of trust is a TPM.
pub(crate) struct TpmAttester {
    open: Box<dyn Fn() -> std::io::Result<Box<dyn Channel>> + Send + Sync>,
    events: PathBuf,
    bound: Box<dyn Fn() -> Option<[u8; 32]> + Send + Sync>,
    ready: Arc<Mutex<Option<Ready>>>,
    measured: Measured,
}

/// The attester of a TPM behind another channel than the kernel's device (a simulator's socket), after `digest`, a SHA-256, was
/// put into register 8. The channel is opened once.
///
/// # Errors
/// As [`super::bind_initdata`].
pub fn attester_over(mut channel: Box<dyn Channel>, digest: &[u8]) -> Result<Arc<dyn Attester>, Failure> {
    let digest = bind(&mut Tpm::new(&mut channel), digest)?;
    let once = Mutex::new(Some(channel));
    let open = move || {
        let mut once = once.lock().unwrap_or_else(PoisonError::into_inner);
        once.take().ok_or_else(|| std::io::Error::other("the channel was opened before"))
    };
    Ok(Arc::new(TpmAttester::over(open, Path::new(EVENTS), move || Some(digest))))
}

/// The TPM with its keys loaded; they stay for as long as the device is open.
struct Ready {
    tpm: Tpm<Box<dyn Channel>>,
    attestation: Loaded,
    /// Of the attestation key, SubjectPublicKeyInfo.
    spki: Vec<u8>,
    /// Made when it is first asked for.
    endorsement: Option<Loaded>,
}

impl TpmAttester {
    /// That of the kernel's TPM.
    pub(crate) fn new() -> Self {
        TpmAttester::over(|| Ok(Box::new(Device::open(Path::new(DEVICE))?)), Path::new(EVENTS), bound)
    }

    /// That of another.
    pub(super) fn over(
        open: impl Fn() -> std::io::Result<Box<dyn Channel>> + Send + Sync + 'static,
        events: &Path,
        bound: impl Fn() -> Option<[u8; 32]> + Send + Sync + 'static,
    ) -> Self {
        TpmAttester {
            open: Box::new(open),
            events: events.to_owned(),
            bound: Box::new(bound),
            ready: Arc::default(),
            measured: Measured::new(Algorithm::Sha256, REGISTER),
        }
    }

    /// Runs work on the TPM on a thread that may wait: it takes milliseconds in software, seconds in some hardware.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ready) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let first = {
            let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.is_none()
        };
        let channel = match first {
            true => Some((self.open)().map_err(|e| unavailable(format!("{DEVICE}: {e}")))?),
            false => None,
        };
        let ready = Arc::clone(&self.ready);
        let work = move || {
            let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
            let ready = match (&mut *ready, channel) {
                (Some(ready), _) => ready,
                (empty, Some(channel)) => empty.insert(Ready::new(channel)?),
                (None, None) => return Err(unavailable("the TPM was lost")),
            };
            work(ready)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| unavailable(e.to_string()))?
    }
}

fn failed(error: super::Error) -> Failure {
    unavailable(error.to_string())
}

impl Ready {
    fn new(channel: Box<dyn Channel>) -> Result<Self, Failure> {
        let mut tpm = Tpm::new(channel);
        let attestation = tpm.attestation_key().map_err(failed)?;
        let public = Public::parse(&attestation.public).and_then(|public| public.key().to_spki());
        let spki = public.map_err(|e| unavailable(format!("attestation key: {e}")))?;
        Ok(Ready { tpm, attestation, spki, endorsement: None })
    }

    fn endorsement(&mut self) -> Result<Loaded, Failure> {
        if let Some(key) = &self.endorsement {
            return Ok(key.clone());
        }
        let key = self.tpm.endorsement_key().map_err(failed)?;
        Ok(self.endorsement.insert(key).clone())
    }

    fn evidence(&mut self, data: &[u8; 32], events: Option<Vec<u8>>) -> Result<Value, Failure> {
        let (message, signature) = self.tpm.quote(&self.attestation, data).map_err(failed)?;
        let registers = self.tpm.registers().map_err(failed)?;
        let pcrs: Vec<String> = registers.iter().map(|value| hex(value)).collect();
        let mut evidence = json!({
            "ak_public": b64::std_encode(&self.spki),
            "ak_tpm_public": b64::std_encode(&self.attestation.public),
            "tpm_quote": {
                "message": b64::std_encode(&message),
                "signature": b64::std_encode(&signature),
                "pcrs": pcrs,
            },
        });
        if let (Some(events), Some(members)) = (events, evidence.as_object_mut()) {
            members.insert("event_log".to_owned(), b64::std_encode(&events).into());
        }
        Ok(evidence)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The record of events; `None` where there is none, or one that is too long.
fn events(path: &Path) -> Option<Vec<u8>> {
    let mut record = Vec::new();
    File::open(path).ok()?.take(MAX_EVENTS + 1).read_to_end(&mut record).ok()?;
    (!record.is_empty() && u64::try_from(record.len()).is_ok_and(|length| length <= MAX_EVENTS))
        .then_some(record)
}

#[async_trait]
impl Attester for TpmAttester {
    fn tee(&self) -> Tee {
        Tee::Tpm
    }

    fn simulated(&self) -> bool {
        // What kind of TPM it is, its certificate says, and to Trustee.
        false
    }

    /// Register 8 holds what this boot has put there, and nothing else.
    fn bound(&self, evidence: &Value) -> Option<[u8; 32]> {
        let digest = (self.bound)()?;
        let register = evidence.pointer("/tpm_quote/pcrs/8")?.as_str()?;
        (register == hex(&extended(&digest))).then_some(digest)
    }

    async fn evidence(&self, report_data: &[u8]) -> Result<Value, Failure> {
        // The verifier cuts and pads its expectation in the same way.
        let mut data = [0; 32];
        data.iter_mut().zip(report_data).for_each(|(to, from)| *to = *from);
        let make = async |events| self.with(move |ready| ready.evidence(&data, events)).await;
        self.measured.with(events(&self.events), make).await
    }

    async fn measure(&self, event: &Aael<'_>) -> Result<bool, Failure> {
        let extend = async |digest: Vec<u8>| {
            let digest: [u8; 32] =
                digest.try_into().map_err(|_| unavailable("a digest of another length"))?;
            self.with(move |ready| ready.tpm.extend(REGISTER, &digest).map_err(failed)).await
        };
        self.measured.add(event, extend).await.map(|()| true)
    }

    fn key_proof(&self) -> Option<&dyn KeyProof> {
        Some(self)
    }
}

#[async_trait]
impl KeyProof for TpmAttester {
    async fn candidature(&self) -> Result<Candidature, Failure> {
        self.with(|ready| {
            let endorsement = ready.endorsement()?;
            // A TPM without a certificate may still be known by its attestation key.
            let certificate = ready.tpm.nv(CERTIFICATE).unwrap_or_default();
            let certificates = if certificate.is_empty() { Vec::new() } else { vec![der(&certificate)] };
            Ok(Candidature {
                ek_public: b64::std_encode(&endorsement.public),
                ek_certificates: certificates.iter().map(|der| b64::std_encode(der)).collect(),
                ak_public: b64::std_encode(&ready.attestation.public),
            })
        })
        .await
    }

    async fn activate(&self, challenge: &CredentialChallenge) -> Result<Vec<u8>, Failure> {
        let decode = |text: &str| b64::std_decode(text).ok().filter(|bytes| bytes.len() <= 1024);
        let parts = (decode(&challenge.credential_blob), decode(&challenge.encrypted_secret));
        let (Some(blob), Some(secret)) = parts else {
            return Err(unavailable("Trustee's challenge for the TPM is malformed"));
        };
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| unavailable("no random numbers"))?;
        self.with(move |ready| {
            let endorsement = ready.endorsement()?;
            ready.tpm.activate(&ready.attestation, &endorsement, &blob, &secret, &nonce).map_err(failed)
        })
        .await
    }
}

/// A certificate without what fills up its place: some makers reserve more than it needs.
fn der(content: &[u8]) -> Vec<u8> {
    let length = match content {
        [0x30, 0x82, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])).saturating_add(4),
        _ => content.len(),
    };
    content.get(..length).unwrap_or(content).to_vec()
}

#[cfg(test)]
#[path = "attester_tests.rs"]
mod tests;
