//! AMD's list of revoked intermediates, VLEKs and chips (AMD 57230, certificate revocation list).

use cocoon_stage::Code;

use super::collateral::{Authority, Kind};
use super::rules::Rules;
use super::verify::KDS;
use crate::Check;
use crate::x509::{Certificate, Crl, Validity};

/// What the list says of a chain. It holds until the list or the chain changes, so it is remembered with the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Revocation {
    /// No list is at hand.
    Unknown,
    /// The list is not the root's.
    Invalid(String),
    /// This certificate is on it.
    Revoked(String),
    /// No certificate of the chain is on it.
    Clear(Validity),
}

/// Looks the chain up in a list, which must be signed by the chain's root.
pub(super) fn judge(leaf: &Certificate, authority: &Authority, crl: Option<&[u8]>) -> Revocation {
    let Some(crl) = crl else { return Revocation::Unknown };
    let crl = match Crl::parse(crl) {
        Ok(crl) => crl,
        Err(error) => return Revocation::Invalid(error.to_string()),
    };
    if !crl.is_signed_by(&authority.root) && !crl.is_signed_by(&authority.issuer) {
        return Revocation::Invalid("not signed by the chain's root".to_owned());
    }
    // A VLEK's serial number is looked up whoever signed the list; VCEKs have no serial numbers of their own.
    let named = |c: &&Certificate| crl.revokes(c) || (authority.kind == Kind::Vlek && crl.lists(c.serial()));
    match [leaf, &authority.issuer, &authority.root].into_iter().find(named) {
        Some(certificate) => Revocation::Revoked(certificate.subject()),
        None => Revocation::Clear(crl.validity()),
    }
}

impl Revocation {
    /// Until when the list that was looked into is current; `None` without one.
    pub fn until(&self) -> Option<u64> {
        match self {
            Revocation::Clear(validity) => Some(validity.not_after),
            _ => None,
        }
    }

    /// The check. Nobody publishes a list for a simulated chip.
    pub fn check(&self, rules: &Rules, simulated: bool, now_unix: u64) -> Option<Check> {
        let (ok, code, got) = match self {
            Revocation::Unknown if simulated => return None,
            Revocation::Unknown => (
                !rules.require_crl,
                Code::AttestCollateralMissing,
                "not looked up: no list is at hand".to_owned(),
            ),
            Revocation::Invalid(reason) => (false, Code::AttestCollateralInvalid, reason.clone()),
            Revocation::Revoked(subject) => (false, Code::AttestRevoked, format!("{subject} is revoked")),
            Revocation::Clear(validity) => {
                let current = validity.contains(now_unix);
                let until = validity.not_after;
                let got = format!("none of the chain, by a list valid until {until}");
                // An old list still says who was revoked then.
                (current || !rules.require_crl, Code::AttestCollateralInvalid, got)
            }
        };
        let expected = if rules.require_crl { "not revoked, by a current list" } else { "not revoked" };
        Some(Check::new("certificate.revocation", ok, code, expected, got, KDS))
    }
}
