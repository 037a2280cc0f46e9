//! Secrets as a Vault's KV engine carries them in JSON.
//!
//! Upstream writes the field `data` as an array of byte values (trustee.md §1.5); people and other tools write it as a
//! string, which is base64 where the field `encoding` says so.

use std::fmt;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_release::MAX_SECRET;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::KvVersion;
use crate::{Error, secret};

/// Longest answer in bytes: a secret as an array of numbers with a blank after each comma, and what surrounds it.
pub(crate) const MAX_ANSWER: usize = 5 * MAX_SECRET + 64 * 1024;

#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
}

#[derive(Deserialize)]
struct Fields {
    data: Option<Data>,
    encoding: Option<String>,
}

enum Data {
    Bytes(Zeroizing<Vec<u8>>),
    Text(Zeroizing<Vec<u8>>),
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Data;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of bytes or a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Data, E> {
                Ok(Data::Text(Zeroizing::new(text.as_bytes().to_vec())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Data, A::Error> {
                let mut bytes = Zeroizing::new(Vec::new());
                while let Some(byte) = items.next_element::<u8>()? {
                    secret::append(&mut bytes, &[byte]);
                }
                Ok(Data::Bytes(bytes))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The secret in the answer to a read; `None` where a version 2 engine says that its newest version is deleted.
pub(crate) fn decode(body: &[u8], version: KvVersion) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let fields = match version {
        KvVersion::V1 => parse::<Envelope<Fields>>(body)?.data.ok_or_else(no_secret)?,
        KvVersion::V2 => match parse::<Envelope<Envelope<Fields>>>(body)?.data.ok_or_else(no_secret)?.data {
            Some(fields) => fields,
            None => return Ok(None),
        },
    };
    let value = match (fields.data, fields.encoding.as_deref()) {
        (None, _) => return Err(Error::Answer("the secret has no field `data`".into())),
        (Some(Data::Bytes(bytes)), _) => bytes,
        (Some(Data::Text(text)), Some("base64")) => from_base64(&text)?,
        (Some(Data::Text(text)), None | Some("" | "text" | "utf-8" | "utf8")) => text,
        (Some(Data::Text(_)), Some(_)) => {
            return Err(Error::Answer("the secret's field `encoding` is neither base64 nor text".into()));
        }
    };
    if value.len() > MAX_SECRET { Err(Error::TooLarge(value.len())) } else { Ok(Some(value)) }
}

fn no_secret() -> Error {
    Error::Answer("the answer to a read holds no secret".into())
}

/// Parses JSON; the error says where it is wrong, but not what stands there, which may be secret.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| {
        Error::Answer(format!(
            "the answer is not the expected JSON at line {} column {}",
            e.line(),
            e.column()
        ))
    })
}

fn from_base64(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Tools that encode files break lines and end with one.
    let mut packed = Zeroizing::new(Vec::with_capacity(text.len()));
    packed.extend(text.iter().filter(|b| !b.is_ascii_whitespace()));
    STANDARD
        .decode(packed.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| Error::Answer("the secret's field `data` is not base64".into()))
}

/// The body of a write, in upstream's form.
///
/// # Errors
/// [`Error::TooLarge`].
pub(crate) fn encode(value: &[u8], version: KvVersion) -> Result<Zeroizing<Vec<u8>>, Error> {
    if value.len() > MAX_SECRET {
        return Err(Error::TooLarge(value.len()));
    }
    // Room for all, so that it never moves: three digits and a comma for each byte.
    let mut body = Zeroizing::new(Vec::with_capacity(value.len().saturating_mul(4).saturating_add(32)));
    let (open, close) = match version {
        KvVersion::V1 => ("{\"data\":[", "]}"),
        KvVersion::V2 => ("{\"data\":{\"data\":[", "]}}"),
    };
    body.extend_from_slice(open.as_bytes());
    for (i, byte) in value.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(&mut *body, "{comma}{byte}").map_err(|_| Error::Crypto)?;
    }
    body.extend_from_slice(close.as_bytes());
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v1(fields: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        decode(
            format!("{{\"request_id\":\"x\",\"lease_duration\":1,\"data\":{fields}}}").as_bytes(),
            KvVersion::V1,
        )
    }

    #[test]
    fn reads_upstreams_form_and_text() {
        for (fields, value) in [
            (r#"{"data":[0,255,10]}"#, &[0, 255, 10][..]),
            (r#"{"data":[]}"#, b""),
            (r#"{"data":"plain \u00e4"}"#, "plain ä".as_bytes()),
            (r#"{"data":""}"#, b""),
            (r#"{"encoding":"base64","data":"AAH/\n"}"#, &[0, 1, 255]),
            (r#"{"data":"AAH/","encoding":"text"}"#, b"AAH/"),
            (r#"{"data":[1],"encoding":"base64","other":{"a":[1]}}"#, &[1]),
        ] {
            assert_eq!(v1(fields).unwrap().unwrap().as_slice(), value, "{fields}");
        }
    }

    #[test]
    fn version_2_has_one_more_envelope() {
        let body = br#"{"data":{"data":{"data":[7]},"metadata":{"version":3}}}"#;
        assert_eq!(decode(body, KvVersion::V2).unwrap().unwrap().as_slice(), [7]);
        assert!(decode(br#"{"data":{"data":null,"metadata":{}}}"#, KvVersion::V2).unwrap().is_none());
        // The other version's answer is an error, not another value.
        assert!(decode(body, KvVersion::V1).is_err());
        assert!(decode(br#"{"data":{"data":[7]}}"#, KvVersion::V2).is_err());
    }

    #[test]
    fn refuses_everything_else_without_saying_it() {
        for fields in [
            r#"{"data":[256]}"#,
            r#"{"data":[-1]}"#,
            r#"{"data":["s3cret"]}"#,
            r#"{"data":{"s3cret":1}}"#,
            r#"{"data":null}"#,
            r#"{"password":"s3cret"}"#,
            r#"{"data":"s3cret!","encoding":"base64"}"#,
            r#"{"data":"s3cret","encoding":"rot13"}"#,
            r#"{"data":"s3cret","data":"s3cret"}"#,
            r#""s3cret""#,
            "null",
        ] {
            let error = v1(fields).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        let big = format!(r#"{{"data":"{}"}}"#, "a".repeat(MAX_SECRET + 1));
        assert!(matches!(v1(&big), Err(Error::TooLarge(_))));
        assert!(matches!(encode(&vec![0; MAX_SECRET + 1], KvVersion::V1), Err(Error::TooLarge(_))));
    }

    #[test]
    fn the_largest_secret_never_moves_and_fits_an_answer() {
        let body = encode(&vec![255; MAX_SECRET], KvVersion::V2).unwrap();
        assert!(body.len() <= 4 * MAX_SECRET + 32 && body.len() < MAX_ANSWER);
        assert_eq!(encode(&[1, 20, 0], KvVersion::V1).unwrap().as_slice(), br#"{"data":[1,20,0]}"#);
    }

    proptest! {
        #[test]
        fn round_trip(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            let body = encode(&value, KvVersion::V1).unwrap();
            let answer = [b"{\"data\":", body.as_slice(), b"}"].concat();
            let read = decode(&answer, KvVersion::V1).unwrap().unwrap();
            prop_assert_eq!(read.as_slice(), value.as_slice());
            let body = encode(&value, KvVersion::V2).unwrap();
            let answer = [b"{\"data\":", body.as_slice(), b"}"].concat();
            let read = decode(&answer, KvVersion::V2).unwrap().unwrap();
            prop_assert_eq!(read.as_slice(), value.as_slice());
        }

        #[test]
        fn never_panics(text in "[{}\\[\\]\",:data0-9 ]{0,60}|\\PC{0,60}") {
            let _ = decode(text.as_bytes(), KvVersion::V1);
            let _ = decode(text.as_bytes(), KvVersion::V2);
        }
    }
}
