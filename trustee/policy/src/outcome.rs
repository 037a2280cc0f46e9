//! What an attestation policy answered, and what it asked.

use std::fmt;
use std::time::Duration;

use cocoon_protocol::token::TrustVector;
use regorus::Value as Rego;
use serde_json::{Map, Value};

use crate::Error;
use crate::compiled::References;
use crate::json::{from_rego, to_rego};

/// Most reference values that one evaluation may ask for.
const MAX_ASKED: usize = 1024;
/// Most extensions of a token, and their size as JSON, in bytes.
const MAX_EXTENSIONS: usize = 32;
const MAX_EXTENSION_BYTES: usize = 64 * 1024;
/// Longest name of an extension, in bytes.
const MAX_NAME: usize = 128;
/// Names that are the verifier's own words.
const RESERVED: [&str; 4] = [
    "ear.status",
    "ear.trustworthiness-vector",
    "ear.appraisal-policy-id",
    "ear.veraison.annotated-evidence",
];
/// Beginning of the names that only Cocoon's verifier writes.
const OWN_PREFIX: &str = "ear.cocoon.";

/// The verdict of an attestation policy.
#[derive(Clone, Debug, PartialEq)]
pub struct AttestationOutcome {
    /// The trust claims; all 0 where `trust_claims` has no value.
    pub vector: TrustVector,
    /// What the policy adds to the submodule, by name.
    pub extensions: Map<String, Value>,
    /// What it asked.
    pub trace: Trace,
}

/// What a policy asked while it was evaluated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Reference values in the order in which they were first asked for.
    pub asked: Vec<Asked>,
    /// How long the evaluation took.
    pub elapsed: Duration,
}

/// One reference value that a policy asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Its id.
    pub id: String,
    /// The answer; `None`: there is no such reference value.
    pub answer: Option<Value>,
}

impl Asked {
    /// How many values the answer holds: those of a list, or one.
    pub fn values(&self) -> usize {
        match &self.answer {
            Some(Value::Array(values)) => values.len(),
            Some(_) => 1,
            None => 0,
        }
    }
}

impl fmt::Display for Asked {
    /// `policy asked snp_launch_measurement: 2 values`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.answer, self.values()) {
            (None, _) => write!(f, "policy asked {}: no such reference value", self.id),
            (_, 1) => write!(f, "policy asked {}: 1 value", self.id),
            (_, count) => write!(f, "policy asked {}: {count} values", self.id),
        }
    }
}

impl Trace {
    /// The answer to a question, the same for the same question.
    pub(crate) fn ask(&mut self, id: &str, references: &References<'_>) -> Result<Rego, Error> {
        if !self.asked.iter().any(|asked| asked.id == id) {
            if self.asked.len() >= MAX_ASKED {
                return Err(Error::Failed(format!("it asks for more than {MAX_ASKED} reference values")));
            }
            let failed = |reason| Error::Reference { id: id.to_owned(), reason };
            let answer = references(id).map_err(failed)?;
            self.asked.push(Asked { id: id.to_owned(), answer });
        }
        match self.asked.iter().find(|asked| asked.id == id).and_then(|asked| asked.answer.as_ref()) {
            Some(value) => to_rego(value),
            None => Ok(Rego::Null),
        }
    }
}

impl AttestationOutcome {
    /// From the values of `trust_claims` and, if it is defined, `extensions`.
    pub(crate) fn new(values: &[Rego], trace: Trace) -> Result<Self, Error> {
        Ok(AttestationOutcome {
            vector: vector(values.first().unwrap_or(&Rego::Undefined))?,
            extensions: extensions(values.get(1).unwrap_or(&Rego::Undefined))?,
            trace,
        })
    }
}

fn vector(value: &Rego) -> Result<TrustVector, Error> {
    let mut vector = TrustVector::default();
    let claims = match value {
        Rego::Undefined => return Ok(vector),
        Rego::Object(claims) => claims,
        _ => return Err(Error::Answer("trust_claims is no object".into())),
    };
    if claims.is_empty() {
        return Err(Error::Answer("trust_claims sets nothing".into()));
    }
    for (name, value) in claims.iter_sorted() {
        let name = name.as_string().map_err(|_| Error::Answer("a trust claim's name is no text".into()))?;
        let field = field(&mut vector, name).ok_or_else(|| {
            Error::Answer(format!("{:?} is no trust claim", name.chars().take(64).collect::<String>()))
        })?;
        let number = match value {
            Rego::Number(number) => number.as_i64().and_then(|number| i8::try_from(number).ok()),
            _ => None,
        };
        *field =
            number.ok_or_else(|| Error::Answer(format!("{name} is no whole number from -128 to 127")))?;
    }
    Ok(vector)
}

fn field<'a>(vector: &'a mut TrustVector, name: &str) -> Option<&'a mut i8> {
    Some(match name {
        "instance-identity" => &mut vector.instance_identity,
        "configuration" => &mut vector.configuration,
        "executables" => &mut vector.executables,
        "file-system" => &mut vector.file_system,
        "hardware" => &mut vector.hardware,
        "runtime-opaque" => &mut vector.runtime_opaque,
        "storage-opaque" => &mut vector.storage_opaque,
        "sourced-data" => &mut vector.sourced_data,
        _ => return None,
    })
}

fn extensions(value: &Rego) -> Result<Map<String, Value>, Error> {
    let wrong = |what: &str| Error::Answer(format!("extensions: {what}"));
    let list = match value {
        Rego::Undefined => return Ok(Map::new()),
        value => from_rego(value, MAX_EXTENSION_BYTES)?,
    };
    let list = list.as_array().ok_or_else(|| wrong("no list"))?;
    if list.len() > MAX_EXTENSIONS {
        return Err(wrong("too many"));
    }
    let mut map = Map::new();
    for entry in list {
        let name = entry.get("name").and_then(Value::as_str).ok_or_else(|| wrong("one has no name"))?;
        let value = entry.get("value").ok_or_else(|| wrong("one has no value"))?;
        entry.get("key").and_then(Value::as_i64).ok_or_else(|| wrong("one has no whole number as key"))?;
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(wrong("a name is empty, too long or not printable"));
        }
        if RESERVED.contains(&name) || name.starts_with(OWN_PREFIX) {
            return Err(wrong(&format!("{name} is the verifier's own word")));
        }
        if map.insert(name.to_owned(), value.clone()).is_some() {
            return Err(wrong(&format!("{name} is there twice")));
        }
    }
    Ok(map)
}
