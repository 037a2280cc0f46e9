//! Identity of Intel's quoting enclave.
//!
//! Source: Intel PCS API version 4, "Get Quoting Enclave Identity", version 2 of the format.

use serde::Deserialize;

use super::enclave::EnclaveReport;
use super::signed::Signed;
use super::tcb_info::{SvnLevel, WireSvnLevel, bytes, date, svn_levels};
use crate::Error;
use crate::collateral::IntelTee;

const WHAT: &str = "Intel quoting enclave identity";

/// An identity as read. Nothing about it is verified.
#[derive(Clone, Debug)]
pub struct QeIdentity {
    /// Whose quotes the enclave signs.
    pub tee: IntelTee,
    /// When it was issued, Unix seconds.
    pub issued: u64,
    /// Until when it is good, Unix seconds.
    pub next_update: u64,
    /// Counts Intel's TCB recovery events.
    pub evaluation_data_number: u32,
    /// MRSIGNER.
    pub mrsigner: [u8; 32],
    /// Product id.
    pub isv_prod_id: u16,
    misc_select: ([u8; 4], [u8; 4]),
    attributes: ([u8; 16], [u8; 16]),
    /// Levels, the best first.
    pub levels: Vec<SvnLevel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    version: u32,
    issue_date: String,
    next_update: String,
    tcb_evaluation_data_number: u32,
    miscselect: String,
    miscselect_mask: String,
    attributes: String,
    attributes_mask: String,
    mrsigner: String,
    isvprodid: u16,
    tcb_levels: Vec<WireSvnLevel>,
}

impl QeIdentity {
    /// Reads the signed object.
    pub(super) fn read(signed: &Signed<'_>) -> Result<Self, Error> {
        let wire: Wire = signed.read(WHAT)?;
        let tee = match (wire.version, wire.id.as_str()) {
            (2, "QE") => IntelTee::Sgx,
            (2, "TD_QE") => IntelTee::Tdx,
            _ => {
                let reason = "not version 2 of the identity of QE or TD_QE".to_owned();
                return Err(Error::Malformed { what: WHAT, reason });
            }
        };
        Ok(QeIdentity {
            tee,
            issued: date(&wire.issue_date)?,
            next_update: date(&wire.next_update)?,
            evaluation_data_number: wire.tcb_evaluation_data_number,
            mrsigner: bytes(&wire.mrsigner)?,
            isv_prod_id: wire.isvprodid,
            misc_select: (bytes(&wire.miscselect)?, bytes(&wire.miscselect_mask)?),
            attributes: (bytes(&wire.attributes)?, bytes(&wire.attributes_mask)?),
            levels: svn_levels(wire.tcb_levels)?,
        })
    }

    /// Whether an enclave's MISCSELECT is the identity's, under its mask.
    pub(super) fn misc_select_fits(&self, report: &EnclaveReport) -> bool {
        masked(&report.misc_select, &self.misc_select.1, &self.misc_select.0)
    }

    /// Whether an enclave's ATTRIBUTES are the identity's, under its mask.
    pub(super) fn attributes_fit(&self, report: &EnclaveReport) -> bool {
        let (flags, xfrm) = self.attributes.0.split_at(8);
        let (flags_mask, xfrm_mask) = self.attributes.1.split_at(8);
        masked(&report.flags, flags_mask, flags) && masked(&report.xfrm, xfrm_mask, xfrm)
    }

    /// The level of an ISVSVN; `None` below all of them.
    pub(super) fn level(&self, isv_svn: u16) -> Option<&SvnLevel> {
        self.levels.iter().find(|level| isv_svn >= level.isv_svn)
    }
}

fn masked(value: &[u8], mask: &[u8], expected: &[u8]) -> bool {
    value.len() == mask.len()
        && value.len() == expected.len()
        && value.iter().zip(mask).zip(expected).all(|((value, mask), expected)| value & mask == *expected)
}
