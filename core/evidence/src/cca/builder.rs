//! Makes tokens of genuine format; for whoever plays platform and realm.

use aws_lc_rs::digest;

use super::cose::{self, Algorithm};
use super::evidence::{Evidence, collection};
use super::realm::{Realm, RealmProfile};
use super::token::{Platform, PlatformProfile, SwComponent};
use crate::Error;
use crate::x509::Hash;

/// Makes a token of genuine format.
#[derive(Clone, Debug)]
pub struct TokenBuilder {
    /// Every claim may be set; [`TokenBuilder::bind`] sets the challenge.
    pub platform: Platform,
    /// Every claim may be set.
    pub realm: Realm,
    /// What the platform token is signed with.
    pub platform_algorithm: Algorithm,
    /// What the realm token is signed with.
    pub realm_algorithm: Algorithm,
}

impl TokenBuilder {
    /// A secured platform with one component, and a realm whose RAK is that P-384 point (97 bytes, uncompressed) in the
    /// legacy form; zeros elsewhere, ES384, SHA-256.
    pub fn new(public_key: &[u8]) -> Self {
        let instance_id = std::array::from_fn(|i| u8::from(i == 0));
        let component = SwComponent {
            measurement_type: Some("RMM".to_owned()),
            measurement_value: vec![0; 32],
            version: None,
            signer_id: vec![0; 32],
            hash_algo_id: Some("sha-256".to_owned()),
        };
        let platform = Platform {
            profile: PlatformProfile::CcaSsd1,
            challenge: vec![0; 32],
            implementation_id: [0; 32],
            instance_id,
            config: vec![0; 4],
            lifecycle: 0x3000,
            sw_components: vec![component],
            verification_service: None,
            hash: Hash::Sha256,
        };
        let realm = Realm {
            profile: RealmProfile::Legacy,
            challenge: [0; 64],
            personalization_value: [0; 64],
            initial_measurement: vec![0; 32],
            extensible_measurements: std::array::from_fn(|_| vec![0; 32]),
            hash: Hash::Sha256,
            public_key: public_key.to_vec(),
            public_key_hash: Hash::Sha256,
        };
        TokenBuilder {
            platform,
            realm,
            platform_algorithm: Algorithm::Es384,
            realm_algorithm: Algorithm::Es384,
        }
    }

    /// Makes the platform's challenge the hash of the realm's public key.
    pub fn bind(mut self) -> Self {
        self.platform.challenge = hash(self.realm.public_key_hash, &self.realm.public_key);
        self
    }

    /// Signs both tokens: each function is given what to sign and returns r and s in full length, one after the other.
    ///
    /// # Errors
    /// Those of the functions, and those of [`Evidence::parse`] where the claims are none that a token can have.
    pub fn sign_with<E: From<Error>>(
        &self,
        platform: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
        realm: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Evidence, E> {
        let platform = cose::seal(self.platform_algorithm, &self.platform.to_payload(), platform)?;
        let realm = cose::seal(self.realm_algorithm, &self.realm.to_payload(), realm)?;
        Ok(Evidence::parse(collection(&platform, &realm))?)
    }
}

/// A digest.
pub(super) fn hash(hash: Hash, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}
