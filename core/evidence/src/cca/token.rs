//! The platform token's claims (Arm DEN0137, A7.2.3.2), and what both tokens' claims have in common.
//!
//! Unknown claims are passed over, as an EAT's reader must (RFC 9711; RFC 8392, section 3): they are signed like all others,
//! and nothing that is checked here depends on them. They must be well formed and unique.

use super::cbor::{Decoder, Encoder, Key};
use crate::Error;
use crate::x509::Hash;

const PLATFORM: &str = "CCA platform token";

/// Most claims of one token; there are nine.
pub(super) const MAX_CLAIMS: u64 = 64;
/// Most software components of a platform.
pub(super) const MAX_COMPONENTS: u64 = 64;
/// Longest text of a claim.
pub(super) const MAX_TEXT: usize = 256;
/// Longest platform configuration.
pub(super) const MAX_CONFIG: usize = 1024;

pub(super) const CHALLENGE: i128 = 10;
pub(super) const PROFILE: i128 = 265;
const INSTANCE_ID: i128 = 256;
const LIFECYCLE: i128 = 2395;
const IMPLEMENTATION_ID: i128 = 2396;
const SW_COMPONENTS: i128 = 2399;
const VERIFICATION_SERVICE: i128 = 2400;
const CONFIG: i128 = 2401;
const HASH_ALGO_ID: i128 = 2402;

/// The profile that a platform token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformProfile {
    /// `http://arm.com/CCA-SSD/1.0.0`, from before the first release of the specification.
    CcaSsd1,
    /// `tag:arm.com,2023:cca_platform#1.0.0`.
    Platform1,
}

impl PlatformProfile {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            PlatformProfile::CcaSsd1 => "http://arm.com/CCA-SSD/1.0.0",
            PlatformProfile::Platform1 => "tag:arm.com,2023:cca_platform#1.0.0",
        }
    }
}

/// State of a platform: bits 15 to 8 of its lifecycle claim (A7.2.3.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// 0x00.
    Unknown,
    /// 0x10.
    AssemblyAndTest,
    /// 0x20.
    RotProvisioning,
    /// 0x30, the only one in which a realm is safe.
    Secured,
    /// 0x40: something outside the root of trust may be debugged, realms among it.
    NonRotDebug,
    /// 0x50: the root of trust may be debugged.
    RecoverableRotDebug,
    /// 0x60.
    Decommissioned,
}

impl Lifecycle {
    /// The state of a claim's value; `None` for one that is not defined.
    pub fn of(value: u16) -> Option<Self> {
        Some(match value >> 8 {
            0x00 => Lifecycle::Unknown,
            0x10 => Lifecycle::AssemblyAndTest,
            0x20 => Lifecycle::RotProvisioning,
            0x30 => Lifecycle::Secured,
            0x40 => Lifecycle::NonRotDebug,
            0x50 => Lifecycle::RecoverableRotDebug,
            0x60 => Lifecycle::Decommissioned,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Lifecycle::Unknown => "unknown",
            Lifecycle::AssemblyAndTest => "assembly-and-test",
            Lifecycle::RotProvisioning => "cca-platform-rot-provisioning",
            Lifecycle::Secured => "secured",
            Lifecycle::NonRotDebug => "non-cca-platform-rot-debug",
            Lifecycle::RecoverableRotDebug => "recoverable-cca-platform-rot-debug",
            Lifecycle::Decommissioned => "decommissioned",
        }
    }
}

/// One software component of a platform (A7.2.3.2.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwComponent {
    /// Its role, e.g. `RMM`.
    pub measurement_type: Option<String>,
    /// 32, 48 or 64 bytes.
    pub measurement_value: Vec<u8>,
    /// Its vendor's text.
    pub version: Option<String>,
    /// Hash of the key that signed it; 32, 48 or 64 bytes.
    pub signer_id: Vec<u8>,
    /// How it was measured, where not by the platform's own algorithm.
    pub hash_algo_id: Option<String>,
}

/// Claims of a platform token. Nothing says that they are true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Claim 265.
    pub profile: PlatformProfile,
    /// Claim 10, the hash of the realm's public key; 32, 48 or 64 bytes.
    pub challenge: Vec<u8>,
    /// Claim 2396, which names the kind of platform.
    pub implementation_id: [u8; 32],
    /// Claim 256, which names the one platform; begins with 1.
    pub instance_id: [u8; 33],
    /// Claim 2401, at most 1 KiB.
    pub config: Vec<u8>,
    /// Claim 2395; [`Lifecycle::of`] knows it.
    pub lifecycle: u16,
    /// Claim 2399; 1 to 64.
    pub sw_components: Vec<SwComponent>,
    /// Claim 2400, a hint where to verify; not followed.
    pub verification_service: Option<String>,
    /// Claim 2402, how components are measured that do not say it themselves.
    pub hash: Hash,
}

impl Platform {
    /// Reads the payload of a platform token.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (mut profile, mut challenge, mut implementation_id, mut instance_id) = (None, None, None, None);
        let (mut config, mut lifecycle, mut components, mut service, mut hash) =
            (None, None, None, None, None);
        let mut decoder = Decoder::new(PLATFORM, payload);
        decoder.map("the claims", MAX_CLAIMS, |d, key| {
            match key {
                Key::Int(PROFILE) => profile = Some(platform_profile(d)?),
                Key::Int(CHALLENGE) => challenge = Some(digest(d, "the challenge")?),
                Key::Int(IMPLEMENTATION_ID) => implementation_id = Some(fixed(d, "the implementation id")?),
                Key::Int(INSTANCE_ID) => instance_id = Some(ueid(d)?),
                Key::Int(CONFIG) => config = Some(platform_config(d)?),
                Key::Int(LIFECYCLE) => lifecycle = Some(lifecycle_value(d)?),
                Key::Int(SW_COMPONENTS) => components = Some(sw_components(d)?),
                Key::Int(VERIFICATION_SERVICE) => {
                    service = Some(d.text("the verification service", MAX_TEXT)?.to_owned());
                }
                Key::Int(HASH_ALGO_ID) => hash = Some(hash_algorithm(d)?),
                _ => d.skip()?,
            }
            Ok(())
        })?;
        decoder.finish()?;
        let missing = |name| move || missing(PLATFORM, name);
        Ok(Platform {
            profile: profile.ok_or_else(missing("profile"))?,
            challenge: challenge.ok_or_else(missing("challenge"))?,
            implementation_id: implementation_id.ok_or_else(missing("implementation id"))?,
            instance_id: instance_id.ok_or_else(missing("instance id"))?,
            config: config.ok_or_else(missing("configuration"))?,
            lifecycle: lifecycle.ok_or_else(missing("lifecycle"))?,
            sw_components: components.ok_or_else(missing("software components"))?,
            verification_service: service,
            hash: hash.ok_or_else(missing("hash algorithm"))?,
        })
    }

    /// The payload of a platform token.
    pub(super) fn to_payload(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.map(8 + usize::from(self.verification_service.is_some()));
        e.int(265).text(self.profile.name()).int(10).bytes(&self.challenge);
        e.int(2396).bytes(&self.implementation_id).int(256).bytes(&self.instance_id);
        e.int(2401).bytes(&self.config).int(2395).int(i64::from(self.lifecycle));
        e.int(2402).text(hash_name(self.hash));
        if let Some(service) = &self.verification_service {
            e.int(2400).text(service);
        }
        e.int(2399).array(self.sw_components.len());
        for component in &self.sw_components {
            let texts =
                [(1, &component.measurement_type), (4, &component.version), (6, &component.hash_algo_id)];
            e.map(2 + texts.iter().filter(|(_, text)| text.is_some()).count());
            let [first, rest @ ..] = texts;
            if let (key, Some(text)) = first {
                e.int(key).text(text);
            }
            e.int(5).bytes(&component.signer_id).int(2).bytes(&component.measurement_value);
            for (key, text) in rest {
                if let Some(text) = text {
                    e.int(key).text(text);
                }
            }
        }
        e.into_bytes()
    }
}

pub(super) fn missing(what: &'static str, name: &str) -> Error {
    Error::Malformed { what, reason: format!("it has no {name}") }
}

/// A hash's name in IANA's registry of named information.
pub(super) fn hash_name(hash: Hash) -> &'static str {
    match hash {
        Hash::Sha256 => "sha-256",
        Hash::Sha384 => "sha-384",
        Hash::Sha512 => "sha-512",
    }
}

/// The hash of that name; only those of Arm's security model are known.
pub(super) fn hash_of(name: &str) -> Option<Hash> {
    [Hash::Sha256, Hash::Sha384, Hash::Sha512].into_iter().find(|hash| hash_name(*hash) == name)
}

pub(super) fn hash_algorithm(d: &mut Decoder<'_>) -> Result<Hash, Error> {
    hash_of(d.text("the hash algorithm", MAX_TEXT)?)
        .ok_or_else(|| d.error("the hash algorithm is none of sha-256, sha-384 and sha-512"))
}

pub(super) fn fixed<const N: usize>(d: &mut Decoder<'_>, name: &str) -> Result<[u8; N], Error> {
    d.bytes(name)?.try_into().map_err(|_| d.error(format_args!("{name} has not {N} bytes")))
}

/// The length of every hash of a token.
pub(super) fn is_digest(bytes: &[u8]) -> bool {
    matches!(bytes.len(), 32 | 48 | 64)
}

pub(super) fn digest(d: &mut Decoder<'_>, name: &str) -> Result<Vec<u8>, Error> {
    match d.bytes(name)? {
        bytes if is_digest(bytes) => Ok(bytes.to_vec()),
        _ => Err(d.error(format_args!("{name} has not 32, 48 or 64 bytes"))),
    }
}

fn platform_profile(d: &mut Decoder<'_>) -> Result<PlatformProfile, Error> {
    let name = d.text("the profile", MAX_TEXT)?;
    [PlatformProfile::CcaSsd1, PlatformProfile::Platform1]
        .into_iter()
        .find(|profile| profile.name() == name)
        .ok_or_else(|| unsupported("CCA platform profile", name))
}

/// A profile that is not known, fit to print.
pub(super) fn unsupported(what: &'static str, name: &str) -> Error {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    Error::Unsupported { what, got: name.chars().take(64).map(printable).collect() }
}

fn ueid(d: &mut Decoder<'_>) -> Result<[u8; 33], Error> {
    let id: [u8; 33] = fixed(d, "the instance id")?;
    match id.first() {
        Some(1) => Ok(id),
        _ => Err(d.error("the instance id does not begin with 1")),
    }
}

fn platform_config(d: &mut Decoder<'_>) -> Result<Vec<u8>, Error> {
    match d.bytes("the configuration")? {
        bytes if (1..=MAX_CONFIG).contains(&bytes.len()) => Ok(bytes.to_vec()),
        _ => Err(d.error("the configuration has not 1 to 1024 bytes")),
    }
}

fn lifecycle_value(d: &mut Decoder<'_>) -> Result<u16, Error> {
    let value = u16::try_from(d.int("the lifecycle")?).ok();
    value
        .filter(|value| Lifecycle::of(*value).is_some())
        .ok_or_else(|| d.error("the lifecycle is not a defined state"))
}

fn sw_components(d: &mut Decoder<'_>) -> Result<Vec<SwComponent>, Error> {
    (0..d.array("the software components", MAX_COMPONENTS)?).map(|_| sw_component(d)).collect()
}

/// A component is not a set of claims: what is unknown in it is refused.
fn sw_component(d: &mut Decoder<'_>) -> Result<SwComponent, Error> {
    let (mut kind, mut value, mut version, mut signer, mut hash) = (None, None, None, None, None);
    d.map("a software component", 5, |d, key| {
        let mut text = |name| d.text(name, MAX_TEXT).map(|text| Some(text.to_owned()));
        match key {
            Key::Int(1) => kind = text("a component's type")?,
            Key::Int(2) => value = Some(digest(d, "a measurement")?),
            Key::Int(4) => version = text("a component's version")?,
            Key::Int(5) => signer = Some(digest(d, "a signer id")?),
            Key::Int(6) => hash = text("a component's hash algorithm")?,
            _ => return Err(d.error("a software component has an unknown member")),
        }
        Ok(())
    })?;
    Ok(SwComponent {
        measurement_type: kind,
        measurement_value: value.ok_or_else(|| d.error("a software component without a measurement"))?,
        version,
        signer_id: signer.ok_or_else(|| d.error("a software component without a signer id"))?,
        hash_algo_id: hash,
    })
}
