//! What a TPM's registers hold after OVMF and Linux have measured a direct kernel boot.
//!
//! Register 2: no drivers, no option ROMs; Cocoon's VMs have none.
//!
//! Register 4: the kernel as an EFI application, by its Authenticode digest, then what firmware adds to every boot. Register
//! 9: what the kernel's EFI stub measures, its command line and then its initrd (Linux 6.1 and later).
//!
//! QEMU before version 10 writes boot parameters into the kernel's header, addresses among them, before the firmware reads and
//! measures it; the addresses depend on the initrd's size and on where memory below 4 GiB ends. Later versions have a way to
//! hand over the kernel as it is. Both digests are given.
//!
//! Sources: TCG PC Client Platform Firmware Profile 1.06, section 3.3.4; Microsoft, Windows Authenticode Portable Executable
//! Signature Format, 1.0; Linux, Documentation/arch/x86/boot.rst; QEMU hw/i386/x86-common.c; Linux
//! drivers/firmware/efi/libstub/efi-stub-helper.c.

mod pe;

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256, digest};

use crate::Error;

/// End of memory below 4 GiB in every VM whose boot is measured so; QEMU's `max-ram-below-4g`.
pub const LOW_MEMORY: u32 = 256 << 20;

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub struct BootFiles<'a> {
    /// Kernel file, a bzImage with an EFI stub.
    pub kernel: &'a [u8],
    /// Initrd file.
    pub initrd: &'a [u8],
    /// Kernel command line without NUL, as it is given to QEMU.
    pub cmdline: &'a str,
}

/// What QEMU and OVMF append to the command line that the kernel sees.
const APPENDED: &str = " initrd=initrd";
/// What OVMF extends into register 4 beside the kernel (PC Client profile, EV_EFI_ACTION).
const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
/// Separator of an undisturbed boot.
const SEPARATOR: &[u8] = &[0; 4];

/// Values of register 4 of the SHA-256 bank that these files may lead to: with QEMU's parameters in the kernel's header, and
/// with the kernel as it is.
///
/// # Errors
/// [`Error::Kernel`] for a file that is no EFI application for x86.
pub fn register_4(files: &BootFiles<'_>) -> Result<[[u8; 32]; 2], Error> {
    let patched = pe::patched(files.kernel, files.initrd.len(), LOW_MEMORY)?;
    let value = |kernel: &[u8]| -> Result<[u8; 32], Error> {
        Ok(replay(&[pe::authenticode(kernel)?, sha256(CALLING), sha256(SEPARATOR)]))
    };
    Ok([value(&patched)?, value(files.kernel)?])
}

/// Value of register 2 of the SHA-256 bank: nothing but the separator, where no driver and no option ROM was loaded.
pub fn register_2() -> [u8; 32] {
    replay(&[sha256(SEPARATOR)])
}

/// Value of register 9 of the SHA-256 bank.
pub fn register_9(files: &BootFiles<'_>) -> [u8; 32] {
    let text = [files.cmdline, APPENDED, "\0"].concat();
    let options: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    replay(&[sha256(&options), sha256(files.initrd)])
}

/// Value of register 8 after the guest has extended it with its initdata's digest (SHA-256).
pub fn register_8(init_data: &[u8; 32]) -> [u8; 32] {
    replay(&[*init_data])
}

/// Reference values by the names that Trustee's policy asks for: `tpm_pcr02`, `tpm_pcr04` and `tpm_pcr09`, lower-case hex.
///
/// # Errors
/// As [`register_4`].
pub fn reference_values(files: &BootFiles<'_>) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let kernel = register_4(files)?.iter().map(hex::encode).collect();
    let rest = vec![hex::encode(register_9(files))];
    let drivers = vec![hex::encode(register_2())];
    let named = [("tpm_pcr02", drivers), ("tpm_pcr04", kernel), ("tpm_pcr09", rest)];
    Ok(named.map(|(name, values)| (name.to_owned(), values)).into())
}

/// A register that was zero, after these digests.
fn replay(digests: &[[u8; 32]]) -> [u8; 32] {
    digests.iter().fold([0; 32], |value, digest| sha256(&[value, *digest].concat()))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    first32(digest(&SHA256, bytes).as_ref())
}

fn first32(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

/// SHA-256 over parts.
fn sha256_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.into_iter().for_each(|part| context.update(part));
    first32(context.finish().as_ref())
}

#[cfg(test)]
mod tests;
