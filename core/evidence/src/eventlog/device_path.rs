//! UEFI device paths as text, in the words that policies know.
//!
//! Source: UEFI 2.11, sections 10.3 (nodes) and 10.6 (text). Nodes without a text here are `Path(type,subtype,hex)`.

use super::details::utf16;
use crate::reader::Reader;

/// A path of more nodes has no text; a bootable one has fewer than 20.
const MAX_NODES: usize = 64;
/// Type and subtype of the node that ends a path.
const END: (u8, u8) = (0x7f, 0xff);

/// The nodes' texts, without the end; `None` where the path is not one.
pub(super) fn nodes(path: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader::new("device path", path);
    let mut texts = Vec::new();
    while !reader.is_empty() {
        let (kind, subtype) = (reader.u8().ok()?, reader.u8().ok()?);
        let data = reader.take(usize::from(reader.clone().u16_le().ok()?).checked_sub(2)?).ok()?;
        // The length covers type, subtype and itself.
        let data = data.get(2..)?;
        if (kind, subtype) == END {
            return (data.is_empty() && reader.is_empty()).then_some(texts);
        }
        if texts.len() >= MAX_NODES {
            return None;
        }
        texts.push(node(kind, subtype, data));
    }
    // No end; but nothing at all is what a log has for an image that was not loaded from a device.
    path.is_empty().then_some(texts)
}

fn node(kind: u8, subtype: u8, data: &[u8]) -> String {
    let known = match (kind, subtype) {
        (1, 1) => pci(data),
        (2, 1) => acpi(data),
        (3, 5) => usb(data),
        (3, 11) => mac(data),
        (4, 1) => hard_drive(data),
        (4, 3) => vendor_media(data),
        (4, 4) => file(data),
        _ => None,
    };
    known.unwrap_or_else(|| format!("Path({kind},{subtype},{})", hex::encode(data)))
}

/// Function and device, in this order.
fn pci(data: &[u8]) -> Option<String> {
    let [function, device] = data else { return None };
    Some(format!("Pci({function},{device})"))
}

fn usb(data: &[u8]) -> Option<String> {
    let [port, interface] = data else { return None };
    Some(format!("USB({port},{interface})"))
}

/// Hardware id, packed as EISA ids are, and unique id.
fn acpi(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new("ACPI node", data);
    let (vendor, product, uid) = (reader.u16_le().ok()?, reader.u16_le().ok()?, reader.u32_le().ok()?);
    reader.finish().ok()?;
    let letter = |shift: u16| u8::try_from((vendor >> shift) & 0x1f).map(|n| char::from(b'@' + n)).ok();
    Some(format!("ACPI({}{}{}{product:04X},{uid})", letter(10)?, letter(5)?, letter(0)?))
}

/// Address, padded to 32 bytes, and type of the interface. Ethernet's addresses (0 and 1) have six bytes.
fn mac(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new("MAC node", data);
    let (address, kind) = (reader.array::<32>().ok()?, reader.u8().ok()?);
    reader.finish().ok()?;
    let length = if kind <= 1 { 6 } else { address.len() };
    Some(format!("Mac({},0x{kind:02X})", hex::encode_upper(address.get(..length)?)))
}

fn hard_drive(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new("hard drive node", data);
    let (number, start, size) = (reader.u32_le().ok()?, reader.u64_le().ok()?, reader.u64_le().ok()?);
    let signature = reader.array::<16>().ok()?;
    let (format, _signature_type) = (reader.u8().ok()?, reader.u8().ok()?);
    reader.finish().ok()?;
    let signature = match format {
        1 => format!("MBR,{:#010x}", u32::from_le_bytes(*signature.first_chunk()?)),
        2 => format!("GPT,{}", guid(&signature)),
        _ => return None,
    };
    let place = if number == 0 { String::new() } else { format!(",{start:#x},{size:#x}") };
    Some(format!("HD({number},{signature}{place})"))
}

fn vendor_media(data: &[u8]) -> Option<String> {
    let (id, rest) = data.split_first_chunk::<16>()?;
    Some(format!("VenMedia({},{})", guid(id), hex::encode(rest)))
}

/// A path name, ended by NUL.
fn file(data: &[u8]) -> Option<String> {
    let name = data.strip_suffix(&[0, 0])?;
    Some(format!("File({})", String::from_utf16_lossy(&utf16(name)?)))
}

/// A GUID's text form: the first three fields are little-endian numbers.
fn guid(bytes: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let rest = hex::encode_upper(rest);
    let (first, second) = rest.split_at_checked(4).unwrap_or_default();
    format!("{d:02X}{c:02X}{b:02X}{a:02X}-{f:02X}{e:02X}-{h:02X}{g:02X}-{first}-{second}")
}
