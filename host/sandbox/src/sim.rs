//! The simulated secure processor as a service behind vsock: plays AMD's part for a VM without a TEE.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cocoon_measure::sim::BootDigests;
use cocoon_sim::{GuestContext, SecureProcessor};
use cocoon_stage::{Code, Failure};
use cocoon_vsock::{Listener, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// SNP guest policy: ABI 0.0, SMT allowed, nothing else (bit 17 is always one).
const POLICY: u64 = 0x3_0000;
/// Limit for one request.
const LIMIT: Duration = Duration::from_secs(20);
/// The report of an earlier run, as a replaying host would keep it.
const RECORDED: &str = "recorded-report.bin";

/// What the service needs.
pub(crate) struct SimService {
    pub(crate) processor: Arc<SecureProcessor>,
    /// The launch measurement, once the booted files are hashed.
    pub(crate) measurement: watch::Receiver<Option<[u8; 48]>>,
    pub(crate) host_data: [u8; 32],
    /// What all reports of this guest, and no other's, are marked with.
    pub(crate) report_id: [u8; 32],
    /// Where reports are recorded.
    pub(crate) dir: PathBuf,
    /// Answer with the recorded report instead of a new one.
    pub(crate) replay: bool,
}

impl SimService {
    /// Serves requests until the listener's VM is gone.
    pub(crate) async fn serve(self, mut listener: Listener) {
        let service = Arc::new(self);
        while let Some(stream) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                match tokio::time::timeout(LIMIT, service.answer(stream)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => tracing::warn!(error = %e, "simulated secure processor"),
                    Err(_) => {
                        tracing::warn!("simulated secure processor: the guest did not finish its request")
                    }
                }
            });
        }
    }

    async fn answer(&self, mut stream: Stream) -> Result<(), Failure> {
        let io = |e: std::io::Error| Failure::new(Code::AttestEvidenceUnavailable, e.to_string());
        let mut report_data = [0; 64];
        stream.read_exact(&mut report_data).await.map_err(io)?;
        let mut measurement = self.measurement.clone();
        let measurement =
            measurement.wait_for(Option::is_some).await.ok().and_then(|m| *m).ok_or_else(|| {
                Failure::new(Code::AttestEvidenceUnavailable, "the boot files could not be measured")
            })?;
        let context = GuestContext { measurement, host_data: self.host_data, policy: POLICY };
        let report = self.processor.report_of(&context, self.report_id, &report_data)?;
        let recorded = self.dir.join(RECORDED);
        let report = if self.replay { std::fs::read(&recorded).map_err(io)? } else { report.to_vec() };
        let vcek = self.processor.vcek_der();
        for part in [report.as_slice(), vcek] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            stream.write_all(&length.to_le_bytes()).await.map_err(io)?;
            stream.write_all(part).await.map_err(io)?;
        }
        stream.shutdown().await.map_err(io)?;
        if !self.replay {
            // Best effort: only demonstrations of a replaying host read it.
            let _ = std::fs::write(&recorded, &report);
        }
        Ok(())
    }
}

/// Hashes the files that are booted and computes their launch measurement.
pub(crate) fn measure(
    firmware: &Path,
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
    cpus: u32,
) -> Result<[u8; 48], std::io::Error> {
    // Piece by piece: a shim is there for each pod, and memory that it once had it keeps.
    let firmware = File::open(firmware)?;
    let length = firmware.metadata()?.len();
    let (kernel, initrd) = (File::open(kernel)?, File::open(initrd)?);
    Ok(BootDigests::read((firmware, length), kernel, initrd, cmdline)?.launch_digest(cpus))
}
