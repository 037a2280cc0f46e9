//! The attestation report: a page of 4096 bytes, with a magic and flags beside it that say what it is.

use super::certificate::{ChipCertificate, Signature};
use super::wire::{self, Bytes, Layout as _};
use crate::Error;
use crate::reader::Reader;

/// Magic of a request that knows extended reports.
const EXTENSION: [u8; 16] = *b"ATTESTATION_EXT\0";
const WHAT: &str = "CSV report";

/// Which of the two formats a report has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 1: fields are masked.
    V1 {
        /// The mask, four bytes that repeat. Nobody signs it.
        anonce: [u8; 4],
    },
    /// Version 2, the extended report.
    V2(Box<Extended>),
}

/// What version 2 adds. All of it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Build number of the firmware.
    pub build: u32,
    /// Version of the runtime measurement registers.
    pub rtmr_version: u16,
    /// Not used yet.
    pub reserved0: [u8; 14],
    /// Runtime measurement registers, SM3; number 0 is the launch measurement.
    pub rtmr: [[u8; 32]; 5],
    /// Not used yet.
    pub reserved1: [u8; 656],
}

/// A parsed report; nothing of it is verified. Fields are without their mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    data: Vec<u8>,
    magic: [u8; 16],
    flags: u32,
    /// Which format it has.
    pub version: Version,
    /// Digest of the key that the owner's launch session was made with; zero without a session.
    pub user_pubkey_digest: [u8; 32],
    /// The owner's name for the guest.
    pub vm_id: [u8; 16],
    /// The owner's version of the guest.
    pub vm_version: [u8; 16],
    /// What the guest put in.
    pub report_data: [u8; 64],
    /// The guest's random number.
    pub mnonce: [u8; 16],
    /// Launch measurement, SM3.
    pub measure: [u8; 32],
    /// The guest's policy.
    pub policy: u32,
    /// Usage of the key that signs. Not signed in version 1.
    pub sig_usage: u32,
    /// Algorithm of the signature. Not signed in version 1.
    pub sig_algo: u32,
    pub(super) signature: Option<Signature>,
    /// The PEK certificate, 2084 bytes as they stand in the report. Not signed.
    pub pek: Vec<u8>,
    /// The chip's serial number, filled up with zeros. Not signed.
    pub serial_number: [u8; 64],
}

impl Report {
    /// Length of the page.
    pub const SIZE: usize = 4096;

    /// Reads a page of which magic and flags say the format: zero magic with flags 0 or the extension's magic with flags
    /// 0 are version 1; the extension's magic with flags 1 is version 2.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other magics and flags, [`Error::Malformed`] for another length and for bytes after the
    /// report that are not zero.
    pub fn parse(magic: &[u8; 16], flags: u32, data: &[u8]) -> Result<Self, Error> {
        let extended = match (magic, flags) {
            ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0) | (&EXTENSION, 0) => false,
            (&EXTENSION, 1) => true,
            _ => {
                let got = format!("magic {} with flags {flags:#x}", hex::encode(magic));
                return Err(Error::Unsupported { what: "kind of a CSV report", got });
            }
        };
        let mut reader = Reader::new(WHAT, data);
        // The mask of version 1 stands behind the fields that it is over.
        let mask = match extended {
            true => [0; 4],
            false => {
                let mut ahead = reader.clone();
                ahead.take(0xbc)?;
                ahead.array()?
            }
        };
        let r = &mut reader;
        let mut report = Report {
            data: data.to_vec(),
            magic: *magic,
            flags,
            version: Version::V1 { anonce: mask },
            user_pubkey_digest: masked(r, mask)?,
            vm_id: masked(r, mask)?,
            vm_version: masked(r, mask)?,
            report_data: masked(r, mask)?,
            mnonce: masked(r, mask)?,
            measure: masked(r, mask)?,
            policy: masked(r, mask).map(u32::from_le_bytes)?,
            sig_usage: masked(r, mask).map(u32::from_le_bytes)?,
            sig_algo: masked(r, mask).map(u32::from_le_bytes)?,
            signature: None,
            pek: Vec::new(),
            serial_number: [0; 64],
        };
        match extended {
            false => r.array::<4>().map(|_| ())?,
            true => report.version = Version::V2(Box::new(Extended::read(r)?)),
        }
        report.signature = Signature::of(&wire::Signature::read(r)?);
        report.pek = r.take(ChipCertificate::SIZE)?.to_vec();
        report.serial_number = r.array()?;
        // The attester clears the first half before it sends the report; without it the MAC in the second half is over
        // something that nobody has any more.
        r.array::<64>()?;
        r.zeros(r.rest().len())?;
        match data.len() {
            Report::SIZE => Ok(report),
            other => Err(Error::Malformed { what: WHAT, reason: format!("{other} bytes instead of 4096") }),
        }
    }

    /// The page.
    pub fn to_bytes(&self) -> &[u8] {
        &self.data
    }

    /// The magic beside the page.
    pub fn magic(&self) -> &[u8; 16] {
        &self.magic
    }

    /// The flags beside the page.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// What the signature is over, as it stands in the page.
    pub fn signed_bytes(&self) -> &[u8] {
        let length = match self.version {
            Version::V1 { .. } => 0xb4,
            Version::V2(_) => 0x400,
        };
        self.data.get(..length).unwrap_or_default()
    }

    /// Whether the guest may not be debugged (policy bit 0).
    pub fn forbids_debugging(&self) -> bool {
        self.policy & 1 == 1
    }
}

impl Extended {
    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Extended {
            build: from.u32_le()?,
            rtmr_version: from.u16_le()?,
            reserved0: from.array()?,
            rtmr: [from.array()?, from.array()?, from.array()?, from.array()?, from.array()?],
            reserved1: Bytes::read(from)?.0,
        })
    }
}

/// The next field, its mask taken off. Every field starts at a multiple of the mask's length.
fn masked<const N: usize>(from: &mut Reader<'_>, mask: [u8; 4]) -> Result<[u8; N], Error> {
    let mut field = from.array::<N>()?;
    field.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(field)
}
