//! The chain from Hygon's root, which is embedded, or from a simulated one, to the key of a chip.

use cocoon_stage::Code;

use super::certificate::{CaCertificate, ChipCertificate, Signer, usage};
use super::collateral::Issuers;
use crate::sm::PublicKey;
use crate::{Check, Error};

/// The id under which a simulated root signs contains this, and the id of its key starts with it.
pub const SIMULATED_MARK: &str = "SIMULATED";
const SOURCE: &str = "Hygon CSV, certificate chain";

/// The roots a verifier trusts.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Trust Hygon's root key (HRK).
    pub hygon: bool,
    /// Also trust these simulated roots. Empty everywhere but in tests and on a machine without a TEE.
    pub simulated: Vec<SimulatedRoot>,
}

impl Default for Roots {
    /// Hygon's root and nothing else.
    fn default() -> Self {
        Roots { hygon: true, simulated: Vec::new() }
    }
}

/// A simulated HRK: a certificate that signs itself and calls itself simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedRoot {
    /// The certificate, 832 bytes.
    pub hrk: Vec<u8>,
}

impl SimulatedRoot {
    /// Checks that it is one, and can be taken for no vendor's root.
    ///
    /// # Errors
    /// [`Error::SimulatedRoot`], or why it cannot be read.
    pub fn check(&self) -> Result<(), Error> {
        self.signer().map(|_| ())
    }

    fn signer(&self) -> Result<Signer, Error> {
        let root = CaCertificate::parse(&self.hrk)?;
        if !root.user_id().contains(SIMULATED_MARK) {
            return Err(Error::SimulatedRoot("its user id does not say SIMULATED"));
        }
        if root.usage() != usage::HRK || !root.is_signed_by(root.signer()) {
            return Err(Error::SimulatedRoot("it is no root that signs itself"));
        }
        Ok(root.signer().clone())
    }
}

/// Hygon's root key, from the certificate at <https://cert.hygon.cn/hrk>.
fn hrk() -> Signer {
    Signer { key: PublicKey { x: HRK_X, y: HRK_Y }, id: "HYGON-SSD-HRK".to_owned() }
}

const HRK_X: [u8; 32] = [
    0xbe, 0x62, 0xe1, 0x4d, 0x62, 0xa4, 0xf1, 0x4c, 0xf3, 0xd7, 0x02, 0xdb, 0x09, 0x56, 0x3a, 0x75, 0xc8,
    0x09, 0x35, 0xe7, 0x85, 0xcd, 0x1f, 0x50, 0x2a, 0xf5, 0xf2, 0x1d, 0x92, 0xc2, 0xf6, 0x2d,
];
const HRK_Y: [u8; 32] = [
    0x3b, 0xab, 0x12, 0x3a, 0x57, 0xbb, 0x70, 0x15, 0x58, 0x4f, 0x8b, 0x97, 0x16, 0x4e, 0x95, 0x38, 0x4a,
    0x64, 0x0c, 0x10, 0xb9, 0xbe, 0x88, 0x47, 0x38, 0x74, 0x4d, 0x68, 0xb4, 0x1e, 0xb9, 0x46,
];

/// What became of the chain down to the CEK.
pub(crate) struct Endorsed {
    /// `hsk.chain` and `cek.chain`.
    pub checks: [Check; 2],
    /// The CEK, verified or not; what it signed is checked anyway.
    pub cek: Option<ChipCertificate>,
    /// Why there is none.
    pub missing: Option<(Code, String)>,
    /// Whether the chain ends, or says that it ends, in a simulated root.
    pub simulated: bool,
}

/// Verifies HSK and CEK.
pub(crate) fn endorse(issuers: Issuers, roots: &Roots) -> Endorsed {
    let check = |name, failed: Option<Code>, expected: &str, got: String| {
        Check::new(
            name,
            failed.is_none(),
            failed.unwrap_or(Code::AttestChainUntrusted),
            expected,
            got,
            SOURCE,
        )
    };
    let (hsk_expected, cek_expected) = ("HSK signed by a trusted HRK", "CEK signed by the HSK");
    let (hsk, cek) = match issuers {
        Ok(both) => both,
        Err((code, why)) => {
            let checks = [
                check("hsk.chain", Some(code), hsk_expected, why.clone()),
                check("cek.chain", Some(code), cek_expected, why.clone()),
            ];
            return Endorsed { checks, cek: None, missing: Some((code, why)), simulated: false };
        }
    };
    let named_simulated = hsk.issuer_id().starts_with(SIMULATED_MARK.as_bytes());
    let signed = |root: &Signer| hsk.usage() == usage::HSK && hsk.is_signed_by(root);
    let by_hygon = roots.hygon && signed(&hrk());
    let by_simulated =
        !by_hygon && roots.simulated.iter().filter_map(|root| root.signer().ok()).any(|root| signed(&root));
    let (failed, got) = match (by_hygon, by_simulated) {
        (true, _) => (None, "signed by Hygon's HRK"),
        (_, true) => (None, "signed by a simulated HRK"),
        _ if hsk.usage() != usage::HSK => (Some(Code::AttestChainUntrusted), "the key is no HSK"),
        _ if named_simulated && roots.simulated.is_empty() => {
            (Some(Code::AttestSimulatedRefused), "names a simulated HRK")
        }
        _ => (Some(Code::AttestChainUntrusted), "signed by no trusted HRK"),
    };
    let hsk_check = check("hsk.chain", failed, hsk_expected, got.to_owned());
    let cek_check = signed_by("cek.chain", &cek, "CEK", usage::CEK, hsk.signer(), ("HSK", usage::HSK));
    Endorsed {
        checks: [hsk_check, cek_check],
        cek: Some(cek),
        missing: None,
        simulated: by_simulated || (named_simulated && !by_hygon),
    }
}

/// Whether a chip's certificate has its usage and its issuer's signature.
pub(crate) fn signed_by(
    check: &'static str,
    certificate: &ChipCertificate,
    name: &str,
    own_usage: u32,
    issuer: &Signer,
    (issuer_name, issuer_usage): (&str, u32),
) -> Check {
    let own = certificate.usage() == own_usage;
    let signed = certificate.is_signed_by(issuer, issuer_usage);
    let got = match (own, signed) {
        (false, _) => format!("usage {:#x}", certificate.usage()),
        (true, false) => format!("no valid signature of the {issuer_name}"),
        (true, true) => format!("signed by the {issuer_name}"),
    };
    let expected = format!("{name} signed by the {issuer_name}");
    Check::new(check, own && signed, Code::AttestChainUntrusted, expected, got, SOURCE)
}

#[cfg(test)]
mod tests {
    use sm2::dsa::VerifyingKey;

    use super::*;

    #[test]
    fn the_embedded_root_key_is_a_point_of_the_curve() {
        let point = [&[4][..], &HRK_X, &HRK_Y].concat();
        assert!(VerifyingKey::from_sec1_bytes("HYGON-SSD-HRK", &point).is_ok());
    }
}
