//! Reference values: what a guest image must measure to.

use std::collections::BTreeMap;

use cocoon_measure::sim::{BootDigests, BootFiles};
use cocoon_measure::snp::{EPYC_V4, GUEST_FEATURES, KernelHashes, ovmf_launch_digest};

use crate::Error;

/// Reference values are computed for guests of 1 to this many vCPUs: each vCPU's initial state is a page of
/// the launch digest.
pub const MAX_VCPUS: u32 = 32;

/// Launch measurements on the simulated platform, lower-case hexadecimal of 48 bytes each.
pub(crate) fn simulated(
    firmware: &[u8],
    kernel: &[u8],
    initrd: &[u8],
    cmdline: &str,
) -> BTreeMap<String, Vec<String>> {
    let digests = BootDigests::of(&BootFiles { firmware, kernel, initrd, cmdline });
    let values = (1..=MAX_VCPUS).map(|vcpus| hex::encode(digests.launch_digest(vcpus))).collect();
    BTreeMap::from([("sim_launch_measurement".to_owned(), values)])
}

/// Launch measurements on SEV-SNP with kernel hashes and QEMU's `EPYC-v4`, the CPU model that Cocoon starts
/// SNP guests with (the model is part of the measured CPU state). Lower-case hexadecimal of 48 bytes each.
pub(crate) fn snp(
    ovmf: &[u8],
    kernel: &[u8],
    initrd: &[u8],
    cmdline: &str,
) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let hashes = KernelHashes::of(kernel, initrd, cmdline);
    let value = |vcpus| {
        ovmf_launch_digest(ovmf, Some(&hashes), vcpus, EPYC_V4, GUEST_FEATURES)
            .map(hex::encode)
            .map_err(|e| Error::Measure(e.to_string()))
    };
    let values = (1..=MAX_VCPUS).map(value).collect::<Result<_, _>>()?;
    Ok(BTreeMap::from([("snp_launch_measurement".to_owned(), values)]))
}

/// One of [`snp`]'s values.
pub(crate) fn snp_digest(
    ovmf: &[u8],
    kernel: &[u8],
    initrd: &[u8],
    cmdline: &str,
    vcpus: u32,
) -> Result<[u8; 48], Error> {
    let hashes = KernelHashes::of(kernel, initrd, cmdline);
    ovmf_launch_digest(ovmf, Some(&hashes), vcpus, EPYC_V4, GUEST_FEATURES)
        .map_err(|e| Error::Measure(e.to_string()))
}

/// What registers 2, 4 and 9 of a TPM (SHA-256 bank) hold after firmware has measured the boot of these files, at any number of
/// vCPUs and any size of memory.
pub(crate) fn tpm(
    kernel: &[u8],
    initrd: &[u8],
    cmdline: &str,
) -> Result<BTreeMap<String, Vec<String>>, Error> {
    cocoon_measure::tpm::reference_values(&cocoon_measure::tpm::BootFiles { kernel, initrd, cmdline })
        .map_err(|e| Error::Measure(e.to_string()))
}
