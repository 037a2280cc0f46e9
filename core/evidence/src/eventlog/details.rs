//! What an event's data says, for people and policies. Data that is not what its type promises has no details.
//!
//! Source: PFP 1.06, section 10.2 (structures) and 10.4.1 (which type has which).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Event, EventType, WHAT, aael, device_path};
use crate::reader::Reader;

/// The claim `details` of an event.
pub(super) fn details(event: &Event) -> Value {
    let data = event.data.as_slice();
    let found = match event.kind {
        EventType::POST_CODE
        | EventType::ACTION
        | EventType::COMPACT_HASH
        | EventType::OMIT_BOOT_DEVICE_EVENTS
        | EventType::EFI_ACTION => std::str::from_utf8(data).ok().map(|text| json!({ "string": text })),
        EventType::PLATFORM_CONFIG_FLAGS => Some(json!({ "string": flags(data) })),
        EventType::IPL => loader(data).map(|text| json!({ "string": text })),
        EventType::EVENT_TAG => tagged(event),
        EventType::EFI_PLATFORM_FIRMWARE_BLOB2 | EventType::EFI_HANDOFF_TABLES2 => {
            description(data).map(|text| json!({ "string": text }))
        }
        EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_BOOT
        | EventType::EFI_VARIABLE_BOOT2
        | EventType::EFI_VARIABLE_AUTHORITY => variable(data),
        EventType::EFI_BOOT_SERVICES_APPLICATION
        | EventType::EFI_BOOT_SERVICES_DRIVER
        | EventType::EFI_RUNTIME_SERVICES_DRIVER => image(data).map(|path| json!({ "device_paths": path })),
        _ => None,
    };
    found.unwrap_or_else(|| Value::Object(Map::new()))
}

/// Text without control characters, some of which td-shim puts between its words; empty where it is not text.
fn flags(data: &[u8]) -> String {
    let text = std::str::from_utf8(data).unwrap_or_default();
    let spaced = text.chars().map(|c| if c == '\u{10}' { ' ' } else { c });
    spaced.filter(|c| !c.is_control()).collect()
}

/// What boot loaders write: UTF-16 with a leading dot (the names of systemd's PE sections), else text up to a NUL, else hex.
fn loader(data: &[u8]) -> Option<String> {
    if let Some(name) = data.strip_prefix(b".\0") {
        let name = name.len().checked_sub(2).and_then(|length| name.get(..length))?;
        return utf16(name).map(|units| String::from_utf16_lossy(&units));
    }
    let text = data.split(|b| *b == 0).next().unwrap_or_default();
    Some(std::str::from_utf8(text).map_or_else(|_| hex::encode(data), str::to_owned))
}

/// `TCG_PCClientTaggedEvent`.
fn tagged(event: &Event) -> Option<Value> {
    let mut reader = Reader::new(WHAT, &event.data);
    let tag = reader.u32_le().ok()?;
    let size = usize::try_from(reader.u32_le().ok()?).ok()?;
    let text = String::from_utf8_lossy(reader.take(size).ok()?).replace('\0', "");
    if tag != aael::TAG {
        return Some(json!({ "string": text }));
    }
    let words = event.aael()?;
    let (domain, operation, content) = (words.domain, words.operation, words.content_value());
    Some(json!({
        "data": { "content": content, "domain": domain, "operation": operation },
        "string": text,
        "unicode_name": "AAEL",
    }))
}

/// The description that `UEFI_PLATFORM_FIRMWARE_BLOB2` and `UEFI_HANDOFF_TABLE_POINTERS2` begin with.
fn description(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(WHAT, data);
    let length = usize::from(reader.u8().ok()?);
    let text = reader.take(length).ok()?;
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    std::str::from_utf8(text).ok().map(str::to_owned)
}

/// `UEFI_VARIABLE_DATA`.
fn variable(data: &[u8]) -> Option<Value> {
    let mut reader = Reader::new(WHAT, data);
    let guid = reader.array::<16>().ok()?;
    let (units, length) = (reader.u64_le().ok()?, reader.u64_le().ok()?);
    let name = reader.take(usize::try_from(units).ok()?.checked_mul(2)?).ok()?;
    let value = reader.take(usize::try_from(length).ok()?).ok()?;
    reader.finish().ok()?;
    Some(json!({
        "unicode_name": String::from_utf16(&utf16(name)?).ok()?,
        "unicode_name_length": units,
        "variable_data": STANDARD.encode(value),
        "variable_data_length": length,
        "variable_name": bytewise(&guid),
    }))
}

/// A GUID with its bytes in the order they lie in memory: not the usual text form, but what policies know.
fn bytewise(guid: &[u8; 16]) -> String {
    let text = hex::encode(guid);
    let part = |from, to| text.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// The device path of `UEFI_IMAGE_LOAD_EVENT`; `None` where it is empty.
fn image(data: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader::new(WHAT, data);
    // Address, length and link-time address of the image.
    reader.take(24).ok()?;
    let length = usize::try_from(reader.u64_le().ok()?).ok()?;
    let path = reader.take(length).ok()?;
    reader.finish().ok()?;
    device_path::nodes(path).filter(|nodes| !nodes.is_empty())
}

/// Little-endian UTF-16; `None` for half a unit.
pub(super) fn utf16(bytes: &[u8]) -> Option<Vec<u16>> {
    let (units, rest) = bytes.as_chunks::<2>();
    rest.is_empty().then(|| units.iter().map(|unit| u16::from_le_bytes(*unit)).collect())
}
