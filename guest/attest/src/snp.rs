//! AMD SEV-SNP through configfs-tsm (provider `sev_guest`, kernel 6.7 and later).

use async_trait::async_trait;
use cocoon_evidence::snp::{CertEntry, Evidence, Report};
use cocoon_protocol::Tee;
use cocoon_stage::Failure;
use serde_json::Value;

use crate::{Attester, padded, snp_host_data, tsm, unavailable};

pub(crate) struct SnpAttester;

#[async_trait]
impl Attester for SnpAttester {
    fn tee(&self) -> Tee {
        Tee::Snp
    }

    fn simulated(&self) -> bool {
        false
    }

    fn bound(&self, evidence: &Value) -> Option<[u8; 32]> {
        snp_host_data(evidence)
    }

    async fn evidence(&self, report_data: &[u8]) -> Result<Value, Failure> {
        let field = padded(report_data)?;
        let answer = tokio::task::spawn_blocking(move || tsm::report("sev_guest", &field))
            .await
            .map_err(|e| unavailable(e.to_string()))??;
        let report = Report::parse(&answer.report).map_err(|e| unavailable(format!("SNP report: {e}")))?;
        let cert_chain = certificate_table(&answer.aux);
        Ok(Evidence { report, cert_chain }.to_json())
    }
}

/// The GHCB certificate table (GHCB specification 2.x, extended guest request): 24-byte entries of GUID, offset
/// and length (u32 LE), ended by a zero GUID. Entries that do not fit are left out; evidence without a VCEK is then refused.
fn certificate_table(table: &[u8]) -> Vec<CertEntry> {
    const VCEK: &str = "63da758d-e664-4564-adc5-f4b93be8accd";
    const VLEK: &str = "a8074bc2-a25a-483e-aae6-39c045a0b8a1";
    const ASK: &str = "4ab7b379-bbac-4fe4-a02f-05aef327c782";
    const ARK: &str = "c0b406a4-a803-4952-9743-3fb6014cd0ae";
    let mut found = Vec::new();
    for entry in table.chunks_exact(24).take(16) {
        let (Some(guid), Some(offset), Some(length)) =
            (entry.get(..16), u32_le(entry, 16), u32_le(entry, 20))
        else {
            break;
        };
        if guid.iter().all(|b| *b == 0) {
            break;
        }
        let cert_type = match guid_text(guid).as_str() {
            VCEK => "VCEK",
            VLEK => "VLEK",
            ASK => "ASK",
            ARK => "ARK",
            _ => continue,
        };
        let data = offset.checked_add(length).and_then(|end| table.get(offset..end));
        if let Some(data) = data {
            found.push(CertEntry { cert_type: cert_type.to_owned(), data: data.to_vec() });
        }
    }
    found
}

fn u32_le(bytes: &[u8], at: usize) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

/// A GUID's text from its mixed-endian bytes (RFC 9562 appendix: first three fields little-endian).
fn guid_text(b: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (i, at) in order.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", b.get(*at).copied().unwrap_or_default()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(guid: [u8; 16], offset: u32, length: u32) -> Vec<u8> {
        [guid.to_vec(), offset.to_le_bytes().to_vec(), length.to_le_bytes().to_vec()].concat()
    }

    const VCEK_BYTES: [u8; 16] =
        [0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd];

    #[test]
    fn certificates_are_found_by_guid() {
        let table = [entry(VCEK_BYTES, 48, 3), entry([0; 16], 0, 0), b"DER".to_vec()].concat();
        let found = certificate_table(&table);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].cert_type.as_str(), found[0].data.as_slice()), ("VCEK", b"DER".as_slice()));
    }

    #[test]
    fn a_lying_table_gives_nothing() {
        assert!(certificate_table(&[entry(VCEK_BYTES, 48, 999), entry([0; 16], 0, 0)].concat()).is_empty());
        assert!(certificate_table(&entry(VCEK_BYTES, u32::MAX, u32::MAX)).is_empty());
        assert!(certificate_table(&[0xff; 23]).is_empty());
        assert!(certificate_table(&[]).is_empty());
    }
}
