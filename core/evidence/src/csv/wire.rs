//! Certificates and signatures as csv-rs writes them in JSON: structures of numbers and arrays of bytes.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;
use crate::reader::Reader;

/// Exactly `N` bytes, a JSON array of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Array<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Array<N> {
            type Value = Bytes<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Bytes<N>, A::Error> {
                let mut bytes = [0; N];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = items.next_element()?.ok_or_else(|| A::Error::invalid_length(i, &self))?;
                }
                match items.next_element::<u8>()? {
                    None => Ok(Bytes(bytes)),
                    Some(_) => Err(A::Error::invalid_length(N + 1, &self)),
                }
            }
        }
        from.deserialize_seq(Array)
    }
}

/// A structure that is as well a JSON object as a run of bytes.
pub(crate) trait Layout: Sized {
    fn read(from: &mut Reader<'_>) -> Result<Self, Error>;
    fn write(&self, to: &mut Vec<u8>);
}

impl<const N: usize> Layout for Bytes<N> {
    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        from.array().map(Bytes)
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.0);
    }
}

impl<T: Layout> Layout for [T; 2] {
    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        Ok([T::read(from)?, T::read(from)?])
    }

    fn write(&self, to: &mut Vec<u8>) {
        self.iter().for_each(|item| item.write(to));
    }
}

macro_rules! number {
    ($type:ty, $read:ident) => {
        impl Layout for $type {
            fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
                from.$read()
            }

            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
        }
    };
}

number!(u8, u8);
number!(u16, u16_le);
number!(u32, u32_le);

/// Fields in their order in memory; there is no padding between them.
macro_rules! layout {
    ($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$attribute])* pub $field: $type,)*
        }

        impl Layout for $name {
            fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
                Ok($name { $($field: <$type>::read(from)?,)* })
            }

            fn write(&self, to: &mut Vec<u8>) {
                $(self.$field.write(to);)*
            }
        }
    };
}

layout! {
    /// A public key, coordinates little endian.
    Point { g: u32, x: Bytes<72>, y: Bytes<72>, }
}
layout! {
    /// A signature, numbers little endian.
    Signature { r: Bytes<72>, s: Bytes<72>, }
}
layout! {
    /// Certificate of an authority of Hygon (HRK, HSK): 832 bytes.
    Ca { body: CaBody, signature: Signature, #[serde(rename = "_reserved")] tail: Bytes<112>, }
}
layout! {
    CaBody { preamble: Preamble, pubkey: Point, uid_size: u16, user_id: Bytes<254>, reserved: Bytes<108>, }
}
layout! { Preamble { ver: u32, data: PreambleData, } }
layout! { PreambleData { kid: Bytes<16>, sid: Bytes<16>, usage: u32, reserved: Bytes<24>, } }
layout! {
    /// Certificate of a chip's own key (CEK, PEK): 2084 bytes.
    Chip { body: ChipBody, sigs: [Slot; 2], }
}
layout! { ChipBody { ver: u32, data: ChipData, } }
layout! {
    ChipData {
        firmware: Firmware, reserved1: u16, pubkey: ChipKey, uid_size: u16, user_id: Bytes<254>,
        sid: Bytes<16>, reserved2: Bytes<608>,
    }
}
layout! { Firmware { major: u8, minor: u8, } }
layout! { ChipKey { usage: u32, algo: u32, key: Point, } }
layout! {
    /// A place for a signature, with the usage of the key that made it.
    Slot { usage: u32, algo: u32, signature: Signature, #[serde(rename = "_reserved")] tail: Bytes<368>, }
}

/// The bytes of a structure.
pub(crate) fn to_bytes(structure: &impl Layout) -> Vec<u8> {
    let mut bytes = Vec::new();
    structure.write(&mut bytes);
    bytes
}

/// Reads a structure that is all of `bytes`.
pub(crate) fn from_bytes<T: Layout>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    let mut reader = Reader::new(what, bytes);
    let structure = T::read(&mut reader)?;
    reader.finish()?;
    Ok(structure)
}

/// Reads a structure from JSON.
pub(crate) fn from_json<'de, T: Deserialize<'de>>(value: &'de serde_json::Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|e| Error::Json(brief(&e.to_string())))
}

/// An error's text may quote hostile input: cut, and printable.
fn brief(text: &str) -> String {
    text.chars().take(160).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
