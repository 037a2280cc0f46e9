//! The kernel file as an EFI application: its Authenticode digest, and what QEMU writes into its header.

use super::sha256_of;
use crate::Error;

/// Optional headers of 32 and 64 bits.
const PE32: u16 = 0x10b;
const PE32_PLUS: u16 = 0x20b;
/// Place of the certificate table among the data directories, of 8 bytes each.
const CERTIFICATES: usize = 4;
const DIRECTORY: usize = 8;

fn bad(reason: &'static str) -> Error {
    Error::Kernel(reason)
}

fn slice(bytes: &[u8], from: usize, length: usize) -> Result<&[u8], Error> {
    from.checked_add(length).and_then(|end| bytes.get(from..end)).ok_or(bad("the file is cut short"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Error> {
    let two = slice(bytes, at, 2)?;
    Ok(u16::from_le_bytes(two.try_into().unwrap_or_default()))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let four = slice(bytes, at, 4)?;
    Ok(u32::from_le_bytes(four.try_into().unwrap_or_default()))
}

fn place(value: u32) -> Result<usize, Error> {
    usize::try_from(value).map_err(|_| bad("an offset is out of range"))
}

/// SHA-256 of the image without its checksum, its certificate table and the entry that names the table: headers, then the
/// sections in the order of the file, then what follows them.
pub(super) fn authenticode(image: &[u8]) -> Result<[u8; 32], Error> {
    if slice(image, 0, 2)? != b"MZ" {
        return Err(bad("no EFI application (MZ)"));
    }
    let pe = place(u32_at(image, 0x3c)?)?;
    if slice(image, pe, 4)? != b"PE\0\0" {
        return Err(bad("no EFI application (PE)"));
    }
    let at = |base: usize, offset: usize| base.checked_add(offset).ok_or(bad("an offset is out of range"));
    let sections = usize::from(u16_at(image, at(pe, 6)?)?);
    let optional_size = usize::from(u16_at(image, at(pe, 20)?)?);
    let optional = at(pe, 24)?;
    let directories = match u16_at(image, optional)? {
        PE32 => at(optional, 96)?,
        PE32_PLUS => at(optional, 112)?,
        _ => return Err(bad("no EFI application (optional header)")),
    };
    let headers = place(u32_at(image, at(optional, 60)?)?)?;
    let checksum = at(optional, 64)?;
    let entry = at(directories, CERTIFICATES * DIRECTORY)?;
    let has_entry = place(u32_at(image, directories.saturating_sub(4))?)? > CERTIFICATES;
    let certificates = if has_entry { place(u32_at(image, at(entry, 4)?)?)? } else { 0 };
    let mut parts = vec![slice(image, 0, checksum)?];
    let after_checksum = at(checksum, 4)?;
    let rest = match has_entry {
        true => {
            parts.push(between(image, after_checksum, entry)?);
            at(entry, DIRECTORY)?
        }
        false => after_checksum,
    };
    parts.push(between(image, rest, headers)?);
    let table = at(optional, optional_size)?;
    let mut found = Vec::new();
    for n in 0..sections {
        let section = at(table, n.checked_mul(40).ok_or(bad("too many sections"))?)?;
        let (size, from) =
            (place(u32_at(image, at(section, 16)?)?)?, place(u32_at(image, at(section, 20)?)?)?);
        if size > 0 {
            found.push((from, size));
        }
    }
    found.sort_unstable();
    let mut hashed = headers;
    for (from, size) in found {
        parts.push(slice(image, from, size)?);
        hashed = hashed.checked_add(size).ok_or(bad("sections are longer than the file"))?;
    }
    let end = image.len().checked_sub(certificates).ok_or(bad("certificates are longer than the file"))?;
    if end > hashed {
        parts.push(between(image, hashed, end)?);
    }
    Ok(sha256_of(parts))
}

fn between(bytes: &[u8], from: usize, to: usize) -> Result<&[u8], Error> {
    bytes.get(from..to).ok_or(bad("the headers are out of order"))
}

/// The kernel with what QEMU's x86 loader writes into its header for this initrd (boot protocol 2.12 and later, kernels that
/// take an initrd anywhere below 4 GiB).
pub(super) fn patched(kernel: &[u8], initrd_size: usize, low_memory: u32) -> Result<Vec<u8>, Error> {
    /// Where QEMU puts real-mode code and command line.
    const REAL: u32 = 0x1_0000;
    const CMDLINE: u32 = 0x2_0000;
    /// What it keeps free for ACPI tables at the end of low memory.
    const ACPI: u32 = 0x2_8000;
    if slice(kernel, 0x202, 4)? != b"HdrS" {
        return Err(bad("no Linux kernel (HdrS)"));
    }
    if u16_at(kernel, 0x206)? < 0x020c {
        return Err(bad("its boot protocol is older than 2.12"));
    }
    // XLF_CAN_BE_LOADED_ABOVE_4G: without it the initrd lies elsewhere.
    if u16_at(kernel, 0x236)? & 2 == 0 {
        return Err(bad("it does not take an initrd above its own limit"));
    }
    let size = u32::try_from(initrd_size).map_err(|_| bad("the initrd is larger than 4 GiB"))?;
    let end = low_memory.saturating_sub(ACPI).saturating_sub(1);
    let initrd = end.checked_sub(size).ok_or(bad("the initrd does not fit into low memory"))? & !4095;
    let heap = u16::try_from(CMDLINE - REAL - 0x200).map_err(|_| bad("heap"))?;
    let mut patched = kernel.to_vec();
    let loadflags = slice(kernel, 0x211, 1)?.first().copied().unwrap_or_default();
    let writes: [(usize, Vec<u8>); 6] = [
        // QEMU's loader id, and that the heap may be used.
        (0x210, vec![0xb0]),
        (0x211, vec![loadflags | 0x80]),
        (0x218, initrd.to_le_bytes().to_vec()),
        (0x21c, size.to_le_bytes().to_vec()),
        (0x224, heap.to_le_bytes().to_vec()),
        (0x228, CMDLINE.to_le_bytes().to_vec()),
    ];
    for (from, bytes) in writes {
        let place = patched.get_mut(from..from.saturating_add(bytes.len()));
        place.ok_or(bad("the file is cut short"))?.copy_from_slice(&bytes);
    }
    Ok(patched)
}
