//! Certificates of endorsement keys, by which a TPM's vendor says that a key lives in a TPM it made.
//!
//! Source: TCG EK Credential Profile 2.5, section 3. Roots are the caller's: there is no list of TPM vendors that all owners
//! would trust. Revocation is not asked for: few vendors publish lists, and an owner enrols machines it has in its hands.

use const_oid::ObjectIdentifier;
use der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

use cocoon_stage::Code;

use super::algorithm::hashed;
use super::public::Public;
use crate::x509::{Certificate, Hash, PublicKey, path};
use crate::{Check, Error};

const PROFILE: &str = "TCG EK Credential Profile 2.5, 3";
/// Most certificates of a chain.
pub const MAX_CHAIN: usize = 8;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
const ALTERNATIVE_NAME: ObjectIdentifier = oid("2.5.29.17");
const EXTENDED_USAGE: ObjectIdentifier = oid("2.5.29.37");
/// `tcg-kp-EKCertificate`.
const EK_CERTIFICATE: ObjectIdentifier = oid("2.23.133.8.1");
const MANUFACTURER: ObjectIdentifier = oid("2.23.133.2.1");
const MODEL: ObjectIdentifier = oid("2.23.133.2.2");
const VERSION: ObjectIdentifier = oid("2.23.133.2.3");

/// What a certificate says of its TPM, printable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maker {
    /// The TCG's id of the manufacturer, e.g. `id:49424D00`.
    pub manufacturer: String,
    /// The part's number or name.
    pub model: String,
    /// The firmware's version at manufacture.
    pub version: String,
}

/// A certificate that fits the profile, and the root that it leads to.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    pub(crate) maker: Maker,
    /// SHA-256 of the certificate, hex.
    pub(crate) certificate_sha256: String,
    /// SHA-256 of the root, hex; empty where none was found, which is a failed check.
    pub(crate) root_sha256: String,
}

/// SHA-256 of a certificate's DER, hex.
pub fn fingerprint(certificate: &Certificate) -> String {
    hex::encode(hashed(Hash::Sha256, &[certificate.der()]))
}

/// Reads an endorsement key's certificate against the profile: purpose, key usage, names.
///
/// # Errors
/// What is wrong with it.
pub fn profile(certificate: &Certificate) -> Result<Maker, &'static str> {
    if let Some(constraints) = certificate.extension(BASIC_CONSTRAINTS) {
        let constraints =
            BasicConstraints::from_der(constraints).map_err(|_| "malformed basic constraints")?;
        if constraints.ca {
            return Err("it is an authority's");
        }
    }
    let purposes = certificate.extension(EXTENDED_USAGE).ok_or("no extended key usage")?;
    let purposes = ExtendedKeyUsage::from_der(purposes).map_err(|_| "malformed extended key usage")?;
    if !purposes.0.contains(&EK_CERTIFICATE) {
        return Err("its purpose is not an endorsement key (tcg-kp-EKCertificate)");
    }
    let usage = certificate.extension(KEY_USAGE).ok_or("no key usage")?;
    let usage = KeyUsage::from_der(usage).map_err(|_| "malformed key usage")?;
    let encrypts = match certificate.key().map_err(|_| "a key that is not supported")? {
        PublicKey::Rsa(_) => usage.key_encipherment(),
        PublicKey::Ec(..) => usage.key_agreement(),
    };
    if !encrypts || usage.digital_signature() || usage.key_cert_sign() {
        return Err("its key usage is not (only) that of a storage key");
    }
    maker(certificate)
}

/// The TPM's maker, from the directory name in the alternative names. That extension must be critical where the subject is
/// empty, since then nothing else names the subject.
fn maker(certificate: &Certificate) -> Result<Maker, &'static str> {
    let parsed = x509_cert::Certificate::from_der(certificate.der()).map_err(|_| "malformed")?;
    let tbs = parsed.tbs_certificate();
    let extension = tbs.extensions().and_then(|all| all.iter().find(|e| e.extn_id == ALTERNATIVE_NAME));
    let extension = extension.ok_or("no subject alternative name")?;
    if tbs.subject().is_empty() && !extension.critical {
        return Err("no subject, and the alternative name is not critical");
    }
    let names = SubjectAltName::from_der(extension.extn_value.as_bytes())
        .map_err(|_| "malformed subject alternative name")?;
    let mut maker = Maker::default();
    for name in &names.0 {
        let GeneralName::DirectoryName(name) = name else { continue };
        for attribute in name.iter() {
            let text = std::str::from_utf8(attribute.value.value()).map(printable).unwrap_or_default();
            match attribute.oid {
                MANUFACTURER => maker.manufacturer = text,
                MODEL => maker.model = text,
                VERSION => maker.version = text,
                _ => {}
            }
        }
    }
    match maker.manufacturer.is_empty() || maker.model.is_empty() || maker.version.is_empty() {
        true => Err("it does not name manufacturer, model and version of the TPM"),
        false => Ok(maker),
    }
}

/// Checks an endorsement key and its certificates (DER or PEM, the key's own first) against the roots that the caller trusts.
/// The second is given only where the certificate fits the profile; whether it may be believed, the checks say.
pub(crate) fn checks(
    chain: &[Vec<u8>],
    endorsement: &Public,
    roots: &[Certificate],
    now_unix: u64,
) -> (Vec<Check>, Option<Certified>) {
    let mut checks = Vec::new();
    let unfit = endorsement.not_endorsement_key();
    checks.push(Check::new(
        "ek.attributes",
        unfit.is_none(),
        Code::AttestKeyUntrusted,
        "a restricted decryption key fixed to its TPM",
        unfit.unwrap_or("one"),
        "TCG EK Credential Profile 2.5, B (templates)",
    ));
    let chain = match parse(chain) {
        Ok(chain) => chain,
        Err(error) => {
            let code = Code::AttestEvidenceMalformed;
            checks.push(Check::new("ek.chain", false, code, "certificates", error.to_string(), PROFILE));
            return (checks, None);
        }
    };
    let Some((leaf, pool)) = chain.split_first() else {
        let code = Code::AttestChainUntrusted;
        checks.push(Check::new("ek.chain", false, code, "a certificate of the key", "none", PROFILE));
        return (checks, None);
    };
    let found = path(leaf, pool, roots);
    checks.push(Check::new(
        "ek.chain",
        found.is_ok(),
        Code::AttestChainUntrusted,
        "issued under a TPM vendor's root that the operator trusts",
        match &found {
            Ok(path) => format!("issued under {}", path.root().map(Certificate::subject).unwrap_or_default()),
            Err(error) => format!("issued by {}: {error}", leaf.issuer()),
        },
        PROFILE,
    ));
    if let Ok(path) = &found {
        let expired = path.expired(now_unix);
        checks.push(Check::new(
            "ek.validity",
            expired.is_none(),
            Code::AttestCertificateExpired,
            format!("all certificates valid at {now_unix}"),
            expired.map_or("valid".to_owned(), |c| format!("{} is not", c.subject())),
            "RFC 5280, 4.1.2.5",
        ));
    }
    let maker = profile(leaf);
    checks.push(Check::new(
        "ek.profile",
        maker.is_ok(),
        Code::AttestChainUntrusted,
        "an endorsement key's certificate",
        maker.as_ref().err().copied().unwrap_or("one"),
        PROFILE,
    ));
    let same = leaf.key().is_ok_and(|key| &key == endorsement.key());
    checks.push(Check::new(
        "ek.key",
        same,
        Code::AttestChainUntrusted,
        "the certificate's key",
        if same { "it" } else { "another key" },
        PROFILE,
    ));
    let root_sha256 = found.as_ref().ok().and_then(|path| path.root()).map(fingerprint).unwrap_or_default();
    let certified =
        maker.ok().map(|maker| Certified { maker, certificate_sha256: fingerprint(leaf), root_sha256 });
    (checks, certified)
}

fn parse(chain: &[Vec<u8>]) -> Result<Vec<Certificate>, Error> {
    if chain.len() > MAX_CHAIN {
        return Err(Error::Certificate("more than 8 certificates"));
    }
    chain.iter().map(|certificate| Certificate::parse(certificate)).collect()
}

/// Text of a certificate, fit to print.
fn printable(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
