//! AMD's key distribution service (AMD 57230, section 4): VCEK certificates and revocation lists.

use std::fmt::Write;

use async_trait::async_trait;
use cocoon_evidence::collateral::{Document, Need};

use crate::transport::Transport;
use crate::{Endpoint, Error, Provider, Times};

/// A client of the service or of a mirror with the same paths.
#[derive(Debug)]
pub struct AmdKds(Transport);

impl AmdKds {
    /// Where AMD runs it.
    pub const URL: &'static str = "https://kdsintf.amd.com";

    /// # Errors
    /// [`Error::Settings`].
    pub fn new(endpoint: &Endpoint, times: Times) -> Result<Self, Error> {
        Transport::new(endpoint, times).map(AmdKds)
    }
}

/// Path and query of a document; `None` for what AMD does not publish.
fn path(need: &Need) -> Option<String> {
    match need {
        Need::AmdVcek { product, chip_id, tcb } => {
            let (bl, tee, snp, ucode) = (tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode);
            let mut path = format!(
                "/vcek/v1/{product}/{chip_id}?blSPL={bl:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={ucode:02}"
            );
            if let Some(fmc) = tcb.fmc {
                let _ = write!(path, "&fmcSPL={fmc:02}");
            }
            Some(path)
        }
        Need::AmdCrl { product, vlek } => {
            Some(format!("/{}/v1/{product}/crl", if *vlek { "vlek" } else { "vcek" }))
        }
        _ => None,
    }
}

#[async_trait]
impl Provider for AmdKds {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn fetch(&self, need: &Need) -> Result<Document, Error> {
        need.check().map_err(Error::Need)?;
        let path = path(need).ok_or_else(|| self.0.not_found())?;
        let answer = self.0.get(&path, need.max_body()).await?;
        Ok(Document { body: answer.body.to_vec(), issuer_chain: String::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_evidence::snp::Tcb;

    #[test]
    fn paths_are_amds() {
        let tcb = |fmc| Tcb { fmc, bootloader: 3, tee: 0, snp: 8, microcode: 115 };
        let need = Need::AmdVcek { product: "Milan".into(), chip_id: "ab".repeat(64), tcb: tcb(None) };
        let id = "ab".repeat(64);
        assert_eq!(
            path(&need).unwrap(),
            format!("/vcek/v1/Milan/{id}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115")
        );
        let need = Need::AmdVcek { product: "Turin".into(), chip_id: "ab".repeat(8), tcb: tcb(Some(1)) };
        assert!(
            path(&need)
                .unwrap()
                .ends_with("/abababababababab?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115&fmcSPL=01")
        );
        let list = |vlek| path(&Need::AmdCrl { product: "Genoa".into(), vlek }).unwrap();
        assert_eq!(list(false), "/vcek/v1/Genoa/crl");
        assert_eq!(list(true), "/vlek/v1/Genoa/crl");
        assert_eq!(path(&Need::IntelRootCrl), None);
    }
}
