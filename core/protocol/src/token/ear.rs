//! The claims of an attestation result (draft-ietf-rats-ear, AR4SI trust tiers).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Error;

/// The `eat_profile` of the EAR claims set as existing verifiers write it.
pub const EAR_PROFILE: &str = "tag:github.com,2024:confidential-containers/Trustee";

/// Claims of a token; [`Ear::into_claims`] gives the JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Ear {
    /// Issuer.
    pub iss: String,
    /// Issued at, Unix seconds.
    pub iat: u64,
    /// Expires at, Unix seconds.
    pub exp: u64,
    /// Who made the verifier.
    pub developer: String,
    /// Which build of it.
    pub build: String,
    /// The `eat_profile`, normally [`EAR_PROFILE`].
    pub profile: String,
    /// One appraisal per device, by `<class><number>`: `cpu0`, `gpu0`, …
    pub submods: BTreeMap<String, Submod>,
}

/// The appraisal of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Submod {
    /// The verdict; normally [`TrustVector::status`].
    pub status: Status,
    /// The trust claims.
    pub vector: TrustVector,
    /// The appraisal policy's id.
    pub policy_id: String,
    /// What the verifier read from the evidence.
    pub annotated_evidence: Value,
    /// The policy's extensions; a member that has a name of the format is left out.
    pub extensions: Map<String, Value>,
}

/// Trust tier, worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing is claimed.
    #[default]
    None,
    /// Known good.
    Affirming,
    /// Not all is known good.
    Warning,
    /// Known bad, or nothing recognised.
    Contraindicated,
}

impl Status {
    /// The tier of one trust claim's value (AR4SI §2.3.2): −1 to 1 none, to ±31 (−32) affirming, to 95 (−96)
    /// warning, beyond contraindicated.
    pub const fn of_claim(value: i8) -> Self {
        match value {
            -1..=1 => Status::None,
            -32..=31 => Status::Affirming,
            -96..=95 => Status::Warning,
            _ => Status::Contraindicated,
        }
    }

    /// The name in a token.
    pub const fn name(self) -> &'static str {
        match self {
            Status::None => "none",
            Status::Affirming => "affirming",
            Status::Warning => "warning",
            Status::Contraindicated => "contraindicated",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Status::None, Status::Affirming, Status::Warning, Status::Contraindicated]
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| {
                Error::invalid("attestation status", "not none, affirming, warning or contraindicated")
            })
    }
}

/// The eight trust claims (AR4SI §2.3.4); 0 means nothing is claimed. All eight are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct TrustVector {
    /// Who the attester is.
    pub instance_identity: i8,
    /// Its settings.
    pub configuration: i8,
    /// The programs it runs.
    pub executables: i8,
    /// Its files.
    pub file_system: i8,
    /// The hardware and its firmware.
    pub hardware: i8,
    /// What others on the machine can see of its memory.
    pub runtime_opaque: i8,
    /// What others can see of its storage.
    pub storage_opaque: i8,
    /// Data it takes from elsewhere.
    pub sourced_data: i8,
}

impl TrustVector {
    /// The values, in the order they are written.
    pub const fn values(&self) -> [i8; 8] {
        [
            self.instance_identity,
            self.configuration,
            self.executables,
            self.file_system,
            self.hardware,
            self.runtime_opaque,
            self.storage_opaque,
            self.sourced_data,
        ]
    }

    /// The worst tier of any claim; [`Status::None`] if nothing is claimed.
    pub fn status(&self) -> Status {
        self.values().into_iter().map(Status::of_claim).max().unwrap_or_default()
    }

    fn to_json(self) -> Value {
        json!({
            "instance-identity": self.instance_identity,
            "configuration": self.configuration,
            "executables": self.executables,
            "file-system": self.file_system,
            "hardware": self.hardware,
            "runtime-opaque": self.runtime_opaque,
            "storage-opaque": self.storage_opaque,
            "sourced-data": self.sourced_data,
        })
    }
}

impl Submod {
    /// An appraisal whose status is the vector's and that has no extensions.
    pub fn new(vector: TrustVector, policy_id: impl Into<String>, annotated_evidence: Value) -> Self {
        let policy_id = policy_id.into();
        Self { status: vector.status(), vector, policy_id, annotated_evidence, extensions: Map::new() }
    }

    fn into_json(self) -> Value {
        let mut members = Map::new();
        members.insert("ear.status".into(), self.status.name().into());
        members.insert("ear.trustworthiness-vector".into(), self.vector.to_json());
        members.insert("ear.appraisal-policy-id".into(), self.policy_id.into());
        members.insert("ear.veraison.annotated-evidence".into(), self.annotated_evidence);
        for (name, value) in self.extensions {
            // A policy adds to the verdict; it must not be able to replace it.
            if !members.contains_key(&name) {
                members.insert(name, value);
            }
        }
        Value::Object(members)
    }
}

impl Ear {
    /// The claims set, to be signed.
    pub fn into_claims(self) -> Value {
        let submods: Map<String, Value> =
            self.submods.into_iter().map(|(name, submod)| (name, submod.into_json())).collect();
        let mut claims = Map::new();
        claims.insert("eat_profile".into(), self.profile.into());
        claims.insert("iat".into(), self.iat.into());
        claims.insert("exp".into(), self.exp.into());
        claims.insert("iss".into(), self.iss.into());
        claims.insert("ear.verifier-id".into(), json!({"developer": self.developer, "build": self.build}));
        // Moved, not copied: the evidence's claims are most of a token.
        claims.insert("submods".into(), Value::Object(submods));
        Value::Object(claims)
    }
}
