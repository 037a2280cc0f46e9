//! Byte arrays of any length as JSON arrays of numbers: the form in which CoCo's attesters write every byte field.

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};

pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
    let mut seq = to.serialize_seq(Some(N))?;
    for byte in bytes {
        seq.serialize_element(byte)?;
    }
    seq.end()
}

pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(from: D) -> Result<[u8; N], D::Error> {
    struct Bytes<const N: usize>;

    impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
        type Value = [u8; N];

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "an array of {N} bytes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
            let mut out = [0; N];
            for (i, slot) in out.iter_mut().enumerate() {
                *slot = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(i, &self))?;
            }
            match seq.next_element::<u8>()? {
                Some(_) => Err(A::Error::invalid_length(N + 1, &self)),
                None => Ok(out),
            }
        }
    }

    from.deserialize_seq(Bytes::<N>)
}
