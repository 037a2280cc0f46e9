//! The chain of a platform's certificate: PCK certificate, PCK authority, root.
//!
//! Source: Intel SGX PCK certificate and CRL profile specification, section 1.3.

use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use cocoon_stage::Code;

use super::cache::Cache;
use super::pck::Pck;
use super::roots::Roots;
use crate::collateral::PckCa;
use crate::memory::key;
use crate::snp::SIMULATED_MARK;
use crate::x509::{Certificate, Hash, Scheme, path};
use crate::{Check, Error};

const PROFILE: &str = "Intel SGX PCK certificate profile, 1.3";

/// A chain that leads to a trusted root. Neither dates nor revocation were looked at.
pub(super) struct PckChain {
    pub pck: Pck,
    /// The platform's key, for ECDSA with r and s in full length.
    pub key: ParsedPublicKey,
    pub leaf: Certificate,
    pub authority: Certificate,
    pub root: Certificate,
    pub ca: PckCa,
    /// Whether the root is not Intel's.
    pub simulated: bool,
}

/// Why there is no chain.
pub(super) struct Untrusted {
    pub check: Check,
    pub simulated: bool,
}

/// The check of a chain that is trusted.
pub(super) fn trusted(chain: &PckChain) -> Check {
    let got = format!("{} from {}", chain.authority.subject(), chain.root.subject());
    Check::new("pck.chain", true, Code::AttestChainUntrusted, "a PCK chain to a trusted root", got, PROFILE)
}

/// Verifies a quote's chain, or finds it among those verified before.
pub(super) fn verify(pem: &[u8], roots: &Roots, cache: &Cache) -> Result<Arc<PckChain>, Untrusted> {
    let extra = roots.extra.iter().map(Certificate::der);
    let intel = [u8::from(roots.intel)];
    // Line ends are no part of a chain: who varies them must not fill the memory.
    let dense: Vec<u8> = pem.iter().copied().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
    let id = key([dense.as_slice(), &intel].into_iter().chain(extra));
    if let Some(known) = cache.chains.get(&id) {
        return Ok(known);
    }
    let untrusted = |code, got: String, simulated| {
        let check = Check::new("pck.chain", false, code, "a PCK chain to a trusted root", got, PROFILE);
        Untrusted { check, simulated }
    };
    let certificates =
        read(pem).map_err(|error| untrusted(Code::AttestEvidenceMalformed, error.to_string(), false))?;
    let named = certificates.iter().any(|c| c.subject().contains(SIMULATED_MARK));
    let chain = build(certificates, roots).map_err(|error| {
        let code = match named && roots.extra.is_empty() {
            true => Code::AttestSimulatedRefused,
            false => Code::AttestChainUntrusted,
        };
        untrusted(code, error.to_string(), named)
    })?;
    let chain = Arc::new(chain);
    cache.chains.put(id, chain.clone());
    Ok(chain)
}

/// Reads the three certificates. Between them only white space may stand, and behind them a zero byte.
pub(super) fn read(pem: &[u8]) -> Result<[Certificate; 3], Error> {
    let text = std::str::from_utf8(pem).map_err(|_| Error::Certificate("malformed PEM"))?;
    let text = text.strip_suffix('\0').unwrap_or(text);
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let block = rest.strip_prefix("-----BEGIN CERTIFICATE-----");
        let (body, after) = block
            .and_then(|b| b.split_once("-----END CERTIFICATE-----"))
            .ok_or(Error::Certificate("something beside PEM certificates"))?;
        if body.bytes().any(|b| !b.is_ascii_graphic() && b != b'\n' && b != b'\r') {
            return Err(Error::Certificate("malformed PEM"));
        }
        rest = after.trim_ascii_start();
    }
    let certificates = Certificate::parse_chain(text.as_bytes())?;
    certificates.try_into().map_err(|_| Error::Certificate("not three certificates"))
}

fn build(certificates: [Certificate; 3], roots: &Roots) -> Result<PckChain, Error> {
    let [leaf, authority, root] = certificates;
    let trusted = roots.trusted();
    let pool = [authority.clone()];
    let found = path(&leaf, &pool, &trusted)?;
    let is = |n: usize, certificate: &Certificate| {
        found.certificates.get(n).is_some_and(|c| c.der() == certificate.der())
    };
    // The path must be just what the quote has, so that no part of the quote's chain goes unverified.
    if found.certificates.len() != 3 || !is(1, &authority) || !is(2, &root) {
        return Err(Error::Certificate("not a PCK certificate, its authority and a trusted root"));
    }
    if leaf.subject() != "Intel SGX PCK Certificate" || leaf.is_authority() {
        return Err(Error::Certificate("the leaf is no PCK certificate"));
    }
    let ca = authority_of(&leaf).ok_or(Error::Certificate("the issuer is no PCK authority"))?;
    let simulated = !Roots::is_intel(&root);
    let key = leaf.key()?.prepared(Scheme::EcdsaFixed(Hash::Sha256))?;
    let pck = Pck::of(&leaf)?;
    let multi_package = [
        pck.platform_instance_id.is_some(),
        pck.configuration.dynamic_platform.is_some(),
        pck.configuration.cached_keys.is_some(),
        pck.configuration.smt_enabled.is_some(),
    ];
    if multi_package != [ca == PckCa::Platform; 4] {
        return Err(Error::Certificate("the SGX extension is not that of its authority"));
    }
    Ok(PckChain { pck, key, leaf, authority, root, ca, simulated })
}

/// Which authority issued a PCK certificate, by its name.
pub(super) fn authority_of(leaf: &Certificate) -> Option<PckCa> {
    match leaf.issuer().as_str() {
        "Intel SGX PCK Processor CA" => Some(PckCa::Processor),
        "Intel SGX PCK Platform CA" => Some(PckCa::Platform),
        _ => None,
    }
}
