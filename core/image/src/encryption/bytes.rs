//! Bytes in JSON. An answer's are written as a number array, a question's as base64; both are read in either form, since
//! Go writes base64 and reads both, and Rust's ocicrypt writes and reads arrays in answers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Most bytes accepted in one value.
const MAX: usize = 64 * 1024;

/// A byte string of a question; may be secret.
pub(super) struct Text(pub Zeroizing<Vec<u8>>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&Zeroizing::new(STANDARD.encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        JsonBytes::deserialize(d).map(|bytes| Text(Zeroizing::new(bytes.0)))
    }
}

/// A byte string of an answer.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct JsonBytes(pub Vec<u8>);

impl Serialize for JsonBytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for JsonBytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 text or an array of bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
                if text.len() > MAX * 4 / 3 + 4 {
                    return Err(E::custom("too long"));
                }
                STANDARD.decode(text).map_err(|_| E::custom("not base64"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut out = Vec::new();
                while let Some(b) = seq.next_element::<u8>()? {
                    if out.len() >= MAX {
                        return Err(serde::de::Error::custom("too long"));
                    }
                    out.push(b);
                }
                Ok(out)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Vec<u8>, E> {
                Ok(Vec::new())
            }
        }
        d.deserialize_any(Either).map(JsonBytes)
    }
}
