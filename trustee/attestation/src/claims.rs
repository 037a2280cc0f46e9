//! The words of a token: what Trustee says of a guest (trustee.md §1.6).

use std::collections::BTreeMap;

use cocoon_protocol::initdata::InitData;
use cocoon_protocol::token::{Ear, Submod, TrustVector};
use serde_json::{Map, Value, json};

/// Profile of upstream's Trustee, which relying parties may look for.
const PROFILE: &str = "tag:github.com,2024:confidential-containers/Trustee";
/// The initdata files that may stand in a token: upstream's three and the plan. Whatever else the document holds is
/// pinned by its digest all the same.
const FILES: [&str; 4] = ["aa.toml", "cdh.toml", "policy.rego", "plan.json"];
/// Longest initdata file that stands in a token in full; a token must fit a request header.
const MAX_FILE: usize = 4096;
/// Most characters of all such files together.
const MAX_FILES: usize = 12 * 1024;

/// What a submodule is made of.
pub(crate) struct Parts<'a> {
    pub tee: &'static str,
    pub vector: TrustVector,
    pub claims: Value,
    pub init_data: Option<&'a InitData>,
    pub runtime_data: &'a Value,
    pub simulated: bool,
}

impl Parts<'_> {
    /// The token's word on the guest's own TEE.
    pub fn into_submods(self) -> BTreeMap<String, Submod> {
        let mut evidence = Map::new();
        for name in ["init_data", "report_data"] {
            if let Some(value) = self.claims.get(name) {
                evidence.insert(name.into(), value.clone());
            }
        }
        if let Some(init_data) = self.init_data {
            evidence.insert("init_data_claims".into(), init_data_claims(init_data));
        }
        evidence.insert("runtime_data_claims".into(), self.runtime_data.clone());
        evidence.insert(self.tee.into(), self.claims);
        let mut submod = Submod::new(self.vector, "default", Value::Object(evidence));
        if self.simulated {
            submod.extensions.insert("ear.cocoon.simulated".into(), Value::Bool(true));
        }
        BTreeMap::from([("cpu0".to_owned(), submod)])
    }
}

/// The whole payload of a token valid from `now_unix` for `lifetime` seconds.
pub fn token_claims(submods: BTreeMap<String, Submod>, issuer: &str, now_unix: u64, lifetime: u64) -> Value {
    Ear {
        iss: issuer.to_owned(),
        iat: now_unix,
        exp: now_unix.saturating_add(lifetime),
        developer: "Cocoon".into(),
        build: concat!("cocoon-trustee ", env!("CARGO_PKG_VERSION")).into(),
        profile: PROFILE.into(),
        submods,
    }
    .to_claims()
}

/// The initdata's files as claims: upstream's two configuration files parsed, others as text.
///
/// A file too long for a token is named by its size alone; the digest in `init_data` pins its content.
fn init_data_claims(init_data: &InitData) -> Value {
    let mut room = MAX_FILES;
    let mut claims = Map::new();
    for name in FILES {
        let Some(text) = init_data.file(name) else { continue };
        if text.len() > MAX_FILE || text.len() > room {
            claims.insert(name.into(), json!({ "omitted_bytes": text.len() }));
            continue;
        }
        room -= text.len();
        let parsed = name.ends_with(".toml").then(|| toml::from_str::<Value>(text).ok()).flatten();
        claims.insert(name.into(), parsed.unwrap_or_else(|| Value::String(text.to_owned())));
    }
    Value::Object(claims)
}
