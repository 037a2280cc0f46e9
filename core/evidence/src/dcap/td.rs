//! The report of a trust domain as quotes carry it (Intel TDX DCAP quoting library API, appendix A.3.2 and A.4).

use crate::Error;
use crate::reader::Reader;

/// A trust domain's report: 584 bytes as of TDX 1.0, 648 bytes as of TDX 1.5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport {
    /// TEE_TCB_SVN: security versions of the TDX module and its loader at launch. Byte 0 is the module's minor version
    /// (its ISVSVN), byte 1 its major version.
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the TDX module.
    pub mr_seam: [u8; 48],
    /// Signer of the TDX module; zero for Intel.
    pub mrsigner_seam: [u8; 48],
    /// Attributes of the TDX module; zero.
    pub seam_attributes: [u8; 8],
    /// ATTRIBUTES of the TD.
    pub td_attributes: [u8; 8],
    /// Extended features that the TD may use.
    pub xfam: [u8; 8],
    /// Measurement of the TD's initial contents.
    pub mr_td: [u8; 48],
    /// MRCONFIGID: what the host bound to the TD at launch; carries the initdata's digest.
    pub mr_config_id: [u8; 48],
    /// Owner's id.
    pub mr_owner: [u8; 48],
    /// Owner's configuration.
    pub mr_owner_config: [u8; 48],
    /// RTMR0 to RTMR3.
    pub rtmr: [[u8; 48]; 4],
    /// What the TD put in.
    pub report_data: [u8; 64],
    /// What TDX 1.5 added.
    pub tdx15: Option<Tdx15>,
}

/// What TDX 1.5 added to a TD's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tdx15 {
    /// TEE_TCB_SVN of the module that runs now; differs from the one at launch after a TD-preserving update.
    pub tee_tcb_svn2: [u8; 16],
    /// Measurement of the service TDs (migration) bound to the TD.
    pub mr_servicetd: [u8; 48],
}

impl TdReport {
    /// Length of the report of TDX 1.0.
    pub const SIZE_10: usize = 584;
    /// Length of the report of TDX 1.5.
    pub const SIZE_15: usize = 648;

    /// Reads a report.
    pub(super) fn read(r: &mut Reader<'_>, tdx15: bool) -> Result<Self, Error> {
        Ok(TdReport {
            tee_tcb_svn: r.array()?,
            mr_seam: r.array()?,
            mrsigner_seam: r.array()?,
            seam_attributes: r.array()?,
            td_attributes: r.array()?,
            xfam: r.array()?,
            mr_td: r.array()?,
            mr_config_id: r.array()?,
            mr_owner: r.array()?,
            mr_owner_config: r.array()?,
            rtmr: [r.array()?, r.array()?, r.array()?, r.array()?],
            report_data: r.array()?,
            tdx15: match tdx15 {
                true => Some(Tdx15 { tee_tcb_svn2: r.array()?, mr_servicetd: r.array()? }),
                false => None,
            },
        })
    }
}
