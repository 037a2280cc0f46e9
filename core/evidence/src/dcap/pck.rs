//! What Intel writes into a platform's PCK certificate: the SGX extension (1.2.840.113741.1.13.1).
//!
//! Source: Intel SGX PCK certificate and CRL profile specification, section 1.3.5. Every part must be there once and have
//! its own type; parts that are not in the specification are refused.

use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, OctetStringRef};
use der::{Decode, Sequence, Tag, Tagged};

use crate::Error;
use crate::x509::Certificate;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const EXTENSION: ObjectIdentifier = oid("1.2.840.113741.1.13.1");
const PPID: ObjectIdentifier = oid("1.2.840.113741.1.13.1.1");
const TCB: ObjectIdentifier = oid("1.2.840.113741.1.13.1.2");
const PCE_SVN: ObjectIdentifier = oid("1.2.840.113741.1.13.1.2.17");
const CPU_SVN: ObjectIdentifier = oid("1.2.840.113741.1.13.1.2.18");
const PCE_ID: ObjectIdentifier = oid("1.2.840.113741.1.13.1.3");
const FMSPC: ObjectIdentifier = oid("1.2.840.113741.1.13.1.4");
const SGX_TYPE: ObjectIdentifier = oid("1.2.840.113741.1.13.1.5");
const INSTANCE: ObjectIdentifier = oid("1.2.840.113741.1.13.1.6");
const CONFIGURATION: ObjectIdentifier = oid("1.2.840.113741.1.13.1.7");
const DYNAMIC: ObjectIdentifier = oid("1.2.840.113741.1.13.1.7.1");
const CACHED_KEYS: ObjectIdentifier = oid("1.2.840.113741.1.13.1.7.2");
const SMT: ObjectIdentifier = oid("1.2.840.113741.1.13.1.7.3");

/// How the platform protects enclaves' memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgxType {
    /// With a tree of counters: no replay.
    Standard,
    /// Encryption only.
    Scalable,
    /// Encryption and integrity.
    ScalableWithIntegrity,
}

impl SgxType {
    /// As claims name it.
    pub fn name(self) -> &'static str {
        match self {
            SgxType::Standard => "Standard",
            SgxType::Scalable => "Scalable",
            SgxType::ScalableWithIntegrity => "Scalable with Integrity",
        }
    }
}

/// What the platform is set up for; certificates of the processor authority do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Packages can be added.
    pub dynamic_platform: Option<bool>,
    /// Intel keeps the platform's root keys.
    pub cached_keys: Option<bool>,
    /// Simultaneous multithreading is on.
    pub smt_enabled: Option<bool>,
}

/// A platform, as its PCK certificate describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pck {
    /// Provisioning id.
    pub ppid: [u8; 16],
    /// Security versions of the 16 components.
    pub components: [u8; 16],
    /// Security version of the provisioning certification enclave.
    pub pce_svn: u16,
    /// Security version of the processor, raw.
    pub cpu_svn: [u8; 16],
    /// Id of the provisioning certification enclave.
    pub pce_id: [u8; 2],
    /// Family, model, stepping, platform type and custom SKU: what TCB information is published for.
    pub fmspc: [u8; 6],
    /// How memory is protected.
    pub sgx_type: SgxType,
    /// Id of the platform's instance, as it stands; multi-package platforms only.
    pub platform_instance_id: Option<[u8; 16]>,
    /// Set-up; multi-package platforms only.
    pub configuration: Configuration,
}

#[derive(Sequence)]
struct Part<'a> {
    id: ObjectIdentifier,
    value: AnyRef<'a>,
}

impl Pck {
    /// Reads a certificate's SGX extension.
    ///
    /// # Errors
    /// [`Error::Certificate`].
    pub fn of(certificate: &Certificate) -> Result<Self, Error> {
        let extension = certificate.extension(EXTENSION).ok_or(Error::Certificate("no SGX extension"))?;
        Pck::parse(extension).ok_or(Error::Certificate("the SGX extension is malformed"))
    }

    /// The platform's instance as claims name it: upstream writes this one id as a big-endian number, although the
    /// certificate has it in little endian.
    pub fn platform_instance_text(&self) -> Option<String> {
        self.platform_instance_id.map(|id| hex::encode(u128::from_le_bytes(id).to_be_bytes()))
    }

    /// Reads the extension's content.
    pub fn parse(extension: &[u8]) -> Option<Self> {
        let parts: Vec<Part<'_>> = Vec::from_der(extension).ok()?;
        let known = [PPID, TCB, PCE_ID, FMSPC, SGX_TYPE, INSTANCE, CONFIGURATION];
        only(&parts, |id| known.contains(id))?;
        let tcb: Vec<Part<'_>> = find(&parts, TCB)?.decode_as().ok()?;
        only(&tcb, |id| id.parent() == Some(TCB))?;
        let mut components = [0; 16];
        for (n, component) in (1u32..).zip(&mut components) {
            *component = find(&tcb, TCB.push_arc(n).ok()?)?.decode_as().ok()?;
        }
        // 16 components and two versions: with the names above there is room for nothing else.
        if tcb.len() != 18 {
            return None;
        }
        let sgx_type = find(&parts, SGX_TYPE)?;
        let sgx_type = match (sgx_type.tag(), sgx_type.value()) {
            (Tag::Enumerated, [0]) => SgxType::Standard,
            (Tag::Enumerated, [1]) => SgxType::Scalable,
            (Tag::Enumerated, [2]) => SgxType::ScalableWithIntegrity,
            _ => return None,
        };
        let platform_instance_id = match find(&parts, INSTANCE) {
            Some(_) => Some(octets(&parts, INSTANCE)?),
            None => None,
        };
        let configuration = match find(&parts, CONFIGURATION) {
            Some(value) => configuration(*value)?,
            None => Configuration::default(),
        };
        Some(Pck {
            ppid: octets(&parts, PPID)?,
            components,
            pce_svn: find(&tcb, PCE_SVN)?.decode_as().ok()?,
            cpu_svn: octets(&tcb, CPU_SVN)?,
            pce_id: octets(&parts, PCE_ID)?,
            fmspc: octets(&parts, FMSPC)?,
            sgx_type,
            platform_instance_id,
            configuration,
        })
    }
}

fn configuration(value: AnyRef<'_>) -> Option<Configuration> {
    let parts: Vec<Part<'_>> = value.decode_as().ok()?;
    only(&parts, |id| [DYNAMIC, CACHED_KEYS, SMT].contains(id))?;
    let flag = |id| match find(&parts, id) {
        Some(value) => value.decode_as().ok().map(Some),
        None => Some(None),
    };
    Some(Configuration {
        dynamic_platform: flag(DYNAMIC)?,
        cached_keys: flag(CACHED_KEYS)?,
        smt_enabled: flag(SMT)?,
    })
}

/// `None` where a part is not known or occurs twice.
fn only(parts: &[Part<'_>], known: impl Fn(&ObjectIdentifier) -> bool) -> Option<()> {
    let once = |(i, part): (usize, &Part<'_>)| parts.iter().skip(i + 1).all(|other| other.id != part.id);
    (parts.len() <= 32 && parts.iter().all(|p| known(&p.id)) && parts.iter().enumerate().all(once))
        .then_some(())
}

fn find<'p, 'a>(parts: &'p [Part<'a>], id: ObjectIdentifier) -> Option<&'p AnyRef<'a>> {
    parts.iter().find(|part| part.id == id).map(|part| &part.value)
}

fn octets<const N: usize>(parts: &[Part<'_>], id: ObjectIdentifier) -> Option<[u8; N]> {
    let value: &OctetStringRef = find(parts, id)?.decode_as().ok()?;
    value.as_bytes().try_into().ok()
}
