//! Intel TDX through configfs-tsm (provider `tdx_guest`, kernel 6.7 and later), with the firmware's record of events.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use async_trait::async_trait;
use cocoon_evidence::dcap::Body;
use cocoon_evidence::eventlog::Algorithm;
use cocoon_evidence::tdx::Evidence;
use cocoon_protocol::Tee;
use cocoon_stage::Failure;
use serde_json::Value;

use crate::measured::Measured;
use crate::{Aael, Attester, padded, tsm, unavailable};

/// The record, as ACPI's table CCEL names it; absent where the firmware keeps none.
const EVENTS: &str = "/sys/firmware/acpi/tables/data/CCEL";
/// Longest record that is sent.
const MAX_EVENTS: u64 = 512 * 1024;

/// RTMR 3, which nothing else extends in this guest (kernel 6.16 and later).
const REGISTER: &str = "/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384";
/// RTMR 3 as event logs call it: one more than its number.
const INDEX: u32 = 4;

pub(crate) struct TdxAttester {
    measured: Measured,
}

impl TdxAttester {
    pub(crate) fn new() -> Self {
        TdxAttester { measured: Measured::new(Algorithm::Sha384, INDEX) }
    }
}

#[async_trait]
impl Attester for TdxAttester {
    fn tee(&self) -> Tee {
        Tee::Tdx
    }

    fn simulated(&self) -> bool {
        false
    }

    /// The beginning of MRCONFIGID: a digest of 32 bytes, or so much of a longer one.
    fn bound(&self, evidence: &Value) -> Option<[u8; 32]> {
        match Evidence::from_json(evidence).ok()?.quote.body {
            Body::Td(report) => report.mr_config_id.first_chunk().copied(),
            Body::Enclave(_) => None,
        }
    }

    async fn evidence(&self, report_data: &[u8]) -> Result<Value, Failure> {
        let field = padded(report_data)?;
        let make = async |events: Option<Vec<u8>>| {
            let answer = tokio::task::spawn_blocking(move || tsm::report("tdx_guest", &field))
                .await
                .map_err(|e| unavailable(e.to_string()))??;
            let evidence = Evidence::new(&answer.report, events.as_deref())
                .map_err(|e| unavailable(format!("TDX quote: {e}")))?;
            Ok(evidence.to_json())
        };
        self.measured.with(events(Path::new(EVENTS)), make).await
    }

    async fn measure(&self, event: &Aael<'_>) -> Result<bool, Failure> {
        if !Path::new(REGISTER).exists() {
            // Earlier kernels let nobody extend it.
            return Ok(false);
        }
        let extend = async |digest: Vec<u8>| {
            let write = move || std::fs::write(REGISTER, digest);
            let written = tokio::task::spawn_blocking(write).await.map_err(|e| unavailable(e.to_string()))?;
            written.map_err(|e| unavailable(format!("extend RTMR 3: {e}")))
        };
        self.measured.add(event, extend).await.map(|()| true)
    }
}

/// The record with the unused rest of its area, which readers know; `None` where there is none, or one that is too long.
fn events(path: &Path) -> Option<Vec<u8>> {
    let mut record = Vec::new();
    File::open(path).ok()?.take(MAX_EVENTS + 1).read_to_end(&mut record).ok()?;
    let fits = u64::try_from(record.len()).is_ok_and(|length| length <= MAX_EVENTS);
    (fits && !record.is_empty()).then_some(record)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn the_launch_is_bound_by_mrconfigid() {
        let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
        let folder = std::env::var_os("COCOON_VECTORS").map_or_else(own, Into::into);
        let Ok(quote) = std::fs::read(folder.join("tdx/tdx_quote_4.dat")) else {
            return println!("skipped: no recorded quote");
        };
        let evidence = serde_json::json!({"quote": STANDARD.encode(&quote), "cc_eventlog": null});
        // MRCONFIGID is at offset 184 of the report, which follows a header of 48 bytes.
        assert_eq!(TdxAttester::new().bound(&evidence).unwrap(), quote[48 + 184..][..32]);
        assert_eq!(TdxAttester::new().bound(&serde_json::json!({"quote": "AAAA"})), None);
    }

    #[test]
    fn records_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("CCEL");
        assert_eq!(events(&file), None);
        std::fs::write(&file, [1, 2, 0xff]).unwrap();
        assert_eq!(events(&file), Some(vec![1, 2, 0xff]));
        std::fs::write(&file, vec![0; usize::try_from(MAX_EVENTS).unwrap() + 1]).unwrap();
        assert_eq!(events(&file), None);
    }
}
