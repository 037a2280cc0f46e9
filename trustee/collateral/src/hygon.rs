//! Hygon's certificate service: HSK and CEK of a chip, one after the other, binary.

use async_trait::async_trait;
use cocoon_evidence::collateral::{Document, Need};

use crate::transport::Transport;
use crate::{Endpoint, Error, Provider, Times};

/// A client of the service or of a mirror with the same path.
#[derive(Debug)]
pub struct HygonService(Transport);

impl HygonService {
    /// Where Hygon runs it.
    pub const URL: &'static str = "https://cert.hygon.cn";

    /// # Errors
    /// [`Error::Settings`].
    pub fn new(endpoint: &Endpoint, times: Times) -> Result<Self, Error> {
        Transport::new(endpoint, times).map(HygonService)
    }
}

#[async_trait]
impl Provider for HygonService {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn fetch(&self, need: &Need) -> Result<Document, Error> {
        need.check().map_err(Error::Need)?;
        let Need::HygonCertificates { chip_id } = need else { return Err(self.0.not_found()) };
        let answer = self.0.get(&format!("/hsk_cek?snumber={chip_id}"), need.max_body()).await?;
        Ok(Document { body: answer.body.to_vec(), issuer_chain: String::new() })
    }
}
