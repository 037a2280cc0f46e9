//! The report of an SGX enclave, 384 bytes (Intel SDM, volume 3D, REPORT structure without key id and MAC).

use crate::Error;
use crate::reader::Reader;

/// An enclave's report: the body of SGX quotes, and what the platform's key signs of the quoting enclave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnclaveReport {
    /// Security version of the processor.
    pub cpu_svn: [u8; 16],
    /// MISCSELECT.
    pub misc_select: [u8; 4],
    /// Extended product id (KSS).
    pub isv_ext_prod_id: [u8; 16],
    /// ATTRIBUTES: flags.
    pub flags: [u8; 8],
    /// ATTRIBUTES: XFRM.
    pub xfrm: [u8; 8],
    /// Measurement of the enclave.
    pub mr_enclave: [u8; 32],
    /// Hash of the key that signed the enclave.
    pub mr_signer: [u8; 32],
    /// CONFIGID (KSS): what whoever started the enclave bound to it.
    pub config_id: [u8; 64],
    /// Product id.
    pub isv_prod_id: u16,
    /// Security version of the enclave.
    pub isv_svn: u16,
    /// CONFIGSVN (KSS).
    pub config_svn: u16,
    /// Family id (KSS).
    pub isv_family_id: [u8; 16],
    /// What the enclave put in.
    pub report_data: [u8; 64],
    raw: [u8; EnclaveReport::SIZE],
}

impl EnclaveReport {
    /// Length in bytes.
    pub const SIZE: usize = 384;

    /// Reads a report; its reserved parts must be zero, as every processor leaves them.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let raw: [u8; EnclaveReport::SIZE] = reader.array()?;
        let mut r = Reader::new("SGX enclave report", &raw);
        let cpu_svn = r.array()?;
        let misc_select = r.array()?;
        r.zeros(12)?;
        let isv_ext_prod_id = r.array()?;
        let (flags, xfrm) = (r.array()?, r.array()?);
        let mr_enclave = r.array()?;
        r.zeros(32)?;
        let mr_signer = r.array()?;
        r.zeros(32)?;
        let config_id = r.array()?;
        let (isv_prod_id, isv_svn, config_svn) = (r.u16_le()?, r.u16_le()?, r.u16_le()?);
        r.zeros(42)?;
        let isv_family_id = r.array()?;
        let report_data = r.array()?;
        r.finish()?;
        Ok(EnclaveReport {
            cpu_svn,
            misc_select,
            isv_ext_prod_id,
            flags,
            xfrm,
            mr_enclave,
            mr_signer,
            config_id,
            isv_prod_id,
            isv_svn,
            config_svn,
            isv_family_id,
            report_data,
            raw,
        })
    }

    /// The bytes as they stand.
    pub fn bytes(&self) -> &[u8] {
        &self.raw
    }
}
