//! A pod's proof to whoever asks with a fresh nonce: what the owner's `cocoon verify` reads, with no Trustee in between.
//!
//! `GET /proof?nonce=<base64url>` on the guest's port [`PROOF_PORT`], over HTTP/1.1, answers a [`Proof`]. Anybody may ask. The
//! report data are of a kind of their own ([`proof_report_data`]), so a proof is of no use where evidence opens a session:
//! whoever asks cannot have a key of theirs bound by it.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, HashAlgorithm, Tee, b64};

/// The port of the pod's loopback at which the host forwards to the guest's proof. No plan may forward it to a workload.
pub const PROOF_PORT: u16 = 8007;
/// Path of the request.
pub const PROOF_PATH: &str = "/proof";
/// How many bytes a nonce has.
pub const NONCE_BYTES: RangeInclusive<usize> = 16..=64;
/// What the hashed text begins with. A KBS session's begins with `{`, so neither can be taken for the other.
const DOMAIN: &[u8] = b"cocoon pod proof v1\0";

/// What a pod answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Kind of TEE.
    pub tee: Tee,
    /// Evidence as KBS clients send it, over [`proof_report_data`] of the nonce.
    pub evidence: Value,
}

/// SHA-512 over `cocoon pod proof v1`, a zero byte and the nonce: the whole of the report data of an SNP or TDX report, the
/// qualifying data of a TPM's quote.
pub fn proof_report_data(nonce: &[u8]) -> Vec<u8> {
    HashAlgorithm::Sha512.digest(&[DOMAIN, nonce].concat())
}

/// The nonce of a request's query (`nonce=…`, base64url without padding).
///
/// # Errors
/// Where there is none, it is not base64url, or its length is none of [`NONCE_BYTES`].
pub fn proof_nonce(query: &str) -> Result<Vec<u8>, Error> {
    let problem = || Error::Invalid { what: "nonce", problem: "16 to 64 bytes, base64url".into() };
    let text = query.split('&').find_map(|pair| pair.strip_prefix("nonce=")).ok_or_else(problem)?;
    // Four characters hold three bytes.
    if text.len() > NONCE_BYTES.end().div_ceil(3) * 4 {
        return Err(problem());
    }
    let nonce = b64::url_decode(text).map_err(|_| problem())?;
    NONCE_BYTES.contains(&nonce.len()).then_some(nonce).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_bounded() {
        let query = |bytes: usize| format!("nonce={}", b64::url_encode(&vec![7; bytes]));
        for good in [16, 32, 64] {
            assert_eq!(proof_nonce(&query(good)).unwrap(), vec![7; good]);
        }
        assert_eq!(proof_nonce(&format!("a=b&{}", query(32))).unwrap().len(), 32);
        for bad in
            [query(0), query(15), query(65), query(4096), "".into(), "nonce=".into(), "nonce=+/==".into()]
        {
            assert!(proof_nonce(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_nonce_makes_the_report_data_of_a_session() {
        let data = proof_report_data(&[7; 32]);
        assert_eq!(data.len(), 64);
        assert_ne!(data, proof_report_data(&[8; 32]));
        // Of the text itself there is none that begins as a session's does.
        assert!(!DOMAIN.starts_with(b"{"));
        assert_ne!(data, HashAlgorithm::Sha512.digest(&[7; 32]));
    }
}
