//! Intel's provisioning certification service, version 4, and caches of it (PCCS), which have the same paths.
//!
//! Source: Intel's API documentation of the service, and PCCS's design guide. Documents that are signed apart come with their
//! issuer chain in a header field, PEM in percent encoding. PCCS sends revocation lists in hex where the service sends DER.

use async_trait::async_trait;
use cocoon_evidence::collateral::{Document, IntelTee, Need};
use cocoon_http::HeaderMap;

use crate::transport::Transport;
use crate::{Endpoint, Error, Provider, Times};

/// Which of Intel's two views of a TCB is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Update {
    /// What platforms must meet today.
    Standard,
    /// What they must meet soon; the stricter one.
    #[default]
    Early,
}

impl Update {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Update::Standard => "standard",
            Update::Early => "early",
        }
    }
}

/// A client of Intel's service or of a cache.
#[derive(Debug)]
pub struct IntelPcs {
    transport: Transport,
    /// Intel keeps the root's revocation list elsewhere; caches have it beside the rest.
    root_crl: Option<Transport>,
    update: Update,
}

const ROOT_CRL_HOST: &str = "https://certificates.trustedservices.intel.com";
const ROOT_CRL_PATH: &str = "/IntelSGXRootCA.der";

impl IntelPcs {
    /// Where Intel runs it.
    pub const URL: &'static str = "https://api.trustedservices.intel.com";

    /// The URL may end in `/sgx/certification/v4/` or `/tdx/certification/v4/`, as is customary.
    ///
    /// # Errors
    /// [`Error::Settings`], also for another version than 4.
    pub fn new(endpoint: &Endpoint, update: Update, times: Times) -> Result<Self, Error> {
        let transport = Transport::new(endpoint, times)?;
        let base = transport.base().to_owned();
        let root = match ["/sgx/certification", "/tdx/certification"].iter().find_map(|m| base.split_once(m))
        {
            None => base.as_str(),
            Some((root, "" | "/v4")) => root,
            Some(_) => {
                return Err(Error::Settings(format!(
                    "{base}: only version 4 of Intel's interface is supported"
                )));
            }
        };
        let intels = root == IntelPcs::URL;
        let root_crl =
            if intels { Some(Transport::new(&Endpoint::new(ROOT_CRL_HOST), times)?) } else { None };
        Ok(IntelPcs { transport: transport.with_base(root), root_crl, update })
    }

    async fn signed(&self, need: &Need, path: &str, chain: &[&str]) -> Result<Document, Error> {
        let answer = self.transport.get(path, body_limit(need)).await?;
        let issuer_chain =
            issuer_chain(&answer.headers, chain).map_err(|problem| self.transport.wrong(problem))?;
        Ok(Document { body: answer.body.to_vec(), issuer_chain })
    }
}

/// Hex takes twice the room.
fn body_limit(need: &Need) -> usize {
    match need {
        Need::IntelPckCrl { .. } | Need::IntelRootCrl => need.max_body().saturating_mul(2),
        _ => need.max_body(),
    }
}

fn issuer_chain(headers: &HeaderMap, names: &[&str]) -> Result<String, &'static str> {
    let value = names.iter().find_map(|name| headers.get(*name)).ok_or("it sent no issuer chain")?;
    let text =
        value.to_str().ok().and_then(percent_decoded).ok_or("its issuer chain is not percent-encoded")?;
    if text.len() > Need::MAX_ISSUER_CHAIN || !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err("its issuer chain is not PEM");
    }
    Ok(text)
}

/// Percent decoding; a plus stays one, it is part of base64.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.extend(hex::decode(digits).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A revocation list as DER where it came in hex; anything else as it is.
pub(crate) fn from_hex(body: &[u8]) -> Vec<u8> {
    match body.first() {
        Some(b'3') => hex::decode(body.trim_ascii()).unwrap_or_else(|_| body.to_vec()),
        _ => body.to_vec(),
    }
}

#[async_trait]
impl Provider for IntelPcs {
    fn name(&self) -> &str {
        self.transport.name()
    }

    async fn fetch(&self, need: &Need) -> Result<Document, Error> {
        need.check().map_err(Error::Need)?;
        let update = self.update.as_str();
        match need {
            Need::IntelTcbInfo { tee, fmspc } => {
                let fmspc = fmspc.to_ascii_uppercase();
                let path = format!("/{}/certification/v4/tcb?fmspc={fmspc}&update={update}", tee.as_str());
                self.signed(need, &path, &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"]).await
            }
            Need::IntelQeIdentity { tee } => {
                let path = format!("/{}/certification/v4/qe/identity?update={update}", tee.as_str());
                self.signed(need, &path, &["SGX-Enclave-Identity-Issuer-Chain"]).await
            }
            Need::IntelPckCrl { ca } => {
                let sgx = IntelTee::Sgx.as_str();
                let path = format!("/{sgx}/certification/v4/pckcrl?ca={}&encoding=der", ca.as_str());
                let document = self.signed(need, &path, &["SGX-PCK-CRL-Issuer-Chain"]).await?;
                Ok(Document { body: from_hex(&document.body), ..document })
            }
            Need::IntelRootCrl => {
                let (from, path) = match &self.root_crl {
                    Some(intels) => (intels, ROOT_CRL_PATH),
                    None => (&self.transport, "/sgx/certification/v4/rootcacrl"),
                };
                let answer = from.get(path, body_limit(need)).await?;
                Ok(Document { body: from_hex(&answer.body), issuer_chain: String::new() })
            }
            _ => Err(self.transport.not_found()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customary_urls_are_understood() {
        let open = |url: &str| IntelPcs::new(&Endpoint::new(url), Update::Early, Times::default());
        for url in [
            "https://api.trustedservices.intel.com",
            "https://api.trustedservices.intel.com/sgx/certification/v4/",
            "https://api.trustedservices.intel.com/tdx/certification/v4",
        ] {
            let pcs = open(url).unwrap();
            assert_eq!(pcs.transport.base(), IntelPcs::URL);
            assert!(pcs.root_crl.is_some());
        }
        let pccs = open("https://pccs.example:8081/x/sgx/certification/v4/").unwrap();
        assert_eq!(pccs.transport.base(), "https://pccs.example:8081/x");
        assert!(pccs.root_crl.is_none(), "a cache has it itself; an air gap has no way to Intel");
        assert!(open("https://pccs.example/sgx/certification/v3/").is_err());
    }

    #[test]
    fn chains_are_percent_decoded() {
        assert_eq!(percent_decoded("a%20b+c%0A%2B").unwrap(), "a b+c\n+");
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
        }
    }
}
