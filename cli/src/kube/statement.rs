//! What Trustee verified of a workload's pods: the only word on them that counts.

use std::collections::BTreeSet;

use cocoon_stage::Failure;
use serde_json::{Value, json};

use crate::admin::{number, text};
use crate::client::AdminClient;

/// Verified facts about the guests that came with one plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many handshakes were granted.
    pub guests: usize,
    /// The TEEs.
    pub platforms: BTreeSet<String>,
    /// Whether one of them is simulated.
    pub simulated: bool,
    /// The guest images' measurements.
    pub measurements: BTreeSet<String>,
    /// Paths of the secrets that were released.
    pub secrets: BTreeSet<String>,
    /// What was refused, by code and path.
    pub refused: BTreeSet<String>,
}

/// Asks Trustee what it verified of guests with this plan since a moment.
pub async fn verified(trustee: &AdminClient, digest: &str, since: u64) -> Result<Verified, Failure> {
    let verdicts = trustee.get("explain?limit=1000", "verdicts").await?;
    Ok(of(&verdicts, digest, since))
}

fn of(verdicts: &Value, digest: &str, since: u64) -> Verified {
    let mut found = Verified::default();
    let own =
        |v: &&Value| text(v, "init_data") == digest && number(v, "at_unix").is_some_and(|at| at >= since);
    for verdict in verdicts.as_array().into_iter().flatten().filter(own) {
        let kind = text(verdict, "kind");
        let code = text(verdict, "code");
        if !code.is_empty() {
            found.refused.insert(format!("{code} {}", text(verdict, "path")).trim_end().to_owned());
        } else if kind == "attest" {
            found.guests += 1;
            found.platforms.insert(text(verdict, "tee").to_owned());
            found.simulated |= verdict.get("simulated").and_then(Value::as_bool).unwrap_or(false);
            let steps = verdict.get("steps").and_then(Value::as_array).into_iter().flatten();
            let measured = steps
                .filter(|s| text(s, "name") == "appraisal.measurement")
                .map(|s| text(s, "got").to_owned());
            found.measurements.extend(measured.filter(|m| !m.is_empty()));
        } else if kind == "release" {
            found.secrets.insert(text(verdict, "path").to_owned());
        }
    }
    found
}

impl Verified {
    /// In words.
    pub fn words(&self) -> String {
        if self.guests == 0 {
            return "Trustee has no new verdict: these pods were attested before".into();
        }
        let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let simulated = if self.simulated { ", SIMULATED: protects from nobody" } else { "" };
        let short: BTreeSet<String> =
            self.measurements.iter().map(|m| m.chars().take(16).collect()).collect();
        let guest = if short.is_empty() { String::new() } else { format!("; guest image {}", list(&short)) };
        let secrets = match self.secrets.is_empty() {
            true => "none asked for".to_owned(),
            false => list(&self.secrets),
        };
        let guests = if self.guests == 1 { "1 guest".to_owned() } else { format!("{} guests", self.guests) };
        format!(
            "Trustee verified {guests} ({}{simulated}{guest}); secrets released: {secrets}",
            list(&self.platforms)
        )
    }

    /// In JSON.
    pub fn json(&self) -> Value {
        json!({
            "guests": self.guests, "platforms": self.platforms, "simulated": self.simulated,
            "measurements": self.measurements, "secrets": self.secrets, "refused": self.refused,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_plans_new_verdicts_count() {
        let verdicts = json!([
            {"kind": "attest", "init_data": "ab", "at_unix": 10, "tee": "snp", "simulated": true, "code": null,
             "steps": [{"name": "appraisal.measurement", "got": "4f9ac2"}]},
            {"kind": "release", "init_data": "ab", "at_unix": 11, "path": "default/secret/token", "code": null, "steps": []},
            {"kind": "release", "init_data": "ab", "at_unix": 12, "path": "default/secret/other", "code": "RELEASE-DENIED", "steps": []},
            {"kind": "attest", "init_data": "cd", "at_unix": 10, "tee": "tdx", "code": null, "steps": []},
            {"kind": "attest", "init_data": "ab", "at_unix": 1, "tee": "tdx", "code": null, "steps": []},
        ]);
        let found = of(&verdicts, "ab", 5);
        assert_eq!((found.guests, found.simulated), (1, true));
        let words = found.words();
        assert!(
            words.contains("1 guest (snp, SIMULATED")
                && words.contains("4f9ac2")
                && words.contains("default/secret/token"),
            "{words}"
        );
        assert!(found.refused.contains("RELEASE-DENIED default/secret/other"));
        assert!(of(&verdicts, "ef", 0).words().contains("attested before"));
    }
}
