//! The launch digest of a firmware file, a kernel and a number of vCPUs.

use super::digest::{LaunchDigest, PAGE, PageType};
use super::hashes::KernelHashes;
use super::ovmf::{Ovmf, SectionKind};
use super::vmsa::{RESET_VECTOR, Vmsa};
use crate::Error;

const FOUR_GIB: u64 = 1 << 32;

/// The launch digest that an SNP guest gets which QEMU starts with this firmware (`-bios`, built AmdSev).
///
/// `hashes` are those of a direct kernel boot with `kernel-hashes=on`, `vcpus` the number of vCPUs at launch, `cpu_sig` the
/// CPUID signature of the CPU model ([`super::EPYC_V4`], [`cpu_signature`]), `guest_features` the VMSA's SEV_FEATURES.
pub fn ovmf_launch_digest(
    ovmf: &[u8],
    hashes: Option<&KernelHashes>,
    vcpus: u32,
    cpu_sig: u32,
    guest_features: u64,
) -> Result<[u8; 48], Error> {
    check_vcpus(vcpus)?;
    let tables = Ovmf::parse(ovmf)?;
    let mut digest = LaunchDigest::new();
    digest.update_pages(ovmf, FOUR_GIB - ovmf.len() as u64);

    for section in &tables.sections {
        let gpa = u64::from(section.gpa);
        match section.kind {
            SectionKind::SecMemory | SectionKind::SvsmCaa => {
                digest.update_contentless(PageType::Zero, gpa, section.pages);
            }
            SectionKind::Secrets => digest.update_contentless(PageType::Secrets, gpa, 1),
            SectionKind::Cpuid => digest.update_contentless(PageType::Cpuid, gpa, 1),
            SectionKind::KernelHashes => match hashes {
                None => digest.update_contentless(PageType::Zero, gpa, 1),
                Some(hashes) => digest.update_page(&hashes_page(&tables, hashes)?, gpa),
            },
        }
    }
    if hashes.is_some() && !tables.sections.iter().any(|s| s.kind == SectionKind::KernelHashes) {
        return Err(Error::FirmwareLacks("section for kernel hashes"));
    }
    let vmsa = |eip| Vmsa { eip, cpu_signature: cpu_sig, guest_features }.page();
    digest.update_vmsa(&vmsa(RESET_VECTOR));
    if vcpus > 1 {
        let start = tables.ap_start.ok_or(Error::FirmwareLacks("SEV-ES reset block"))?;
        let page = vmsa(start);
        (1..vcpus).for_each(|_| digest.update_vmsa(&page));
    }
    Ok(digest.value())
}

/// CPUID leaf 1 signature of a family, model and stepping, as QEMU's CPU models set it.
pub fn cpu_signature(family: u32, model: u32, stepping: u32) -> u32 {
    let (low, extended) = if family > 0xf { (0xf, (family - 0xf) & 0xff) } else { (family, 0) };
    extended << 20 | ((model >> 4) & 0xf) << 16 | low << 8 | (model & 0xf) << 4 | (stepping & 0xf)
}

pub(crate) fn check_vcpus(vcpus: u32) -> Result<(), Error> {
    if (1..=4096).contains(&vcpus) { Ok(()) } else { Err(Error::Vcpus(vcpus)) }
}

fn hashes_page(tables: &Ovmf, hashes: &KernelHashes) -> Result<[u8; PAGE], Error> {
    let gpa = tables.hash_table.ok_or(Error::FirmwareLacks("kernel hash table"))?;
    let offset = usize::try_from(gpa).unwrap_or(usize::MAX) % PAGE;
    hashes.page(offset).ok_or(Error::FirmwareMalformed("kernel hash table's place"))
}
