//! NVIDIA's service of reference integrity manifests: JSON `{"id", "rim": base64, …}` around a signed SWID tag.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_evidence::collateral::{Document, Need};
use serde::Deserialize;

use crate::transport::Transport;
use crate::{Endpoint, Error, Provider, Times};

/// A client of the service or of a mirror with the same path.
#[derive(Debug)]
pub struct NvidiaRims(Transport);

impl NvidiaRims {
    /// Where NVIDIA runs it.
    pub const URL: &'static str = "https://rim.attestation.nvidia.com";

    /// # Errors
    /// [`Error::Settings`].
    pub fn new(endpoint: &Endpoint, times: Times) -> Result<Self, Error> {
        Transport::new(endpoint, times).map(NvidiaRims)
    }
}

/// The answer; its own hash protects nothing and is not looked at.
#[derive(Deserialize)]
struct Envelope {
    id: String,
    rim: String,
}

fn open(id: &str, body: &[u8]) -> Result<Vec<u8>, &'static str> {
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| "not the JSON of a manifest")?;
    if envelope.id != id {
        return Err("the manifest has another id");
    }
    STANDARD.decode(envelope.rim.trim()).map_err(|_| "the manifest is not base64")
}

#[async_trait]
impl Provider for NvidiaRims {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn fetch(&self, need: &Need) -> Result<Document, Error> {
        need.check().map_err(Error::Need)?;
        let Need::NvidiaRim { id } = need else { return Err(self.0.not_found()) };
        // Base64 makes it a third larger.
        let limit = need.max_body().saturating_mul(3) / 2;
        let answer = self.0.get(&format!("/v1/rim/{id}"), limit).await?;
        let body = open(id, &answer.body).map_err(|problem| self.0.wrong(problem))?;
        Ok(Document { body, issuer_chain: String::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_must_name_the_manifest() {
        let body = br#"{"id":"NV_A","rim":"PFNvZnR3YXJlSWRlbnRpdHkvPg==\n","sha256":"x","last_updated":"y"}"#;
        assert_eq!(open("NV_A", body).unwrap(), b"<SoftwareIdentity/>");
        assert!(open("NV_B", body).is_err());
        for bad in ["", "{}", r#"{"id":"NV_A"}"#, r#"{"id":"NV_A","rim":"%"}"#, r#"{"id":1,"rim":""}"#] {
            assert!(open("NV_A", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
