//! JSON of the server to values of the engine and back, both bounded.

use std::collections::BTreeMap;

use regorus::Value as Rego;
use serde_json::{Map, Number, Value};

use crate::{Error, MAX_INPUT};

/// Deepest JSON that goes in or out, as deep as the server's JSON parser lets in.
const MAX_DEPTH: usize = 128;

/// The engine's form of a document of at most [`MAX_INPUT`] bytes.
pub(crate) fn to_rego(value: &Value) -> Result<Rego, Error> {
    let mut left = MAX_INPUT;
    into(value, &mut left, 0)
}

fn into(value: &Value, left: &mut usize, depth: usize) -> Result<Rego, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Input("nested too deeply"));
    }
    let mut spend = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or(Error::Input("too large"))?;
        Ok::<(), Error>(())
    };
    match value {
        Value::Null => spend(2).map(|()| Rego::Null),
        Value::Bool(flag) => spend(2).map(|()| Rego::Bool(*flag)),
        Value::Number(number) => {
            spend(2)?;
            match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(n), _, _) => Ok(Rego::from(n)),
                (_, Some(n), _) => Ok(Rego::from(n)),
                (_, _, Some(n)) if n.is_finite() => Ok(Rego::from(n)),
                _ => Err(Error::Input("holding a number out of range")),
            }
        }
        Value::String(text) => spend(text.len() + 2).map(|()| Rego::from(text.as_str())),
        Value::Array(items) => {
            spend(2)?;
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                list.push(into(item, left, depth + 1)?);
            }
            Ok(Rego::from(list))
        }
        Value::Object(members) => {
            spend(2)?;
            let mut map = BTreeMap::new();
            for (name, member) in members {
                *left = left.checked_sub(name.len() + 2).ok_or(Error::Input("too large"))?;
                map.insert(Rego::from(name.as_str()), into(member, left, depth + 1)?);
            }
            Ok(Rego::from(map))
        }
    }
}

/// The JSON form of an answer of at most `limit` bytes; sets become arrays.
pub(crate) fn from_rego(value: &Rego, limit: usize) -> Result<Value, Error> {
    let mut left = limit;
    back(value, &mut left, 0)
}

fn back(value: &Rego, left: &mut usize, depth: usize) -> Result<Value, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Answer("it is nested too deeply".into()));
    }
    let too_large = || Error::Answer("it is too large".into());
    let own = value.as_string().map_or(0, |text| text.len());
    *left = left.checked_sub(own + 2).ok_or_else(too_large)?;
    Ok(match value {
        Rego::Null => Value::Null,
        Rego::Bool(flag) => Value::Bool(*flag),
        Rego::String(text) => Value::String(text.as_ref().to_owned()),
        Rego::Number(number) => {
            let float = || number.as_f64().and_then(Number::from_f64);
            let integer = number.as_u64().map(Number::from).or_else(|| number.as_i64().map(Number::from));
            let number = integer.or_else(float);
            Value::Number(number.ok_or_else(|| Error::Answer("it holds a number out of range".into()))?)
        }
        Rego::Array(items) => {
            Value::Array(items.iter().map(|item| back(item, left, depth + 1)).collect::<Result<_, _>>()?)
        }
        Rego::Set(items) => {
            Value::Array(items.iter().map(|item| back(item, left, depth + 1)).collect::<Result<_, _>>()?)
        }
        Rego::Object(members) => {
            let mut map = Map::new();
            for (name, member) in members.iter_sorted() {
                let name =
                    name.as_string().map_err(|_| Error::Answer("a member's name is no text".into()))?;
                *left = left.checked_sub(name.len() + 2).ok_or_else(too_large)?;
                map.insert(name.as_ref().to_owned(), back(member, left, depth + 1)?);
            }
            Value::Object(map)
        }
        Rego::Undefined => return Err(Error::Answer("it holds something undefined".into())),
    })
}
