//! What a need may look like, what it is called, and how large its document may be.
//!
//! Needs are made from evidence, so they are hostile until [`Need::check`] says otherwise: it is what stands between an
//! attacker's text and a path or a URL.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{IntelTee, Need, PckCa};
use crate::Error;

const KIB: usize = 1024;
/// Longest name of a manifest; NVIDIA's have about 40 characters.
const MAX_RIM_ID: usize = 128;
/// Longest serial number: what the CSV report has room for.
const MAX_SERIAL: usize = 64;

/// Who publishes a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// AMD's key distribution service.
    Amd,
    /// Intel's provisioning certification service, or a cache of it.
    Intel,
    /// NVIDIA's service of reference integrity manifests.
    Nvidia,
    /// Hygon's certificate service.
    Hygon,
}

impl Vendor {
    /// All of them.
    pub const ALL: [Vendor; 4] = [Vendor::Amd, Vendor::Intel, Vendor::Nvidia, Vendor::Hygon];

    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Vendor::Amd => "amd",
            Vendor::Intel => "intel",
            Vendor::Nvidia => "nvidia",
            Vendor::Hygon => "hygon",
        }
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl IntelTee {
    /// `sgx` or `tdx`, as in Intel's URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            IntelTee::Sgx => "sgx",
            IntelTee::Tdx => "tdx",
        }
    }
}

impl PckCa {
    /// `processor` or `platform`, as in Intel's URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            PckCa::Processor => "processor",
            PckCa::Platform => "platform",
        }
    }
}

impl Need {
    /// Whether every part is of the form its vendor gives it, so that it may stand in a path or a URL as it is.
    ///
    /// # Errors
    /// [`Error::Field`] names the part. Without success nothing may be fetched or looked up.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Need::AmdVcek { product, chip_id, tcb } => {
                let turin = known_product(product)? == "Turin";
                let length = if turin { 16 } else { 128 };
                if chip_id.len() != length || !lower_hex(chip_id) {
                    return Err(field("chip_id", "not the chip id of this product in lower-case hex"));
                }
                // A host may let the firmware hide it.
                if chip_id.bytes().all(|b| b == b'0') {
                    return Err(field("chip_id", "masked: the chip does not tell its id"));
                }
                match tcb.fmc.is_some() == turin {
                    true => Ok(()),
                    false => Err(field("tcb", "an FMC level belongs to Turin, and to it alone")),
                }
            }
            Need::AmdCrl { product, .. } => known_product(product).map(|_| ()),
            Need::IntelTcbInfo { fmspc, .. } => match fmspc.len() == 12 && lower_hex(fmspc) {
                true => Ok(()),
                false => Err(field("fmspc", "not six bytes in lower-case hex")),
            },
            Need::IntelQeIdentity { .. } | Need::IntelPckCrl { .. } | Need::IntelRootCrl => Ok(()),
            Need::NvidiaRim { id } => {
                let fits = (4..=MAX_RIM_ID).contains(&id.len())
                    && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
                    && id.bytes().next().is_some_and(|b| b.is_ascii_uppercase())
                    && !id.contains("..");
                if fits { Ok(()) } else { Err(field("id", "not the id of a reference integrity manifest")) }
            }
            Need::HygonCertificates { chip_id } => {
                let fits = (1..=MAX_SERIAL).contains(&chip_id.len())
                    && chip_id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
                if fits { Ok(()) } else { Err(field("chip_id", "not a chip's serial number")) }
            }
        }
    }

    /// Who publishes it.
    pub fn vendor(&self) -> Vendor {
        match self {
            Need::AmdVcek { .. } | Need::AmdCrl { .. } => Vendor::Amd,
            Need::IntelTcbInfo { .. }
            | Need::IntelQeIdentity { .. }
            | Need::IntelPckCrl { .. }
            | Need::IntelRootCrl => Vendor::Intel,
            Need::NvidiaRim { .. } => Vendor::Nvidia,
            Need::HygonCertificates { .. } => Vendor::Hygon,
        }
    }

    /// Its kind, as in its JSON form.
    pub fn kind(&self) -> &'static str {
        match self {
            Need::AmdVcek { .. } => "amd-vcek",
            Need::AmdCrl { .. } => "amd-crl",
            Need::IntelTcbInfo { .. } => "intel-tcb-info",
            Need::IntelQeIdentity { .. } => "intel-qe-identity",
            Need::IntelPckCrl { .. } => "intel-pck-crl",
            Need::IntelRootCrl => "intel-root-crl",
            Need::NvidiaRim { .. } => "nvidia-rim",
            Need::HygonCertificates { .. } => "hygon-certificates",
        }
    }

    /// Whether evidence chooses its name, so that there are as many such needs as an attacker likes. All others are a
    /// handful.
    pub fn is_named_by_evidence(&self) -> bool {
        matches!(
            self,
            Need::AmdVcek { .. }
                | Need::IntelTcbInfo { .. }
                | Need::NvidiaRim { .. }
                | Need::HygonCertificates { .. }
        )
    }

    /// Largest document of the kind, bytes. Vendors' own are many times smaller.
    pub fn max_body(&self) -> usize {
        match self {
            Need::AmdVcek { .. } | Need::HygonCertificates { .. } => 16 * KIB,
            Need::AmdCrl { .. } | Need::IntelRootCrl => 256 * KIB,
            Need::IntelTcbInfo { .. } => 1024 * KIB,
            Need::IntelQeIdentity { .. } => 64 * KIB,
            Need::IntelPckCrl { .. } | Need::NvidiaRim { .. } => 4096 * KIB,
        }
    }

    /// Largest issuer chain beside a document, bytes.
    pub const MAX_ISSUER_CHAIN: usize = 64 * KIB;
}

/// One line for people, e.g. `amd-vcek Genoa d27a0d09… bootloader 10 tee 0 snp 23 microcode 84`. Safe to print for a need
/// that passed [`Need::check`].
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Need::AmdVcek { product, chip_id, tcb } => {
                let short = chip_id.get(..16).unwrap_or(chip_id);
                let more = if chip_id.len() > 16 { "…" } else { "" };
                write!(f, " {product} {short}{more} {tcb}")
            }
            Need::AmdCrl { product, vlek } => write!(f, " {product} {}", if *vlek { "vlek" } else { "vcek" }),
            Need::IntelTcbInfo { tee, fmspc } => write!(f, " {} {fmspc}", tee.as_str()),
            Need::IntelQeIdentity { tee } => write!(f, " {}", tee.as_str()),
            Need::IntelPckCrl { ca } => write!(f, " {}", ca.as_str()),
            Need::IntelRootCrl => Ok(()),
            Need::NvidiaRim { id } => write!(f, " {id}"),
            Need::HygonCertificates { chip_id } => write!(f, " {chip_id}"),
        }
    }
}

fn known_product(product: &str) -> Result<&str, Error> {
    match product {
        "Milan" | "Genoa" | "Turin" => Ok(product),
        _ => Err(field("product", "neither Milan, Genoa nor Turin")),
    }
}

fn lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn field(field: &'static str, reason: &'static str) -> Error {
    Error::Field { field, reason }
}
