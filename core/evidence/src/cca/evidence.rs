//! The evidence as CoCo's attester sends it: the token's bytes.

use serde_json::{Value, json};

use super::cbor::{Decoder, Encoder, Key};
use super::cose::{self, Signed};
use super::realm::Realm;
use super::token::Platform;
use crate::Error;

const TOKEN: &str = "CCA token";
/// A longer token is refused; a platform with a dozen components has about 2 kB.
pub const MAX_TOKEN: usize = 64 * 1024;

/// Tag of the collection of both tokens.
const COLLECTION: u64 = 399;
const PLATFORM: i128 = 44234;
const REALM: i128 = 44241;

/// A CCA token, read. JSON: `{"token": [bytes]}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    token: Vec<u8>,
    platform: Platform,
    realm: Realm,
    pub(super) platform_signed: Signed,
    pub(super) realm_signed: Signed,
}

impl Evidence {
    /// Reads the JSON value.
    ///
    /// # Errors
    /// Where it is not an object with a `token` of at most 64 KiB, or as [`Evidence::parse`] says.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let bad = |reason| Error::Field { field: "token", reason };
        let token = value.get("token").and_then(Value::as_array).ok_or(bad("must be an array of bytes"))?;
        if token.len() > MAX_TOKEN {
            return Err(bad("is longer than 64 KiB"));
        }
        let byte = |value: &Value| value.as_u64().and_then(|n| u8::try_from(n).ok());
        let token: Option<Vec<u8>> = token.iter().map(byte).collect();
        Evidence::parse(token.ok_or(bad("must be an array of bytes"))?)
    }

    /// The JSON value.
    pub fn to_json(&self) -> Value {
        json!({ "token": self.token })
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the two signed tokens, complete and in their only encoding;
    /// [`Error::Unsupported`] for other tags, profiles and signature algorithms.
    pub fn parse(token: Vec<u8>) -> Result<Self, Error> {
        if token.len() > MAX_TOKEN {
            return Err(Error::Malformed { what: TOKEN, reason: "it is longer than 64 KiB".to_owned() });
        }
        let (mut platform, mut realm) = (None, None);
        let mut decoder = Decoder::new(TOKEN, &token);
        match decoder.tag()? {
            COLLECTION => {}
            // Among them 907, of the profiles of 2024, whose collection is of another form.
            other => return Err(Error::Unsupported { what: "CCA token's CBOR tag", got: other.to_string() }),
        }
        decoder.map("the collection", 2, |d, key| {
            match key {
                Key::Int(PLATFORM) => platform = Some(d.bytes("the platform token")?),
                Key::Int(REALM) => realm = Some(d.bytes("the realm token")?),
                _ => return Err(d.error("the collection has an unknown member")),
            }
            Ok(())
        })?;
        decoder.finish()?;
        let (Some(platform), Some(realm)) = (platform, realm) else {
            return Err(decoder.error("a platform or realm token is missing"));
        };
        let (platform_signed, platform) = cose::open("CCA platform token", platform)?;
        let (realm_signed, realm) = cose::open("CCA realm token", realm)?;
        let (platform, realm) = (Platform::parse(platform)?, Realm::parse(realm)?);
        Ok(Evidence { token, platform, realm, platform_signed, realm_signed })
    }

    /// The token's bytes.
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// The platform token's claims.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The realm token's claims.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }
}

/// Both tokens in their collection.
pub(super) fn collection(platform: &[u8], realm: &[u8]) -> Vec<u8> {
    let mut e = Encoder::default();
    e.tag(COLLECTION).map(2).int(44234).bytes(platform).int(44241).bytes(realm);
    e.into_bytes()
}
