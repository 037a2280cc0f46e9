//! The header of a Secure Execution image (`hdr.bin`, as `pvextract-hdr` writes it): what image is it?
//!
//! Layout, version 0x100: magic `IBMSecEx` (8), version (4), size of the whole header (4), IV (12), reserved (4), number of
//! key slots (8), size of the encrypted area (8), number of encrypted pages (8), plaintext control flags (8), customer public
//! key (160), page list digest (64), address list digest (64), tweak list digest (64), key slots (80 each), encrypted area,
//! tag (16). The tag authenticates all before it, so it stands for the image.

use crate::Error;
use crate::reader::Reader;

const WHAT: &str = "Secure Execution header";
const MAGIC: [u8; 8] = *b"IBMSecEx";
const VERSION: u32 = 0x100;
/// The Ultravisor takes two pages; more is no header.
const MAX_SIZE: usize = 8192;
const HEAD: usize = 0x1a0;
const KEY_SLOT: u64 = 80;
const TAG: u64 = 16;

/// What a measurement says of the image that was booted. 208 bytes: three digests of 64 bytes and a tag of 16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTags {
    /// Digest of the pages' content.
    pub page_list: [u8; 64],
    /// Digest of the pages' addresses.
    pub address_list: [u8; 64],
    /// Digest of the pages' tweaks.
    pub tweak_list: [u8; 64],
    /// The header's own tag.
    pub tag: [u8; 16],
}

impl HeaderTags {
    /// Length of the binary form.
    pub const SIZE: usize = 208;

    /// Reads the binary form.
    ///
    /// # Errors
    /// [`Error::Malformed`] for any other length.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new("Secure Execution header tags", bytes);
        let tags = HeaderTags {
            page_list: reader.array()?,
            address_list: reader.array()?,
            tweak_list: reader.array()?,
            tag: reader.array()?,
        };
        reader.finish()?;
        Ok(tags)
    }

    /// The binary form.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let parts = [&self.page_list[..], &self.address_list, &self.tweak_list, &self.tag];
        let mut out = [0; Self::SIZE];
        out.iter_mut().zip(parts.into_iter().flatten()).for_each(|(out, byte)| *out = *byte);
        out
    }
}

/// A parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What a measurement covers of it.
    pub tags: HeaderTags,
    /// Plaintext control flags, e.g. whether the image may be dumped.
    pub plaintext_control_flags: u64,
}

impl Header {
    /// Reads a header of exactly the size that it states.
    ///
    /// # Errors
    /// [`Error::Malformed`], and [`Error::Unsupported`] for another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_SIZE {
            return Err(Error::Malformed {
                what: WHAT,
                reason: format!("{} bytes are too many", bytes.len()),
            });
        }
        let mut reader = Reader::new(WHAT, bytes);
        if reader.array()? != MAGIC {
            return Err(Error::Malformed {
                what: WHAT,
                reason: "it does not begin with IBMSecEx".to_owned(),
            });
        }
        let version = reader.u32_be()?;
        if version != VERSION {
            return Err(Error::Unsupported {
                what: "Secure Execution header version",
                got: format!("{version:#x}"),
            });
        }
        let size = u64::from(reader.u32_be()?);
        reader.array::<12>()?;
        reader.zeros(4)?;
        let slots = reader.u64_be()?;
        let encrypted = reader.u64_be()?;
        reader.u64_be()?;
        let plaintext_control_flags = reader.u64_be()?;
        reader.array::<160>()?;
        let (page_list, address_list, tweak_list) = (reader.array()?, reader.array()?, reader.array()?);
        let stated = slots
            .checked_mul(KEY_SLOT)
            .and_then(|slots| slots.checked_add(encrypted)?.checked_add(HEAD as u64)?.checked_add(TAG));
        if slots == 0 || stated != Some(size) || usize::try_from(size) != Ok(bytes.len()) {
            let reason = format!(
                "{slots} key slots and {encrypted} encrypted bytes do not make {size} of {}",
                bytes.len()
            );
            return Err(Error::Malformed { what: WHAT, reason });
        }
        let tag = reader.rest().last_chunk().ok_or_else(|| reader.error("no tag"))?;
        let tags = HeaderTags { page_list, address_list, tweak_list, tag: *tag };
        Ok(Header { tags, plaintext_control_flags })
    }
}
