//! What a guest must measure to: launch digests computed from the very files that are booted.
//!
//! Contract: a pure library over bytes; no file, no device, no clock. It is used where guest images are made (reference
//! values), by Trustee, and by the simulated secure processor. A measurement of it is a claim about files, never a proof:
//! it must be compared with verified evidence. Firmware files are parsed as hostile input: no panic, bounded work.

use std::collections::BTreeMap;

mod error;
pub mod sim;
pub mod snp;
pub mod tpm;

pub use error::Error;

/// Name of the reference value for SNP launch digests, real and simulated, as CoCo's policies ask for it.
pub const SNP_LAUNCH_MEASUREMENT: &str = "snp_launch_measurement";

/// Reference values in the form that CoCo's reference value service keeps: name to accepted values, lower-case hex.
///
/// Takes the accepted SNP launch digests, one per vCPU count and platform variant; they are sorted and unique.
pub fn reference_values(snp: &[[u8; 48]]) -> BTreeMap<String, Vec<String>> {
    let mut values: Vec<String> = snp.iter().map(hex::encode).collect();
    values.sort();
    values.dedup();
    BTreeMap::from([(SNP_LAUNCH_MEASUREMENT.to_owned(), values)])
}

#[cfg(test)]
mod tests {
    #[test]
    fn reference_values_are_hex_sorted_and_unique() {
        let values = super::reference_values(&[[2; 48], [1; 48], [2; 48]]);
        assert_eq!(values["snp_launch_measurement"], ["01".repeat(48), "02".repeat(48)]);
    }
}
