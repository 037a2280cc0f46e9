//! What an operator knows of platforms and realms: trust anchors and reference values.
//!
//! The JSON forms are those of upstream's local verifier (Veraison's `ccatoken` stores). They are read and checked once;
//! a member that is not known is an error, as it may be one that restricts.

use std::collections::HashMap;

use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::cose::Algorithm;
use super::token::{MAX_COMPONENTS, MAX_CONFIG, MAX_TEXT, SwComponent, hash_of, is_digest};
use crate::Error;
use crate::x509::{Curve, Hash, PublicKey};

const ANCHORS: &str = "CCA trust anchor store";
const REFERENCES: &str = "CCA reference value store";

/// Most trust anchors: one for each platform.
const MAX_ANCHORS: usize = 65_536;
/// Most reference states of all platforms, and of all realms.
const MAX_REFERENCES: usize = 4096;
/// Most reference states of one implementation, so that one token costs little.
const MAX_STATES: usize = 64;

/// What an operator may waive or leave to a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// A platform of whose implementation the store has no reference value may pass. Its firmware must then be judged by
    /// the claims. Where the store has reference values for it, they hold regardless.
    pub platform_references_optional: bool,
    /// The store's reference values of realms are not looked at; the claims are left to a policy.
    pub realm_references_ignored: bool,
}

/// The key of a platform.
pub(super) struct Anchor {
    pub algorithm: Algorithm,
    pub key: ParsedPublicKey,
}

/// One good state of all platforms of an implementation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformReference {
    /// Configuration, as in the claim.
    pub config: Vec<u8>,
    /// All components; type, version and hash algorithm are compared where they are given.
    pub sw_components: Vec<SwComponent>,
}

/// One good state of a realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmReference {
    /// Initial measurement.
    pub initial_measurement: Vec<u8>,
    /// How the RAK must have been hashed.
    pub public_key_hash: Hash,
    /// The four extensible measurements, where they must have one value.
    pub extensible_measurements: Option<[Vec<u8>; 4]>,
    /// The personalization value, where it must have one. Compared only where no initdata was presented, whose digest it
    /// then must be.
    pub personalization_value: Option<[u8; 64]>,
}

/// Trust anchors and reference values.
#[derive(Default)]
pub struct Store {
    anchors: HashMap<[u8; 32], HashMap<[u8; 33], Anchor>>,
    platforms: HashMap<[u8; 32], Vec<PlatformReference>>,
    realms: Vec<RealmReference>,
}

impl Store {
    /// Nothing is trusted.
    pub fn empty() -> Self {
        Store::default()
    }

    /// Reads both stores.
    ///
    /// `trust_anchors`: `[{"pkey": JWK, "implementation-id": hex, "instance-id": hex}]`, the JWK an EC public key.
    /// `references`: `{"platform": [{"implementation-id", "platform-configuration", "sw-components": [{"component-type",
    /// "measurement-value", "version", "signer-id", "hash-algo-id"}]}], "realm": [{"initial-measurement",
    /// "rak-hash-algorithm", "extensible-measurements", "personalization-value"}]}`, bytes as hex.
    ///
    /// # Errors
    /// [`Error::Malformed`] where a store is not of that form, contradicts itself, or exceeds 65536 trust anchors, 4096
    /// reference states or 64 of one implementation.
    pub fn from_json(trust_anchors: &Value, references: &Value) -> Result<Self, Error> {
        let mut store = Store::empty();
        let anchors = trust_anchors.as_array().ok_or_else(|| bad(ANCHORS, "it is not an array"))?;
        if anchors.len() > MAX_ANCHORS {
            return Err(bad(ANCHORS, "more than 65536 trust anchors"));
        }
        for anchor in anchors {
            let wire = WireAnchor::deserialize(anchor).map_err(|e| bad(ANCHORS, e))?;
            let implementation: [u8; 32] = fixed(ANCHORS, "implementation-id", &wire.implementation_id)?;
            let instance: [u8; 33] = fixed(ANCHORS, "instance-id", &wire.instance_id)?;
            if instance.first() != Some(&1) {
                return Err(bad(ANCHORS, "an instance-id does not begin with 01"));
            }
            let instances = store.anchors.entry(implementation).or_default();
            if instances.insert(instance, wire.pkey.anchor()?).is_some() {
                return Err(bad(ANCHORS, format_args!("two keys for instance {}", wire.instance_id)));
            }
        }
        let too_many =
            |name| references.get(name).and_then(Value::as_array).map_or(0, Vec::len) > MAX_REFERENCES;
        if too_many("platform") || too_many("realm") {
            return Err(bad(REFERENCES, "more than 4096 states"));
        }
        let wire = WireReferences::deserialize(references).map_err(|e| bad(REFERENCES, e))?;
        for platform in wire.platform {
            let implementation = fixed(REFERENCES, "implementation-id", &platform.implementation_id)?;
            let states = store.platforms.entry(implementation).or_default();
            states.push(platform.read()?);
            if states.len() > MAX_STATES {
                return Err(bad(REFERENCES, "more than 64 states of one implementation"));
            }
        }
        store.realms = wire.realm.into_iter().map(WireRealm::read).collect::<Result<_, _>>()?;
        Ok(store)
    }

    /// The key of a platform, or whether the implementation is known at all.
    pub(super) fn anchor(&self, implementation: &[u8; 32], instance: &[u8; 33]) -> Result<&Anchor, bool> {
        let instances = self.anchors.get(implementation).ok_or(false)?;
        instances.get(instance).ok_or(true)
    }

    /// The good states of an implementation.
    pub fn platforms(&self, implementation: &[u8; 32]) -> &[PlatformReference] {
        self.platforms.get(implementation).map_or(&[], Vec::as_slice)
    }

    /// The good states of realms.
    pub fn realms(&self) -> &[RealmReference] {
        &self.realms
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let anchors: usize = self.anchors.values().map(HashMap::len).sum();
        let platforms: usize = self.platforms.values().map(Vec::len).sum();
        write!(f, "Store({anchors} anchors, {platforms} platform and {} realm states)", self.realms.len())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireAnchor {
    pkey: WireKey,
    implementation_id: String,
    instance_id: String,
}

/// A public JWK (RFC 7517, RFC 7518). One with a private part has a member that is not known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireKey {
    kty: String,
    crv: String,
    x: String,
    y: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    #[serde(rename = "kid")]
    _kid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireReferences {
    #[serde(default)]
    platform: Vec<WirePlatform>,
    #[serde(default)]
    realm: Vec<WireRealm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WirePlatform {
    implementation_id: String,
    platform_configuration: String,
    sw_components: Vec<WireComponent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireComponent {
    component_type: Option<String>,
    measurement_value: String,
    version: Option<String>,
    signer_id: String,
    hash_algo_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireRealm {
    initial_measurement: String,
    rak_hash_algorithm: String,
    extensible_measurements: Option<Vec<String>>,
    personalization_value: Option<String>,
}

impl WireKey {
    fn anchor(&self) -> Result<Anchor, Error> {
        let curve = match (self.kty.as_str(), self.crv.as_str()) {
            ("EC", "P-256") => Curve::P256,
            ("EC", "P-384") => Curve::P384,
            ("EC", "P-521") => Curve::P521,
            _ => return Err(bad(ANCHORS, "a key is not EC on P-256, P-384 or P-521")),
        };
        let algorithm = Algorithm::for_curve(curve);
        if self.alg.as_deref().is_some_and(|alg| alg != algorithm.name())
            || self.usage.as_deref().is_some_and(|usage| usage != "sig")
        {
            return Err(bad(ANCHORS, "a key is for another algorithm or use"));
        }
        let coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|e| bad(ANCHORS, e));
        let key = PublicKey::ec(curve, &coordinate(&self.x)?, &coordinate(&self.y)?)
            .and_then(|key| key.prepared(algorithm.scheme()))
            .map_err(|_| bad(ANCHORS, "a key is no point of its curve"))?;
        Ok(Anchor { algorithm, key })
    }
}

impl WirePlatform {
    fn read(self) -> Result<PlatformReference, Error> {
        let config = bytes(REFERENCES, "platform-configuration", &self.platform_configuration)?;
        let count = self.sw_components.len() as u64;
        if !(1..=MAX_CONFIG).contains(&config.len()) || !(1..=MAX_COMPONENTS).contains(&count) {
            return Err(bad(REFERENCES, "a configuration or list of components that no platform can have"));
        }
        let sw_components =
            self.sw_components.into_iter().map(WireComponent::read).collect::<Result<_, _>>()?;
        Ok(PlatformReference { config, sw_components })
    }
}

impl WireComponent {
    fn read(self) -> Result<SwComponent, Error> {
        let texts = [&self.component_type, &self.version, &self.hash_algo_id];
        if texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT) {
            return Err(bad(REFERENCES, "a component's text of more than 256 bytes"));
        }
        Ok(SwComponent {
            measurement_type: self.component_type,
            measurement_value: digest("measurement-value", &self.measurement_value)?,
            version: self.version,
            signer_id: digest("signer-id", &self.signer_id)?,
            hash_algo_id: self.hash_algo_id,
        })
    }
}

impl WireRealm {
    fn read(self) -> Result<RealmReference, Error> {
        let extensible = self.extensible_measurements.map(|list| {
            let list: Result<Vec<_>, _> =
                list.iter().take(5).map(|m| digest("extensible-measurements", m)).collect();
            list?.try_into().map_err(|_| bad(REFERENCES, "extensible-measurements are not four"))
        });
        let personalization =
            self.personalization_value.map(|value| fixed(REFERENCES, "personalization-value", &value));
        Ok(RealmReference {
            initial_measurement: digest("initial-measurement", &self.initial_measurement)?,
            public_key_hash: hash_of(&self.rak_hash_algorithm)
                .ok_or_else(|| bad(REFERENCES, "rak-hash-algorithm is not sha-256, sha-384 or sha-512"))?,
            extensible_measurements: extensible.transpose()?,
            personalization_value: personalization.transpose()?,
        })
    }
}

fn bad(what: &'static str, reason: impl std::fmt::Display) -> Error {
    Error::Malformed { what, reason: reason.to_string() }
}

fn bytes(what: &'static str, name: &str, text: &str) -> Result<Vec<u8>, Error> {
    hex::decode(text).map_err(|e| bad(what, format_args!("{name}: {e}")))
}

fn fixed<const N: usize>(what: &'static str, name: &str, text: &str) -> Result<[u8; N], Error> {
    bytes(what, name, text)?.try_into().map_err(|_| bad(what, format_args!("{name} has not {N} bytes")))
}

fn digest(name: &str, text: &str) -> Result<Vec<u8>, Error> {
    let digest = bytes(REFERENCES, name, text)?;
    match is_digest(&digest) {
        true => Ok(digest),
        false => Err(bad(REFERENCES, format_args!("{name} has not 32, 48 or 64 bytes"))),
    }
}
