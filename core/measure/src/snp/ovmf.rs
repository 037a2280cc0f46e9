//! What a firmware file says of itself: the GUIDed table at its end and the SEV metadata (edk2, OvmfPkg/ResetVector).

use super::digest::PAGE;
use super::hashes::guid;
use crate::Error;

/// The table ends this far before the end of the file; the reset vector follows it.
const TABLE_END: usize = 32;
/// Every entry of the table ends with its length and its GUID.
const ENTRY_TAIL: usize = 18;
/// No firmware maps more than this below 4 GiB.
const MAX_FIRMWARE: usize = 64 * 1024 * 1024;
/// More sections than this are a malformed table; real firmware has under ten.
const MAX_SECTIONS: u32 = 64;
/// All sections together describe at most this much memory.
const MAX_SECTION_BYTES: u64 = 256 * 1024 * 1024;

const FOOTER_GUID: [u8; 16] = guid(0x96b5_82de, 0x1fb2, 0x45f7, 0xbaea_a366_c55a_082d);
const HASH_TABLE_GUID: [u8; 16] = guid(0x7255_371f, 0x3a3b, 0x4b04, 0x927b_1da6_efa8_d454);
const RESET_BLOCK_GUID: [u8; 16] = guid(0x00f7_71de, 0x1a7e, 0x4fcb, 0x890e_68c7_7e2f_b44e);
const METADATA_GUID: [u8; 16] = guid(0xdc88_6566, 0x984a, 0x4798, 0xa75e_5585_a7bf_67cc);

/// What a section of guest memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Zeroed memory that the firmware uses before it validates memory itself.
    SecMemory,
    /// The secrets page.
    Secrets,
    /// The CPUID page.
    Cpuid,
    /// The calling area of a service module; zeroed.
    SvsmCaa,
    /// The page with the kernel hashes.
    KernelHashes,
}

/// A section of guest memory that is set up at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Guest-physical address, page-aligned.
    pub gpa: u32,
    /// Number of pages.
    pub pages: u32,
    /// What it is for.
    pub kind: SectionKind,
}

/// A firmware file's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ovmf {
    /// Start address of all vCPUs but the first; `None` where the firmware names none.
    pub ap_start: Option<u32>,
    /// Where the kernel hash table goes, guest-physical; `None` where the firmware does not check kernels.
    pub hash_table: Option<u32>,
    /// Sections, in the order in which they are measured.
    pub sections: Vec<Section>,
}

impl Ovmf {
    /// Reads the tables of a whole firmware file.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        if !file.len().is_multiple_of(PAGE) || !(PAGE..=MAX_FIRMWARE).contains(&file.len()) {
            return Err(Error::FirmwareSize(file.len()));
        }
        let table = Table::find(file)?;
        let number = |guid, what| match table.entry(guid)? {
            None => Ok(None),
            Some(data) => le32(data, 0).map(Some).ok_or(Error::FirmwareMalformed(what)),
        };
        let from_end =
            number(&METADATA_GUID, "SEV metadata entry")?.ok_or(Error::FirmwareLacks("SEV metadata"))?;
        Ok(Ovmf {
            ap_start: number(&RESET_BLOCK_GUID, "SEV-ES reset block")?.filter(|eip| *eip != 0),
            hash_table: number(&HASH_TABLE_GUID, "hash table entry")?.filter(|gpa| *gpa != 0),
            sections: sections(file, from_end).ok_or(Error::FirmwareMalformed("SEV metadata"))??,
        })
    }
}

/// The entries between the footer and the table's start, read backwards.
struct Table<'a>(&'a [u8]);

impl<'a> Table<'a> {
    fn find(file: &'a [u8]) -> Result<Self, Error> {
        let lacks = Error::FirmwareLacks("GUIDed table");
        let (head, _) = file.split_at_checked(file.len().saturating_sub(TABLE_END)).ok_or(lacks.clone())?;
        let (rest, length, guid) = tail(head).ok_or(lacks.clone())?;
        if guid != FOOTER_GUID {
            return Err(lacks);
        }
        // The length counts the footer itself.
        let entries = usize::from(length).checked_sub(ENTRY_TAIL);
        let start = entries.and_then(|entries| rest.len().checked_sub(entries));
        let entries = start.and_then(|start| rest.get(start..));
        entries.map(Table).ok_or(Error::FirmwareMalformed("GUIDed table"))
    }

    /// Data of the entry with this GUID.
    fn entry(&self, wanted: &[u8; 16]) -> Result<Option<&'a [u8]>, Error> {
        let malformed = Error::FirmwareMalformed("GUIDed table");
        let mut rest = self.0;
        // Every round takes at least an entry's tail off, so this ends.
        while let Some((head, length, guid)) = tail(rest) {
            let data = usize::from(length).checked_sub(ENTRY_TAIL).and_then(|n| head.len().checked_sub(n));
            let (next, data) =
                data.and_then(|at| head.split_at_checked(at)).ok_or_else(|| malformed.clone())?;
            if guid == *wanted {
                return Ok(Some(data));
            }
            rest = next;
        }
        Ok(None)
    }
}

/// Splits an entry's length and GUID off the end.
fn tail(bytes: &[u8]) -> Option<(&[u8], u16, [u8; 16])> {
    let (rest, guid) = bytes.split_last_chunk::<16>()?;
    let (rest, length) = rest.split_last_chunk::<2>()?;
    Some((rest, u16::from_le_bytes(*length), *guid))
}

/// The metadata `from_end` bytes before the end: "ASEV", length, version 1, count, then gpa, size and type per section.
/// `None` where something lies outside the file.
fn sections(file: &[u8], from_end: u32) -> Option<Result<Vec<Section>, Error>> {
    let malformed = |what| Some(Err(Error::FirmwareMalformed(what)));
    let start = file.len().checked_sub(usize::try_from(from_end).ok()?)?;
    let header = file.get(start..)?;
    let (length, version, count) = (le32(header, 4)?, le32(header, 8)?, le32(header, 12)?);
    if header.get(..4)? != b"ASEV" || version != 1 {
        return malformed("SEV metadata header");
    }
    if count > MAX_SECTIONS {
        return malformed("number of SEV metadata sections");
    }
    let body = header.get(..usize::try_from(length).ok()?)?.get(16..)?;
    let mut sections = Vec::new();
    let mut total = 0_u64;
    for i in 0..usize::try_from(count).ok()? {
        let (gpa, size, kind) = (le32(body, i * 12)?, le32(body, i * 12 + 4)?, le32(body, i * 12 + 8)?);
        let kind = match kind {
            1 => SectionKind::SecMemory,
            2 => SectionKind::Secrets,
            3 => SectionKind::Cpuid,
            4 => SectionKind::SvsmCaa,
            0x10 => SectionKind::KernelHashes,
            _ => return malformed("SEV metadata section type"),
        };
        let page = u32::try_from(PAGE).ok()?;
        total = total.checked_add(u64::from(size))?;
        let single = matches!(kind, SectionKind::Secrets | SectionKind::Cpuid | SectionKind::KernelHashes);
        if !gpa.is_multiple_of(page) || !size.is_multiple_of(page) || size == 0 || (single && size != page) {
            return malformed("SEV metadata section size");
        }
        if total > MAX_SECTION_BYTES {
            return malformed("SEV metadata section size");
        }
        sections.push(Section { gpa, pages: size / page, kind });
    }
    Some(Ok(sections))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b))
}
