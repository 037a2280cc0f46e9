//! TCG reference integrity manifests as SWID tags (XML), as NVIDIA publishes them for its devices.
//!
//! Each measurement becomes `<manufacturer>.<edition>.measurement_<index>`, blanks and `-` as `_`, with the list of its
//! hashes in hex. Hashes of all zeros stand for "not measured" and are left out, as are measurements with no other.

use serde_json::Value;

use crate::document::{Document, Entry, Format, Judge, refused};
use crate::value::printable;
use crate::xml::{Element, Tree};
use crate::{Error, xmldsig};

const FORMAT: Format = Format::Swid;
const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const RIM: &str =
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/";
/// Namespaces of `Hash<n>` attributes, and the length of the hash in hex digits.
const HASHES: [(&str, usize); 3] = [
    ("http://www.w3.org/2001/04/xmlenc#sha256", 64),
    ("http://www.w3.org/2001/04/xmlenc#sha384", 96),
    ("http://www.w3.org/2001/04/xmlenc#sha512", 128),
];

pub(crate) fn read(document: &[u8], judge: &Judge<'_>) -> Result<Document, Error> {
    let tree = Tree::parse(document).map_err(|reason| refused(FORMAT, reason))?;
    let root = tree.root().filter(|root| root.is(SWID, "SoftwareIdentity"));
    let root = root.ok_or_else(|| refused(FORMAT, "not a SWID tag"))?;
    let signed_by = xmldsig::signer(&tree, judge)?;
    // Only what stands directly within the root: nothing within the signature is signed.
    let one = |local: &str| {
        let mut found = tree.children(root).filter(|(_, e)| e.is(SWID, local));
        found.next().filter(|_| found.next().is_none())
    };
    let (_, meta) = one("Meta").ok_or_else(|| refused(FORMAT, "it does not have one Meta element"))?;
    let (payload, _) =
        one("Payload").ok_or_else(|| refused(FORMAT, "it does not have one Payload element"))?;
    let manufacturer = meta.attribute(RIM, "PlatformManufacturerStr");
    let manufacturer = manufacturer.ok_or_else(|| refused(FORMAT, "Meta has no PlatformManufacturerStr"))?;
    let edition = meta.attribute("", "edition").ok_or_else(|| refused(FORMAT, "Meta has no edition"))?;

    let version = match root.attribute("", "tagVersion") {
        None => None,
        Some(version) => {
            Some(version.parse().map_err(|_| refused(FORMAT, "tagVersion is not a whole number"))?)
        }
    };
    let mut read = Document { set: set_name(root, meta), version, signed_by, ..Document::default() };
    for (id, resource) in tree.elements().filter(|(_, e)| e.is(SWID, "Resource")) {
        if !tree.within(id, payload) || resource.attribute("", "type") != Some("Measurement") {
            continue;
        }
        let index = resource.attribute("", "index").unwrap_or_default();
        if !(1..=4).contains(&index.len()) || !index.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused(FORMAT, "a measurement's index is not a number"));
        }
        let values = hashes(resource)?;
        if !values.is_empty() {
            let name = format!("{manufacturer}.{edition}.measurement_{index}").replace([' ', '-'], "_");
            read.add(FORMAT, Entry { name, values, single: false })?;
        }
    }
    Ok(read)
}

/// The values of `Hash0`, `Hash1`, … in the order of their numbers.
fn hashes(resource: &Element) -> Result<Vec<Value>, Error> {
    let mut numbered: Vec<(u32, Value)> = Vec::new();
    for attribute in &resource.attributes {
        let Some((_, length)) = HASHES.iter().find(|(ns, _)| *ns == attribute.ns) else { continue };
        let Some(number) = attribute.local.strip_prefix("Hash").and_then(|n| n.parse().ok()) else {
            continue;
        };
        let hash = attribute.value.as_str();
        if hash.len() != *length || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(refused(FORMAT, "a hash is not hex of its algorithm's length"));
        }
        if hash.bytes().any(|b| b != b'0') {
            numbered.push((number, Value::String(hash.to_ascii_lowercase())));
        }
    }
    numbered.sort_by_key(|(number, _)| *number);
    Ok(numbered.into_iter().map(|(_, hash)| hash).collect())
}

/// The product's name with the version of its firmware, as manifests of several versions count side by side.
fn set_name(root: &Element, meta: &Element) -> Option<String> {
    let name = root.attribute("", "name")?;
    let set = match meta.attribute("", "colloquialVersion") {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    };
    Some(set).filter(|set| printable(set, 100))
}
