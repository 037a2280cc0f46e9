//! HSK and CEK: from the evidence, or as Hygon's service hands them out for a chip.

use cocoon_stage::Code;

use super::certificate::{CaCertificate, ChipCertificate};
use super::chip::ChipId;
use super::evidence::Evidence;
use crate::Error;
use crate::collateral::{Collateral, Need};

/// What verification needs: HSK and CEK of the chip, unless the evidence has them. The document is what Hygon's service
/// sends for a serial number: HSK (832 bytes) and CEK (2084 bytes), one after the other.
pub fn needs(evidence: &Evidence) -> Vec<Need> {
    match evidence.hsk_cek {
        Some(_) => Vec::new(),
        None => vec![need(&evidence.chip_id)],
    }
}

pub(crate) fn need(chip: &ChipId) -> Need {
    Need::HygonCertificates { chip_id: chip.as_str().to_owned() }
}

/// Where HSK and CEK are.
pub(crate) type Issuers = Result<(CaCertificate, ChipCertificate), (Code, String)>;

/// HSK and CEK of a chip from the documents at hand; else why not.
pub(crate) fn issuers(collateral: &Collateral, chip: &ChipId) -> Issuers {
    let missing = || (Code::AttestCollateralMissing, format!("no HSK and CEK of chip {}", chip.as_str()));
    let document = collateral.get(&need(chip)).ok_or_else(missing)?;
    parse(&document.body).map_err(|error| (Code::AttestCollateralInvalid, error.to_string()))
}

fn parse(body: &[u8]) -> Result<(CaCertificate, ChipCertificate), Error> {
    let (hsk, cek) = body.split_at_checked(CaCertificate::SIZE).unwrap_or((body, &[]));
    Ok((CaCertificate::parse(hsk)?, ChipCertificate::parse(cek)?))
}
