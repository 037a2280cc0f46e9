//! The words of a token: what Trustee says of a guest (trustee.md §1.6).

use std::collections::BTreeMap;

use cocoon_protocol::initdata::InitData;
use cocoon_protocol::token::{EAR_PROFILE, Ear, Submod};
use serde_json::{Map, Value, json};

/// The initdata files that come first in a token: upstream's three and the plan. Others follow while there is room;
/// whatever the document holds is pinned by its digest all the same.
const FILES: [&str; 4] = ["aa.toml", "cdh.toml", "policy.rego", "plan.json"];
/// Most files that stand in a token, be it by their size alone.
const MAX_NAMED: usize = 32;
/// Longest initdata file that stands in a token in full; a token must fit a request header.
const MAX_FILE: usize = 4096;
/// Most characters of all such files together.
const MAX_FILES: usize = 12 * 1024;
/// What precedes the agent policy's data in `policy.rego`.
const POLICY_DATA: &str = "policy_data := ";

/// What a policy is asked about, which is also what a token says was found: the claims under the TEE's name, and what
/// they are bound to.
pub(crate) fn annotated(
    tee: &str,
    claims: Value,
    init_data: Option<&InitData>,
    runtime_data: Option<&Value>,
) -> Value {
    let mut evidence = Map::new();
    for name in ["init_data", "report_data"] {
        if let Some(value) = claims.get(name) {
            evidence.insert(name.into(), value.clone());
        }
    }
    if let Some(init_data) = init_data {
        evidence.insert("init_data_claims".into(), init_data_claims(init_data));
    }
    if let Some(runtime_data) = runtime_data {
        evidence.insert("runtime_data_claims".into(), runtime_data.clone());
    }
    evidence.insert(tee.into(), claims);
    Value::Object(evidence)
}

/// The whole payload of a token valid from `now_unix` for `lifetime` seconds.
pub fn token_claims(submods: BTreeMap<String, Submod>, issuer: &str, now_unix: u64, lifetime: u64) -> Value {
    Ear {
        iss: issuer.to_owned(),
        iat: now_unix,
        exp: now_unix.saturating_add(lifetime),
        developer: "Cocoon".into(),
        build: concat!("cocoon-trustee ", env!("CARGO_PKG_VERSION")).into(),
        profile: EAR_PROFILE.into(),
        submods,
    }
    .into_claims()
}

/// The initdata's files as claims: upstream's two configuration files parsed, the agent policy's data as an object,
/// others as text.
///
/// A file too long for a token is named by its size alone; the digest in `init_data` pins its content.
fn init_data_claims(init_data: &InitData) -> Value {
    let mut room = MAX_FILES;
    let mut claims = Map::new();
    let others = init_data.names().filter(|name| !FILES.contains(name));
    for name in FILES.into_iter().chain(others).take(MAX_NAMED) {
        let Some(text) = init_data.file(name) else { continue };
        if name == "policy.rego"
            && let Some(data) = policy_data(text)
        {
            claims.insert("agent_policy_claims".into(), data);
        }
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

/// The object that upstream's agent policy ends with. Where it is too long for a token only the containers' images and
/// users are kept, which is what upstream's default policy reads of it.
fn policy_data(text: &str) -> Option<Value> {
    let (_, data) = text.rsplit_once(POLICY_DATA)?;
    let data: Value = serde_json::from_str(data.trim()).ok()?;
    if !data.is_object() {
        return None;
    }
    if data.to_string().len() <= MAX_FILE {
        return Some(data);
    }
    let kept: Vec<Value> = data
        .get("containers")?
        .as_array()?
        .iter()
        .take(32)
        .filter_map(|container| container.get("OCI"))
        .map(|oci| {
            let image = oci.pointer("/Annotations/io.kubernetes.cri.image-name").cloned();
            json!({"OCI": {
                "Annotations": {"io.kubernetes.cri.image-name": image},
                "Process": {"User": {"UID": oci.pointer("/Process/User/UID").cloned()}},
            }})
        })
        .collect();
    Some(json!({ "containers": kept }))
}

/// `ear.trustee.identifiers`: which images and users the measured agent policy allows (trustee.md §1.6).
pub(crate) fn identifiers(annotated: &Value) -> Option<Value> {
    let containers = annotated.pointer("/init_data_claims/agent_policy_claims/containers")?.as_array()?;
    let mut images = Vec::new();
    let mut uids = Vec::new();
    for oci in containers.iter().take(32).filter_map(|c| c.get("OCI")) {
        if let Some(image) =
            oci.pointer("/Annotations/io.kubernetes.cri.image-name").filter(|v| v.is_string())
        {
            images.push(image.clone());
        }
        if let Some(uid) = oci.pointer("/Process/User/UID").filter(|v| v.is_number()) {
            uids.push(uid.clone());
        }
    }
    images.sort_by_key(Value::to_string);
    images.dedup();
    let mut unique = Vec::new();
    for uid in uids {
        if !unique.contains(&uid) {
            unique.push(uid);
        }
    }
    Some(json!({"validated": {"container_images": images, "container_uids": unique}}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_protocol::HashAlgorithm;

    #[test]
    fn the_agent_policy_gives_identifiers() {
        let policy = r#"package agent_policy
default AllowRequestsFailingPolicy := false
policy_data := {"containers":[
 {"OCI":{"Annotations":{"io.kubernetes.cri.sandbox-id":"x"},"Process":{"User":{"UID":65535}}}},
 {"OCI":{"Annotations":{"io.kubernetes.cri.image-name":"bitnami/nginx:latest"},"Process":{"User":{"UID":1001}}}}]}
"#;
        let data = BTreeMap::from([("policy.rego".to_owned(), policy.to_owned())]);
        let document = InitData::new(HashAlgorithm::Sha256, data);
        let input = annotated("snp", json!({}), Some(&document), None);
        assert_eq!(
            identifiers(&input).unwrap(),
            json!({"validated": {"container_images": ["bitnami/nginx:latest"], "container_uids": [65535, 1001]}})
        );
        for other in ["x", "policy_data := ", "policy_data := [1]", "policy_data := {\"containers\":3}"] {
            let data = BTreeMap::from([("policy.rego".to_owned(), other.to_owned())]);
            let input = annotated("snp", json!({}), Some(&InitData::new(HashAlgorithm::Sha256, data)), None);
            assert_eq!(identifiers(&input), None, "{other}");
        }
    }
}
