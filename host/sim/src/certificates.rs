//! Makes the chain: the same certificates that AMD issues, under names that say SIMULATED.
//!
//! ARK: RSA-4096, signs itself. ASK: RSA-4096, signed by the ARK. VCEK: P-384, signed by the ASK, with AMD's extensions for
//! product, TCB and chip id. Signatures are RSA-PSS with SHA-384, as AMD 57230 says. The private keys of ARK and ASK are
//! dropped once the chain is made: nobody can add to it later.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PSS_SHA384, RsaKeyPair,
};
use cocoon_evidence::snp::{SIMULATED_MARK, Tcb, oid};
use const_oid::ObjectIdentifier;
use der::asn1::{Any, BitString, Ia5String, Null, OctetString};
use der::{DateTime, Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::certificate::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};
use zeroize::Zeroizing;

use crate::Error;

/// The generation it plays; it names roots, TCB layout and processor.
pub const GENERATION: &str = "Genoa";
/// Combined family, model and stepping of a Genoa.
pub const PROCESSOR: (u8, u8, u8) = (0x19, 0x11, 0x01);
/// The TCB it claims, in certificate and reports alike.
pub const TCB: Tcb = Tcb { fmc: None, bootloader: 10, tee: 0, snp: 23, microcode: 84 };

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Validity of every certificate.
const YEARS: u32 = 10;

/// A chain and the VCEK's key.
pub struct Chain {
    /// Root, DER.
    pub ark: Vec<u8>,
    /// Intermediate, DER.
    pub ask: Vec<u8>,
    /// Leaf, DER.
    pub vcek: Vec<u8>,
    /// The leaf's private key, PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
    /// The chip id in the leaf.
    pub chip_id: [u8; 64],
}

impl Chain {
    /// Makes a new chain with new keys and a random chip id.
    pub fn generate() -> Result<Self, Error> {
        let rsa = || RsaKeyPair::generate(KeySize::Rsa4096).map_err(|_| Error::Crypto("no RSA key"));
        let (ark_key, ask_key) = (rsa()?, rsa()?);
        let vcek_key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)
            .map_err(|_| Error::Crypto("no P-384 key"))?;
        let key = vcek_key.to_pkcs8v1().map_err(|_| Error::Crypto("no PKCS#8 form"))?;
        let chip_id = random::<64>()?;

        let ark_name = format!("ARK-{GENERATION}-{SIMULATED_MARK}");
        let ask_name = format!("SEV-{GENERATION}-{SIMULATED_MARK}");
        let vcek_name = format!("SEV-VCEK-{SIMULATED_MARK}");
        let ark = issue(&ark_name, &ark_name, rsa_spki(&ark_key)?, authority(1)?, &ark_key)?;
        let ask = issue(&ask_name, &ark_name, rsa_spki(&ask_key)?, authority(0)?, &ark_key)?;
        let vcek = issue(&vcek_name, &ask_name, p384_spki(&vcek_key)?, endorsement(&chip_id)?, &ask_key)?;
        Ok(Chain { ark, ask, vcek, key: Zeroizing::new(key.as_ref().to_vec()), chip_id })
    }
}

/// RFC 5280, 4.1.2. (x509-cert's own type can only be read.)
#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

#[derive(Sequence)]
struct Certificate {
    tbs_certificate: Any,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

fn issue(
    subject: &str,
    issuer: &str,
    key: SubjectPublicKeyInfoOwned,
    extensions: Vec<Extension>,
    issuer_key: &RsaKeyPair,
) -> Result<Vec<u8>, Error> {
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&random::<16>()?).map_err(encoding)?,
        signature: rsa_pss_sha384()?,
        issuer: name(issuer)?,
        validity: validity()?,
        subject: name(subject)?,
        subject_public_key_info: key,
        extensions,
    }
    .to_der()
    .map_err(encoding)?;
    let mut signature = vec![0; issuer_key.public_modulus_len()];
    issuer_key
        .sign(&RSA_PSS_SHA384, &SystemRandom::new(), &tbs, &mut signature)
        .map_err(|_| Error::Crypto("a certificate could not be signed"))?;
    Certificate {
        tbs_certificate: Any::from_der(&tbs).map_err(encoding)?,
        signature_algorithm: rsa_pss_sha384()?,
        signature: BitString::from_bytes(&signature).map_err(encoding)?,
    }
    .to_der()
    .map_err(encoding)
}

/// AMD's names, but for organisation and mark.
fn name(common_name: &str) -> Result<Name, Error> {
    let text = format!("CN={common_name},O=Cocoon {SIMULATED_MARK} secure processor,OU=Engineering");
    Name::from_str(&text).map_err(encoding)
}

/// From yesterday, so that a Trustee whose clock is a little behind accepts a new chain.
fn validity() -> Result<Validity, Error> {
    let clock = |_| Error::Crypto("the clock is before 1970");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(clock)?;
    let time = |at| DateTime::from_unix_duration(at).map(Time::from).map_err(encoding);
    Ok(Validity::new(time(now.saturating_sub(DAY))?, time(now + DAY * 365 * YEARS)?))
}

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and 48 bytes of salt (RFC 4055).
fn rsa_pss_sha384() -> Result<AlgorithmIdentifierOwned, Error> {
    const PARAMETERS: [u8; 54] = [
        0x30, 0x34, 0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02,
        0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08,
        0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03,
        0x02, 0x01, 0x30,
    ];
    let parameters = Any::from_der(&PARAMETERS).map_err(encoding)?;
    Ok(AlgorithmIdentifierOwned { oid: oid::RSA_PSS, parameters: Some(parameters) })
}

fn rsa_spki(key: &RsaKeyPair) -> Result<SubjectPublicKeyInfoOwned, Error> {
    let public = key.public_key().as_der().map_err(|_| Error::Crypto("no public key"))?;
    let spki = SubjectPublicKeyInfoOwned::from_der(public.as_ref()).map_err(encoding)?;
    // NULL parameters, which RFC 3279 demands, whatever the library wrote.
    let algorithm = AlgorithmIdentifierOwned { oid: oid::RSA, parameters: Some(Any::from(Null)) };
    Ok(SubjectPublicKeyInfoOwned { algorithm, ..spki })
}

fn p384_spki(key: &EcdsaKeyPair) -> Result<SubjectPublicKeyInfoOwned, Error> {
    let algorithm = AlgorithmIdentifierOwned { oid: oid::EC, parameters: Some(Any::from(&oid::P384)) };
    let point = BitString::from_bytes(key.public_key().as_ref()).map_err(encoding)?;
    Ok(SubjectPublicKeyInfoOwned { algorithm, subject_public_key: point })
}

fn authority(path_len: u8) -> Result<Vec<Extension>, Error> {
    let constraints = BasicConstraints { ca: true, path_len_constraint: Some(path_len) };
    let usage = KeyUsage(KeyUsages::KeyCertSign.into());
    Ok(vec![
        extension(oid::BASIC_CONSTRAINTS, true, constraints.to_der().map_err(encoding)?)?,
        extension(oid::KEY_USAGE, true, usage.to_der().map_err(encoding)?)?,
    ])
}

/// AMD's extensions (AMD 57230, VCEK certificate): levels as INTEGER, the chip id as bare bytes.
fn endorsement(chip_id: &[u8; 64]) -> Result<Vec<Extension>, Error> {
    let product = Ia5String::new(&format!("{GENERATION}-{SIMULATED_MARK}")).map_err(encoding)?;
    let integer = |oid, level: u8| extension(oid, false, level.to_der().map_err(encoding)?);
    Ok(vec![
        integer(oid::STRUCT_VERSION, 1)?,
        extension(oid::PRODUCT_NAME, false, product.to_der().map_err(encoding)?)?,
        integer(oid::BOOTLOADER, TCB.bootloader)?,
        integer(oid::TEE, TCB.tee)?,
        integer(oid::SNP, TCB.snp)?,
        integer(oid::MICROCODE, TCB.microcode)?,
        extension(oid::HWID, false, chip_id.to_vec())?,
    ])
}

fn extension(oid: ObjectIdentifier, critical: bool, value: Vec<u8>) -> Result<Extension, Error> {
    Ok(Extension { extn_id: oid, critical, extn_value: OctetString::new(value).map_err(encoding)? })
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Crypto("no randomness"))?;
    Ok(bytes)
}

fn encoding(_: der::Error) -> Error {
    Error::Crypto("a certificate could not be encoded")
}
