//! A release rule.

use cocoon_cluster_api::{EntryStatus, TrusteeReleaseRule};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Done, Entry, unix};
use crate::Error;
use crate::trustee::Shared;
use crate::trustee::admin::Admin;

/// The rule's id in Trustee. Ids that begin so are the operator's.
fn id(entry: &TrusteeReleaseRule) -> String {
    format!("k8s-{}", entry.name_any())
}

/// The rule as Trustee shows it.
fn rule(entry: &TrusteeReleaseRule) -> Result<Value, Error> {
    let spec = &entry.spec;
    // Trustee keeps of a digest the 32 bytes that a TEE binds.
    let workload = match spec.workload.strip_prefix("digest:") {
        Some(hex) => format!("digest:{}", hex.get(..64).unwrap_or(hex)),
        None => spec.workload.clone(),
    };
    let mut rule = json!({
        "id": id(entry), "workload": workload, "path": spec.path,
        "min_status": spec.min_status.word(), "accept_simulated": spec.accept_simulated,
    });
    if let Some(map) = rule.as_object_mut() {
        if let Some(end) = unix(spec.expires.as_deref())? {
            map.insert("expires_unix".into(), end.into());
        }
        if !spec.note.is_empty() {
            map.insert("note".into(), spec.note.clone().into());
        }
    }
    Ok(rule)
}

impl Entry for TrusteeReleaseRule {
    fn trustee(&self) -> &str {
        &self.spec.trustee
    }

    fn status(&self) -> Option<&EntryStatus> {
        self.status.as_ref()
    }

    async fn install(&self, admin: &Admin, _: &Shared) -> Result<Done, Error> {
        let (id, wished) = (id(self), rule(self)?);
        let path = format!("rules/{id}");
        let differs = admin.get(&path).await?.as_ref() != Some(&wished);
        if differs {
            admin.put(&path, &wished).await?;
        }
        let message = format!("in force as rule {id}");
        Ok(Done::Installed { what: vec![id], differed: usize::from(differs), message })
    }

    async fn remove(&self, admin: &Admin) -> Result<(), Error> {
        admin.delete(&format!("rules/{}", id(self))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_cluster_api::TrusteeReleaseRuleSpec;

    #[test]
    fn a_rule_is_as_trustee_shows_it() {
        let spec = TrusteeReleaseRuleSpec {
            trustee: "main".into(),
            workload: format!("digest:{}", "ab".repeat(48)),
            path: "default/key/*".into(),
            expires: Some("2027-01-31T12:00:00Z".into()),
            note: "why".into(),
            ..TrusteeReleaseRuleSpec::default()
        };
        let expected = json!({
            "id": "k8s-web", "workload": format!("digest:{}", "ab".repeat(32)), "path": "default/key/*",
            "min_status": "affirming", "accept_simulated": false, "expires_unix": 1_801_396_800, "note": "why",
        });
        assert_eq!(rule(&TrusteeReleaseRule::new("web", spec.clone())).unwrap(), expected);
        let never = TrusteeReleaseRuleSpec { expires: Some("2027-02-31T12:00:00Z".into()), ..spec };
        assert!(rule(&TrusteeReleaseRule::new("web", never)).is_err());
    }
}
