//! Tests of the crate as a whole, one file per question.

mod cpu;
mod devices;
mod hostile;
mod resource;
mod shapes;
mod versions;

use serde_json::{Map, Value};

use crate::{AttestationOutcome, Compiled, Error, Kind, default_policy};

/// Reference values from a JSON object.
pub(crate) fn from(values: &Value) -> impl Fn(&str) -> Result<Option<Value>, String> + '_ {
    |id: &str| Ok(values.get(id).cloned())
}

/// The default policy of a class on one input.
pub(crate) fn appraise(class: &str, input: &Value, values: &Value) -> Result<AttestationOutcome, Error> {
    Compiled::new(Kind::Attestation, default_policy(class).unwrap())
        .unwrap()
        .attestation(input, &from(values))
}

/// Executables, hardware, configuration.
pub(crate) fn three(outcome: &AttestationOutcome) -> [i8; 3] {
    [outcome.vector.executables, outcome.vector.hardware, outcome.vector.configuration]
}

/// Every input that differs from this one in exactly one leaf, with the leaf's pointer: the leaf gone, null, and of
/// another value of its type.
pub(crate) fn spoiled(input: &Value) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    collect(input, String::new(), &mut leaves);
    let mut all = Vec::new();
    for pointer in leaves {
        let other = match input.pointer(&pointer).unwrap() {
            Value::Bool(flag) => Value::Bool(!flag),
            Value::Number(_) => Value::from(1_000_000),
            _ => Value::from("something else"),
        };
        for new in [Some(Value::Null), Some(other), None] {
            let mut copy = input.clone();
            match new {
                Some(new) => *copy.pointer_mut(&pointer).unwrap() = new,
                None => {
                    let (parent, name) = pointer.rsplit_once('/').unwrap();
                    let parent = copy.pointer_mut(parent).unwrap();
                    let Some(parent) = parent.as_object_mut() else { continue };
                    parent.remove(name);
                }
            }
            all.push((pointer.clone(), copy));
        }
    }
    all
}

fn collect(value: &Value, at: String, leaves: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                collect(member, format!("{at}/{name}"), leaves);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{at}/{index}"), leaves);
            }
        }
        _ => leaves.push(at),
    }
}

/// An object with one member.
pub(crate) fn under(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}
