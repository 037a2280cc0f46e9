//! CoRIM (draft-ietf-rats-corim): reference triples of the CoMIDs in it.
//!
//! A value's name is what identifies it, joined by `/`: vendor, model, measured element, name and serial number, as far
//! as they are there, then `digests` (list of hex) or `raw_bytes` (hex). Other kinds of tags, triples and values are
//! passed over: what is not understood is not accepted.

use ciborium::Value;
use ciborium::de::from_reader_with_recursion_limit;

use crate::Error;
use crate::cose;
use crate::document::{Document, Entry, Format, Judge, refused};
use crate::value::printable;

const FORMAT: Format = Format::Corim;
/// Deepest nesting of CBOR.
const MAX_DEPTH: usize = 24;
/// Most CoMIDs.
const MAX_TAGS: usize = 256;
const TAG_SIGN1: u64 = 18;
const TAG_UNSIGNED: u64 = 501;
const TAG_COMID: u64 = 506;
const TAG_BYTES: u64 = 560;
const TAG_UUID: u64 = 37;
const TAG_OID: u64 = 111;
/// CBOR heads of tag 18 and of the tags 500 and 502 that older drafts put around everything.
const HEAD_SIGN1: u8 = 0xd2;
const WRAPPERS: [[u8; 3]; 2] = [[0xd9, 0x01, 0xf4], [0xd9, 0x01, 0xf6]];

pub(crate) fn read(document: &[u8], judge: &Judge<'_>) -> Result<Document, Error> {
    let mut inner = document;
    while let Some((head, rest)) = inner.split_first_chunk::<3>() {
        if !WRAPPERS.contains(head) {
            break;
        }
        inner = rest;
    }
    if let Some((&HEAD_SIGN1, sign1)) = inner.split_first() {
        let signed = cose::open(sign1, judge)?;
        let mut read = corim(&signed.payload, judge.now_unix)?;
        if let Some(meta) = signed.meta {
            // {1: signature-validity}
            if let Some(validity) = at(&parse(&meta)?, 1) {
                check_validity(validity, judge.now_unix, &mut read)?;
            }
        }
        read.signed_by = signed.signed_by;
        return Ok(read);
    }
    let signed_by = judge.unsigned(FORMAT)?;
    Ok(Document { signed_by, ..corim(inner, judge.now_unix)? })
}

fn parse(bytes: &[u8]) -> Result<Value, Error> {
    let mut rest = bytes;
    let value: Value = from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
        .map_err(|_| refused(FORMAT, "not CBOR, or nested too deep"))?;
    if rest.is_empty() { Ok(value) } else { Err(refused(FORMAT, "bytes follow the document")) }
}

/// {0: id, 1: [tags], 4: validity, …}
fn corim(bytes: &[u8], now_unix: u64) -> Result<Document, Error> {
    let corim = match parse(bytes)? {
        Value::Tag(TAG_SIGN1, _) => return Err(refused(FORMAT, "a signature within the document")),
        Value::Tag(TAG_UNSIGNED, map) => *map,
        other => other,
    };
    if !corim.is_map() {
        return Err(refused(FORMAT, "not a map"));
    }
    let mut read = Document { set: at(&corim, 0).and_then(id), ..Document::default() };
    if let Some(validity) = at(&corim, 4) {
        check_validity(validity, now_unix, &mut read)?;
    }
    let tags = at(&corim, 1).and_then(Value::as_array).ok_or_else(|| refused(FORMAT, "it has no tags"))?;
    if tags.len() > MAX_TAGS {
        return Err(refused(FORMAT, "more than 256 tags"));
    }
    for tag in tags {
        if let Value::Tag(TAG_COMID, comid) = tag {
            let bytes = comid.as_bytes().ok_or_else(|| refused(FORMAT, "a CoMID is not a byte string"))?;
            comid_entries(&parse(bytes)?, &mut read)?;
        }
    }
    Ok(read)
}

/// Validity map {0: not-before, 1: not-after}, tag 1 times.
fn check_validity(validity: &Value, now_unix: u64, read: &mut Document) -> Result<(), Error> {
    let time = |label| match at(validity, label) {
        None => Ok(None),
        Some(Value::Tag(1, seconds)) => {
            let seconds = seconds.as_integer().and_then(|s| u64::try_from(i128::from(s).max(0)).ok());
            seconds.map(Some).ok_or_else(|| refused(FORMAT, "a time is not a whole number of seconds"))
        }
        Some(_) => Err(refused(FORMAT, "a time is not a time")),
    };
    if time(0)?.is_some_and(|start| now_unix < start) {
        return Err(Error::Validity("it begins later"));
    }
    if let Some(end) = time(1)? {
        read.expires_unix = Some(read.expires_unix.map_or(end, |known| known.min(end)));
    }
    Ok(())
}

/// {1: {1: tag-version}, 4: {0: [[environment, [measurement]]]}, …}
fn comid_entries(comid: &Value, read: &mut Document) -> Result<(), Error> {
    let version = at(comid, 1).and_then(|identity| at(identity, 1));
    let version = match version {
        None => None,
        Some(number) => {
            let number = number.as_integer().and_then(|n| u64::try_from(n).ok());
            Some(number.ok_or_else(|| refused(FORMAT, "a tag version is not a number"))?)
        }
    };
    read.version = read.version.max(version);
    let Some(references) = at(comid, 4).and_then(|triples| at(triples, 0)) else { return Ok(()) };
    let malformed = || refused(FORMAT, "a reference triple is malformed");
    for triple in references.as_array().ok_or_else(malformed)? {
        let [environment, measurements] = triple.as_array().ok_or_else(malformed)?.as_slice() else {
            return Err(malformed());
        };
        let mut path = Vec::new();
        if let Some(class) = at(environment, 0) {
            path.extend([1, 2].into_iter().filter_map(|label| at(class, label)).filter_map(Value::as_text));
        }
        for measurement in measurements.as_array().ok_or_else(malformed)? {
            entries(measurement, &path, read)?;
        }
    }
    Ok(())
}

/// {0: mkey, 1: {2: [[algorithm, digest]], 4: raw value, 8: serial number, 11: name, …}}
fn entries(measurement: &Value, class: &[&str], read: &mut Document) -> Result<(), Error> {
    let Some(values) = at(measurement, 1) else { return Err(refused(FORMAT, "a measurement has no values")) };
    let mut path: Vec<String> = class.iter().map(|&part| part.to_owned()).collect();
    if let Some(key) = at(measurement, 0) {
        let Some(element) = element(key) else { return Ok(()) };
        path.push(element);
    }
    path.extend([11, 8].into_iter().filter_map(|label| at(values, label)?.as_text()).map(str::to_owned));
    let named = |kind: &str| path.iter().map(String::as_str).chain([kind]).collect::<Vec<_>>().join("/");
    if let Some(digests) = at(values, 2) {
        let malformed = || refused(FORMAT, "a digest is not [algorithm, bytes]");
        let mut hexes = Vec::new();
        for digest in digests.as_array().ok_or_else(malformed)? {
            match digest.as_array().map(Vec::as_slice) {
                Some([_, Value::Bytes(bytes)]) if !bytes.is_empty() => {
                    hexes.push(serde_json::Value::String(hex::encode(bytes)));
                }
                _ => return Err(malformed()),
            }
        }
        read.add(FORMAT, Entry { name: named("digests"), values: hexes, single: false })?;
    }
    if let Some(Value::Tag(TAG_BYTES, raw)) = at(values, 4) {
        let raw = raw.as_bytes().ok_or_else(|| refused(FORMAT, "a raw value is not a byte string"))?;
        let values = vec![serde_json::Value::String(hex::encode(raw))];
        read.add(FORMAT, Entry { name: named("raw_bytes"), values, single: true })?;
    }
    Ok(())
}

/// The part of a name that a measured element makes.
fn element(key: &Value) -> Option<String> {
    match key {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(format!("claim{}", u64::try_from(*number).ok()?)),
        Value::Tag(TAG_UUID, uuid) => uuid_text(uuid.as_bytes()?),
        Value::Tag(TAG_OID, oid) => {
            Some(der::asn1::ObjectIdentifier::from_bytes(oid.as_bytes()?).ok()?.to_string())
        }
        _ => None,
    }
}

fn uuid_text(bytes: &[u8]) -> Option<String> {
    let hex = hex::encode(bytes);
    let part = |range: std::ops::Range<usize>| hex.get(range);
    if bytes.len() != 16 {
        return None;
    }
    Some([part(0..8)?, part(8..12)?, part(12..16)?, part(16..20)?, part(20..32)?].join("-"))
}

/// The CoRIM's id as a set's name, where it can be one.
fn id(value: &Value) -> Option<String> {
    let id = match value {
        Value::Text(text) => Some(text.clone()),
        Value::Tag(TAG_UUID, uuid) => uuid_text(uuid.as_bytes()?),
        Value::Bytes(uuid) => uuid_text(uuid),
        _ => None,
    };
    id.filter(|id| printable(id, 100))
}

/// A map's value of an integer label.
fn at(map: &Value, label: i64) -> Option<&Value> {
    let label = Value::from(label);
    map.as_map()?.iter().find(|(key, _)| *key == label).map(|(_, value)| value)
}
