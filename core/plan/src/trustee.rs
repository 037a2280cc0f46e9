//! Where Trustee is, from the measured `aa.toml` (CoCo's format, section `token_configs.kbs`).

use std::collections::BTreeMap;

use cocoon_protocol::HashAlgorithm;
use cocoon_protocol::initdata::{self, InitData};
use cocoon_stage::{Code, Failure};
use serde::Deserialize;

use crate::{PLAN_FILE, Plan};

/// Trustee's address and the certificate that it must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrusteeConfig {
    /// Base URL, `https://host:port` (or `http://` where the owner wrote so).
    pub url: String,
    /// PEM certificate(s) to trust for it and nothing else; `None` for `http://` or publicly trusted servers.
    pub certificate: Option<String>,
}

#[derive(Deserialize)]
struct AaToml {
    token_configs: TokenConfigs,
}

#[derive(Deserialize)]
struct TokenConfigs {
    kbs: Kbs,
}

#[derive(Deserialize)]
struct Kbs {
    url: String,
    #[serde(default)]
    cert: Option<String>,
}

impl TrusteeConfig {
    /// Reads `aa.toml` of the initdata.
    ///
    /// # Errors
    /// `INITDATA-MALFORMED` where the file is missing or not of the format.
    pub fn from_initdata(initdata: &InitData) -> Result<Self, Failure> {
        let bad = |reason: String| Failure::new(Code::InitdataMalformed, reason);
        let text = initdata.file("aa.toml").ok_or_else(|| bad("initdata has no aa.toml".into()))?;
        let parsed: AaToml = toml::from_str(text).map_err(|e| bad(format!("aa.toml: {}", e.message())))?;
        let Kbs { url, cert } = parsed.token_configs.kbs;
        if !(url.starts_with("https://") || url.starts_with("http://")) {
            return Err(bad(format!("aa.toml: {url:?} is not a URL")));
        }
        Ok(TrusteeConfig { url, certificate: cert })
    }

    /// The text of an `aa.toml` that says this.
    pub fn to_aa_toml(&self) -> String {
        let mut kbs = toml::Table::new();
        kbs.insert("url".into(), self.url.clone().into());
        if let Some(certificate) = &self.certificate {
            kbs.insert("cert".into(), certificate.clone().into());
        }
        let configs = toml::Table::from_iter([("kbs".to_owned(), toml::Value::Table(kbs))]);
        toml::Table::from_iter([("token_configs".to_owned(), toml::Value::Table(configs))]).to_string()
    }
}

/// The initdata of a workload: the plan, and where Trustee is, in Cocoon's and in CoCo's files. SHA-256, so that the
/// whole digest fits SNP's 32-byte HOST_DATA.
///
/// # Errors
/// `PLAN-…` for a plan that is not valid, `PLAN-TOO-LARGE` where all together exceeds [`initdata::MAX_TEXT`].
pub fn workload_initdata(plan: &Plan, trustee: &TrusteeConfig) -> Result<InitData, Failure> {
    let plan_json = String::from_utf8(plan.to_canonical()?)
        .map_err(|e| Failure::new(Code::PlanInvalid, e.to_string()))?;
    let mut kbc = toml::Table::new();
    kbc.insert("name".into(), "cc_kbc".into());
    kbc.insert("url".into(), trustee.url.clone().into());
    if let Some(certificate) = &trustee.certificate {
        kbc.insert("kbs_cert".into(), certificate.clone().into());
    }
    let cdh = toml::Table::from_iter([("kbc".to_owned(), toml::Value::Table(kbc))]);
    let files = BTreeMap::from([
        ("aa.toml".to_owned(), trustee.to_aa_toml()),
        ("cdh.toml".to_owned(), cdh.to_string()),
        (PLAN_FILE.to_owned(), plan_json),
    ]);
    let initdata = InitData::new(HashAlgorithm::Sha256, files);
    if initdata.text().len() > initdata::MAX_TEXT {
        return Err(Failure::new(Code::PlanTooLarge, format!("initdata is {} bytes", initdata.text().len())));
    }
    Ok(initdata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initdata(aa: &str) -> InitData {
        InitData::new(HashAlgorithm::Sha256, BTreeMap::from([("aa.toml".to_owned(), aa.to_owned())]))
    }

    #[test]
    fn what_is_written_is_read() {
        let config = TrusteeConfig {
            url: "https://127.0.0.1:8080".into(),
            certificate: Some("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".into()),
        };
        assert_eq!(TrusteeConfig::from_initdata(&initdata(&config.to_aa_toml())).unwrap(), config);
    }

    #[test]
    fn nothing_is_assumed() {
        for bad in ["", "[token_configs]", "[token_configs.kbs]\nurl = \"ftp://x\"", "= ="] {
            let failure = TrusteeConfig::from_initdata(&initdata(bad)).unwrap_err();
            assert_eq!(failure.code, Code::InitdataMalformed, "{bad}");
        }
    }
}
