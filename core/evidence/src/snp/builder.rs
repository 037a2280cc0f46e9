//! Makes reports of genuine format; for whoever plays the secure processor.

use super::report::{FirmwareVersion, Report, ReportFields, Signature};
use super::tcb::Tcb;
use crate::Error;

/// Makes a report of genuine format.
#[derive(Clone, Debug)]
pub struct ReportBuilder {
    /// Every field may be set; the signature is replaced by [`ReportBuilder::sign_with`].
    pub fields: ReportFields,
}

impl ReportBuilder {
    /// A version 3 report of that processor with zeros elsewhere, ECDSA P-384 as algorithm and VCEK as signing key.
    pub fn new(family: u8, model: u8, stepping: u8) -> Self {
        let tcb = Tcb::default();
        let fields = ReportFields {
            version: 3,
            guest_svn: 0,
            policy: 0,
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            sig_algo: 1,
            current_tcb: tcb,
            plat_info: 0,
            key_info: 0,
            report_data: [0; 64],
            measurement: [0; 48],
            host_data: [0; 32],
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: [0; 32],
            report_id_ma: [0xff; 32],
            reported_tcb: tcb,
            cpuid_fam_id: Some(family),
            cpuid_mod_id: Some(model),
            cpuid_step: Some(stepping),
            chip_id: [0; 64],
            committed_tcb: tcb,
            current: FirmwareVersion::default(),
            committed: FirmwareVersion::default(),
            launch_tcb: tcb,
            launch_mit_vector: None,
            current_mit_vector: None,
            signature: Signature { r: [0; 72], s: [0; 72] },
        };
        ReportBuilder { fields }
    }

    /// Signs: `sign` is given the 672 bytes to sign (with ECDSA P-384 over their SHA-384) and returns big-endian r and s.
    pub fn sign_with<E: From<Error>>(
        mut self,
        sign: impl FnOnce(&[u8]) -> Result<([u8; 48], [u8; 48]), E>,
    ) -> Result<Report, E> {
        let unsigned = Report::from_fields(&self.fields)?;
        let (r, s) = sign(unsigned.signed_bytes())?;
        self.fields.signature = Signature::from_be(&r, &s);
        Ok(Report::from_fields(&self.fields)?)
    }
}
