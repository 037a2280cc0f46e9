//! The simulated secure processor: a service of the host's sandbox process behind vsock port 1026.
//!
//! The guest sends 64 bytes of report data; the host answers with a genuine-format SNP report and a VCEK
//! certificate, each after its length (u32 LE). The answer proves nothing by itself: the guest passes it on, and
//! only a Trustee told to accept the simulated root believes it.

use std::time::Duration;

use async_trait::async_trait;
use cocoon_evidence::snp::{CertEntry, Evidence, Report};
use cocoon_protocol::Tee;
use cocoon_stage::Failure;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_vsock::{VMADDR_CID_HOST, VsockAddr, VsockStream};

use crate::{Attester, padded, snp_host_data, unavailable};

const PORT: u32 = 1026;
const LIMIT: Duration = Duration::from_secs(20);
/// Largest certificate accepted, in bytes.
const MAX_CERTIFICATE: usize = 16 << 10;

pub(crate) struct SimAttester;

#[async_trait]
impl Attester for SimAttester {
    fn tee(&self) -> Tee {
        Tee::Snp
    }

    fn simulated(&self) -> bool {
        true
    }

    fn bound(&self, evidence: &Value) -> Option<[u8; 32]> {
        snp_host_data(evidence)
    }

    async fn evidence(&self, report_data: &[u8]) -> Result<Value, Failure> {
        let field = padded(report_data)?;
        let work = async {
            let mut stream = VsockStream::connect(VsockAddr::new(VMADDR_CID_HOST, PORT)).await?;
            exchange(&mut stream, &field).await
        };
        let (report, vcek) = tokio::time::timeout(LIMIT, work)
            .await
            .map_err(|_| unavailable("the simulated secure processor did not answer"))?
            .map_err(|e| unavailable(format!("no TEE device, and no simulated secure processor: {e}")))?;
        let report = Report::parse(&report).map_err(|e| unavailable(format!("simulated report: {e}")))?;
        let cert_chain = vec![CertEntry { cert_type: "VCEK".into(), data: vcek }];
        Ok(Evidence { report, cert_chain }.to_json())
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    report_data: &[u8; 64],
) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    stream.write_all(report_data).await?;
    stream.flush().await?;
    let report = sized(stream, Report::SIZE).await?;
    let vcek = sized(stream, MAX_CERTIFICATE).await?;
    Ok((report, vcek))
}

async fn sized<S: AsyncRead + Unpin>(stream: &mut S, limit: usize) -> std::io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32_le().await?).unwrap_or(usize::MAX);
    if length > limit {
        return Err(std::io::Error::other(format!("answer of {length} bytes is too long")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_bounded_and_complete() {
        let (mut guest, mut host) = tokio::io::duplex(4096);
        let good = [7_u32.to_le_bytes().as_slice(), b"reportx", &3_u32.to_le_bytes(), b"der"].concat();
        host.write_all(&good).await.unwrap();
        let (report, vcek) = exchange(&mut guest, &[1; 64]).await.unwrap();
        assert_eq!((report.as_slice(), vcek.as_slice()), (b"reportx".as_slice(), b"der".as_slice()));

        let (mut guest, mut host) = tokio::io::duplex(4096);
        host.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
        assert!(exchange(&mut guest, &[1; 64]).await.is_err(), "too long");

        let (mut guest, mut host) = tokio::io::duplex(4096);
        host.write_all(&9_u32.to_le_bytes()).await.unwrap();
        drop(host);
        assert!(exchange(&mut guest, &[1; 64]).await.is_err(), "cut short");
    }
}
