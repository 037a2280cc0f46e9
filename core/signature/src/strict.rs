//! JSON within bounds, in which no member is given twice: which one counts would depend on the reader.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The deepest nesting read.
const MAX_DEPTH: usize = 24;

/// Reads one JSON document of at most `bytes` bytes and `values` values, nested at most 24 deep. Says why not.
pub(crate) fn parse(json: &[u8], bytes: usize, values: usize) -> Result<Value, String> {
    if json.len() > bytes {
        return Err(format!("it is longer than {bytes} bytes"));
    }
    let mut left = values;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Seed { left: &mut left, depth: 0 }.deserialize(&mut reader).map_err(|e| e.to_string())?;
    reader.end().map_err(|e| e.to_string())?;
    Ok(value)
}

struct Seed<'a> {
    left: &'a mut usize,
    depth: usize,
}

impl Seed<'_> {
    fn inner(&mut self) -> Seed<'_> {
        Seed { left: self.left, depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom("it is nested too deep"));
        }
        *self.left = self.left.checked_sub(1).ok_or_else(|| D::Error::custom("it has too many values"))?;
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self.inner())? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.inner())?;
            if members.contains_key(&name) {
                let shown: String = name.chars().take(64).collect();
                return Err(A::Error::custom(format!("{shown:?} is given twice")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_as_the_plain_parser_within_bounds() {
        for text in [r#"{"a":[1,-2,3.5,null,true,"x",{"b":{}}],"c":18446744073709551615}"#, "0", "[]"] {
            assert_eq!(
                parse(text.as_bytes(), 100, 20).unwrap(),
                serde_json::from_str::<Value>(text).unwrap()
            );
        }
    }

    #[test]
    fn bounds_and_duplicates_are_refused() {
        let deep = format!("{}{}", "[".repeat(26), "]".repeat(26));
        for (text, why) in [
            (r#"{"a":1,"a":2}"#, "twice"),
            ("[1,2,3,4,5,6,7,8,9,0]", "too many"),
            (deep.as_str(), "deep"),
            ("[] []", "trailing"),
            (&"[".repeat(101), "longer"),
            ("", "EOF"),
        ] {
            let e = parse(text.as_bytes(), 100, if why == "deep" { 99 } else { 8 }).unwrap_err();
            assert!(e.contains(why), "{text}: {e}");
        }
    }
}
