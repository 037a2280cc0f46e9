//! Quotes: a report, signed by the quoting enclave's key, which the platform's key certifies.
//!
//! Sources: Intel SGX ECDSA quote library API (version 3), Intel TDX DCAP quoting library API, appendix A (versions 4
//! and 5). Numbers are little endian. Only ECDSA P-256 and a PEM chain of PCK certificates inside the quote are read:
//! other ways of naming the certificates need a lookup by hostile data, and no attester in the field sends them.

use super::enclave::EnclaveReport;
use super::td::TdReport;
use crate::Error;
use crate::collateral::IntelTee;
use crate::reader::Reader;

/// A quote longer than this is not read; the longest of Intel's have about 5 kB.
pub const MAX_QUOTE: usize = 64 * 1024;
/// Most bytes that the quoting enclave may authenticate beside its key; Intel's puts in 32.
const MAX_AUTH: usize = 1024;
/// Longest PEM chain; Intel's have less than 4 kB.
const MAX_CHAIN: usize = 32 * 1024;

/// Intel's quoting enclave, as headers name it.
pub const INTEL_QE: [u8; 16] = *b"\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07";

/// The first 48 bytes of a quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 3, 4 or 5.
    pub version: u16,
    /// Which TEE.
    pub tee: IntelTee,
    /// Version 3: security versions of quoting enclave and provisioning enclave; zero later.
    pub reserved: [u8; 4],
    /// Who made the quoting enclave.
    pub vendor_id: [u8; 16],
    /// Whatever the vendor puts in; Intel: an id of the platform's quoting enclave.
    pub user_data: [u8; 20],
}

/// What is attested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// An enclave.
    Enclave(Box<EnclaveReport>),
    /// A trust domain.
    Td(Box<TdReport>),
}

/// A quote as read. Nothing about it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Header.
    pub header: Header,
    /// Body.
    pub body: Body,
    /// Header and body as they stand, which the attestation key signs.
    pub(super) signed: Vec<u8>,
    pub(super) signature: [u8; 64],
    /// Public attestation key: x and y.
    pub(super) attestation_key: [u8; 64],
    pub(super) qe_report: EnclaveReport,
    pub(super) qe_signature: [u8; 64],
    pub(super) qe_auth: Vec<u8>,
    /// PEM, the PCK certificate first.
    pub(super) chain: Vec<u8>,
    raw: Vec<u8>,
}

impl Quote {
    /// Reads a quote of at most 64 KiB.
    ///
    /// TDX quotes may be followed by zeros: the length of what the quoting service and the kernel hand out is that of the
    /// longest quote they know, not that of the quote. Anything else behind the quote is refused.
    ///
    /// # Errors
    /// [`Error::Malformed`], and [`Error::Unsupported`] for versions, TEEs, keys and certification data of another kind.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new("DCAP quote", bytes);
        if bytes.len() > MAX_QUOTE {
            return Err(r.error(format_args!("{} bytes are too many", bytes.len())));
        }
        let header = header(&mut r)?;
        let body = body(&header, &mut r)?;
        let signed = bytes.get(..r.position()).unwrap_or_default().to_vec();
        let length = r.u32_le()?;
        let mut s = r.part("DCAP quote's signature data", length_of(&r, length)?)?;
        let (signature, attestation_key) = (s.array()?, s.array()?);
        // Since version 4 all that certifies the attestation key is one piece of certification data.
        let mut s = if header.version == 3 { s } else { certification(&mut s, 6)? };
        let qe_report = EnclaveReport::read(&mut s)?;
        let qe_signature = s.array()?;
        let auth = usize::from(s.u16_le()?);
        if auth > MAX_AUTH {
            return Err(s.error(format_args!("{auth} bytes of authentication data are too many")));
        }
        let qe_auth = s.take(auth)?.to_vec();
        let chain = certification(&mut s, 5)?.rest().to_vec();
        if chain.len() > MAX_CHAIN {
            return Err(s.error("the certificate chain is too long"));
        }
        if header.tee == IntelTee::Tdx {
            r.zeros(r.rest().len())?;
        }
        r.finish()?;
        Ok(Quote {
            header,
            body,
            signed,
            signature,
            attestation_key,
            qe_report,
            qe_signature,
            qe_auth,
            chain,
            raw: bytes.to_vec(),
        })
    }

    /// The quote as it was read.
    pub fn bytes(&self) -> &[u8] {
        &self.raw
    }

    /// The report of the quoting enclave.
    pub fn qe_report(&self) -> &EnclaveReport {
        &self.qe_report
    }

    /// The chain of PCK certificates, PEM as it stands. Untrusted.
    pub fn certificate_chain(&self) -> &[u8] {
        &self.chain
    }

    /// What the attester put in.
    pub fn report_data(&self) -> &[u8; 64] {
        match &self.body {
            Body::Enclave(report) => &report.report_data,
            Body::Td(report) => &report.report_data,
        }
    }

    /// Type and size of the body as version 5 names them.
    pub fn body_descriptor(&self) -> Option<(u16, u32)> {
        if self.header.version != 5 {
            return None;
        }
        Some(match &self.body {
            Body::Enclave(_) => (1, 384),
            Body::Td(report) if report.tdx15.is_none() => (2, 584),
            Body::Td(_) => (3, 648),
        })
    }
}

fn header(r: &mut Reader<'_>) -> Result<Header, Error> {
    let version = r.u16_le()?;
    if !(3..=5).contains(&version) {
        return Err(unsupported("DCAP quote version", version));
    }
    let key = r.u16_le()?;
    if key != 2 {
        return Err(unsupported("DCAP attestation key type (2 is ECDSA P-256)", key));
    }
    // Reserved in version 3, and zero as for SGX.
    let tee = match (r.u32_le()?, version) {
        (0, 3 | 5) => IntelTee::Sgx,
        (0x81, 4 | 5) => IntelTee::Tdx,
        (tee, _) => return Err(unsupported("TEE type of this version of DCAP quotes", format!("{tee:#x}"))),
    };
    let reserved = match version {
        3 => r.array()?,
        _ => {
            r.zeros(4)?;
            [0; 4]
        }
    };
    let vendor_id = r.array()?;
    if vendor_id != INTEL_QE {
        return Err(unsupported("quoting enclave vendor", hex::encode(vendor_id)));
    }
    Ok(Header { version, tee, reserved, vendor_id, user_data: r.array()? })
}

fn body(header: &Header, r: &mut Reader<'_>) -> Result<Body, Error> {
    let td = |r: &mut Reader<'_>, tdx15| Ok(Body::Td(Box::new(TdReport::read(r, tdx15)?)));
    let enclave = |r: &mut Reader<'_>| Ok(Body::Enclave(Box::new(EnclaveReport::read(r)?)));
    match (header.version, header.tee) {
        (3, _) => enclave(r),
        (4, _) => td(r, false),
        (_, tee) => match (r.u16_le()?, r.u32_le()?, tee) {
            (1, 384, IntelTee::Sgx) => enclave(r),
            (2, 584, IntelTee::Tdx) => td(r, false),
            (3, 648, IntelTee::Tdx) => td(r, true),
            (kind, size, _) => {
                Err(unsupported("DCAP quote body", format!("type {kind} of {size} bytes for this TEE")))
            }
        },
    }
}

/// Certification data of the one kind that is expected, which must be the last in its structure.
fn certification<'a>(r: &mut Reader<'a>, expected: u16) -> Result<Reader<'a>, Error> {
    let kind = r.u16_le()?;
    if kind != expected {
        return Err(unsupported("DCAP certification data type", kind));
    }
    let length = r.u32_le()?;
    let data = r.part("DCAP certification data", length_of(r, length)?)?;
    r.finish()?;
    Ok(data)
}

fn length_of(r: &Reader<'_>, length: u32) -> Result<usize, Error> {
    usize::try_from(length).map_err(|_| r.error("a length beyond memory"))
}

fn unsupported(what: &'static str, got: impl std::fmt::Display) -> Error {
    Error::Unsupported { what, got: got.to_string() }
}
