//! The realm token's claims (Arm DEN0137, A7.2.3.1).

use super::cbor::{Decoder, Encoder, Key};
use super::cose::{self, Algorithm};
use super::token::{
    CHALLENGE, MAX_CLAIMS, MAX_TEXT, PROFILE, digest, fixed, hash_algorithm, hash_name, missing, unsupported,
};
use crate::Error;
use crate::x509::{Curve, Hash, PublicKey};

const REALM: &str = "CCA realm token";
/// Longest public key claim; a COSE_Key of a P-521 key has about 150 bytes.
const MAX_KEY: usize = 512;
/// Name of the profile.
const REALM_1: &str = "tag:arm.com,2023:realm#1.0.0";

const PERSONALIZATION_VALUE: i128 = 44235;
const HASH_ALGO_ID: i128 = 44236;
const PUBLIC_KEY: i128 = 44237;
const INITIAL_MEASUREMENT: i128 = 44238;
const EXTENSIBLE_MEASUREMENTS: i128 = 44239;
const PUBLIC_KEY_HASH_ALGO_ID: i128 = 44240;

/// The profile of a realm token, which says how its public key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealmProfile {
    /// None is named: the public key is an uncompressed P-384 point, 97 bytes.
    Legacy,
    /// `tag:arm.com,2023:realm#1.0.0`: the public key is a COSE_Key.
    Realm1,
}

impl RealmProfile {
    /// Its name, if it has one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            RealmProfile::Legacy => None,
            RealmProfile::Realm1 => Some(REALM_1),
        }
    }
}

/// Claims of a realm token. Nothing says that they are true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm {
    /// Claim 265.
    pub profile: RealmProfile,
    /// Claim 10: what the realm's software asked to have signed.
    pub challenge: [u8; 64],
    /// Claim 44235: what the host gave when it made the realm.
    pub personalization_value: [u8; 64],
    /// Claim 44238; 32, 48 or 64 bytes.
    pub initial_measurement: Vec<u8>,
    /// Claim 44239; 32, 48 or 64 bytes each.
    pub extensible_measurements: [Vec<u8>; 4],
    /// Claim 44236, how the realm is measured.
    pub hash: Hash,
    /// Claim 44237, the RAK as its profile writes it.
    pub public_key: Vec<u8>,
    /// Claim 44240, how the platform token's challenge was made of the public key.
    pub public_key_hash: Hash,
}

impl Realm {
    /// Reads the payload of a realm token. The legacy key's form and a COSE_Key never look alike, so a realm's profile
    /// stands for itself and need not be the companion of the platform's.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (mut profile, mut challenge, mut personalization) = (RealmProfile::Legacy, None, None);
        let (mut initial, mut extensible, mut hash, mut key, mut key_hash) = (None, None, None, None, None);
        let mut decoder = Decoder::new(REALM, payload);
        decoder.map("the claims", MAX_CLAIMS, |d, claim| {
            match claim {
                Key::Int(PROFILE) => profile = realm_profile(d)?,
                Key::Int(CHALLENGE) => challenge = Some(fixed(d, "the challenge")?),
                Key::Int(PERSONALIZATION_VALUE) => {
                    personalization = Some(fixed(d, "the personalization value")?);
                }
                Key::Int(INITIAL_MEASUREMENT) => initial = Some(digest(d, "the initial measurement")?),
                Key::Int(EXTENSIBLE_MEASUREMENTS) => extensible = Some(measurements(d)?),
                Key::Int(HASH_ALGO_ID) => hash = Some(hash_algorithm(d)?),
                Key::Int(PUBLIC_KEY) => key = Some(d.bytes("the public key")?),
                Key::Int(PUBLIC_KEY_HASH_ALGO_ID) => key_hash = Some(hash_algorithm(d)?),
                _ => d.skip()?,
            }
            Ok(())
        })?;
        decoder.finish()?;
        let missing = |name| move || missing(REALM, name);
        let realm = Realm {
            profile,
            challenge: challenge.ok_or_else(missing("challenge"))?,
            personalization_value: personalization.ok_or_else(missing("personalization value"))?,
            initial_measurement: initial.ok_or_else(missing("initial measurement"))?,
            extensible_measurements: extensible.ok_or_else(missing("extensible measurements"))?,
            hash: hash.ok_or_else(missing("hash algorithm"))?,
            public_key: key.ok_or_else(missing("public key"))?.to_vec(),
            public_key_hash: key_hash.ok_or_else(missing("public key's hash algorithm"))?,
        };
        realm.key()?;
        Ok(realm)
    }

    /// The RAK, and its algorithm if it names one. Whether it is a point of its curve is not looked at.
    pub(super) fn key(&self) -> Result<(Curve, PublicKey, Option<Algorithm>), Error> {
        if self.public_key.len() > MAX_KEY {
            return Err(Error::Malformed { what: REALM, reason: "the public key is too long".to_owned() });
        }
        match self.profile {
            RealmProfile::Realm1 => cose::public_key(REALM, &self.public_key),
            RealmProfile::Legacy => {
                let not_a_point = || Error::Malformed {
                    what: REALM,
                    reason: "the public key is not an uncompressed P-384 point".to_owned(),
                };
                let [4, xy @ ..] = self.public_key.as_slice() else { return Err(not_a_point()) };
                let (x, y) = xy.split_at_checked(48).ok_or_else(not_a_point)?;
                let key = PublicKey::ec(Curve::P384, x, y).map_err(|_| not_a_point())?;
                Ok((Curve::P384, key, None))
            }
        }
    }

    /// The payload of a realm token.
    pub(super) fn to_payload(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.map(7 + usize::from(self.profile.name().is_some()));
        if let Some(name) = self.profile.name() {
            e.int(265).text(name);
        }
        e.int(10).bytes(&self.challenge).int(44235).bytes(&self.personalization_value);
        e.int(44237).bytes(&self.public_key).int(44236).text(hash_name(self.hash));
        e.int(44240).text(hash_name(self.public_key_hash));
        e.int(44238).bytes(&self.initial_measurement).int(44239).array(4);
        for measurement in &self.extensible_measurements {
            e.bytes(measurement);
        }
        e.into_bytes()
    }
}

fn realm_profile(d: &mut Decoder<'_>) -> Result<RealmProfile, Error> {
    match d.text("the profile", MAX_TEXT)? {
        REALM_1 => Ok(RealmProfile::Realm1),
        other => Err(unsupported("CCA realm profile", other)),
    }
}

fn measurements(d: &mut Decoder<'_>) -> Result<[Vec<u8>; 4], Error> {
    if d.array("the extensible measurements", 4)? != 4 {
        return Err(d.error("there are not four extensible measurements"));
    }
    let mut next = || digest(d, "an extensible measurement");
    Ok([next()?, next()?, next()?, next()?])
}
