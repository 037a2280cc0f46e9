//! What evidence is bound to: a hash over the challenge's nonce and the guest's key.
//!
//! The key is hashed as its typed fields only, so that members unknown here can neither be smuggled in nor break the
//! comparison. The caller pads or truncates the digest to its hardware's field.

use serde_json::json;

use crate::jwk::TeePublicKey;
use crate::{Error, HashAlgorithm, jcs};

/// The report data of the primary evidence: H(JCS({additional-evidence, nonce, tee-pubkey})).
///
/// `nonce` is the challenge's text as received, not its decoded bytes; `additional_evidence` is exactly the string
/// sent, `""` where there is none (it is hashed even then).
///
/// # Errors
/// [`Error::Json`] where the key cannot be written.
pub fn report_data(
    algorithm: HashAlgorithm,
    nonce: &str,
    key: &TeePublicKey,
    additional_evidence: &str,
) -> Result<Vec<u8>, Error> {
    let bound = json!({
        "additional-evidence": additional_evidence,
        "nonce": nonce,
        "tee-pubkey": key_json(key)?,
    });
    Ok(algorithm.digest(&jcs::canonicalize(&bound)?))
}

/// The report data of every additional device, and of protocol 0.1.1 and 0.2.0: H(JCS({nonce, tee-pubkey})).
///
/// # Errors
/// [`Error::Json`] where the key cannot be written.
pub fn device_report_data(
    algorithm: HashAlgorithm,
    nonce: &str,
    key: &TeePublicKey,
) -> Result<Vec<u8>, Error> {
    let bound = json!({"nonce": nonce, "tee-pubkey": key_json(key)?});
    Ok(algorithm.digest(&jcs::canonicalize(&bound)?))
}

fn key_json(key: &TeePublicKey) -> Result<serde_json::Value, Error> {
    serde_json::to_value(key).map_err(|e| Error::Json { what: "tee-pubkey", problem: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn key() -> TeePublicKey {
        serde_json::from_value(json!({
            "y": "B".repeat(43), "x": "A".repeat(43), "alg": "ECDH-ES+A256KW", "crv": "P-256", "kty": "EC",
        }))
        .unwrap()
    }

    #[test]
    fn known_answers() {
        let primary = |algorithm| hex::encode(report_data(algorithm, NONCE, &key(), "").unwrap());
        assert_eq!(
            primary(HashAlgorithm::Sha384),
            "509a95b12f352516f55bc254c503223b3998e7a54de88ea21f19593f0903e076634b37cb221ba0760adeb8a384a0af8d"
        );
        assert_eq!(
            primary(HashAlgorithm::Sha512),
            "4c589977915a852806467662a127ab37c61bc345afcfd15330e58f3b148764c8\
             295bddd4bb17a985e4c7f092d56d9290c31bf841193cac1ee773d0fe3128b939"
        );
        assert_eq!(
            hex::encode(device_report_data(HashAlgorithm::Sha384, NONCE, &key()).unwrap()),
            "3768989fddee08608007ab7378ef7c304f23ce09d4e7c4ac36309f49b92f74380d19104d7f9a262318c3cb903987363e"
        );
    }

    #[test]
    fn every_input_is_bound() {
        let of = |nonce: &str, additional: &str| {
            report_data(HashAlgorithm::Sha384, nonce, &key(), additional).unwrap()
        };
        let base = of(NONCE, "");
        assert_ne!(base, of("", ""));
        assert_ne!(base, of(NONCE, "{}"));
        let mut other = serde_json::to_value(key()).unwrap();
        other["x"] = json!("C".repeat(43));
        let other: TeePublicKey = serde_json::from_value(other).unwrap();
        assert_ne!(base, report_data(HashAlgorithm::Sha384, NONCE, &other, "").unwrap());
    }

    #[test]
    fn unknown_members_of_the_key_are_not_hashed() {
        let mut extended = serde_json::to_value(key()).unwrap();
        extended["kid"] = json!("whatever");
        let extended: TeePublicKey = serde_json::from_value(extended).unwrap();
        for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha384] {
            assert_eq!(
                report_data(algorithm, NONCE, &extended, "").unwrap(),
                report_data(algorithm, NONCE, &key(), "").unwrap()
            );
        }
    }
}
