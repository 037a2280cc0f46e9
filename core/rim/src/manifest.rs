//! The SWID tag's content: product, versions, and the measurements that its payload lists.

use crate::Error;
use crate::xml::{Element, Tree};

pub(crate) const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const RIM: &str =
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/";
/// Namespaces of `Hash<n>` attributes, and the length of the hash in hex digits.
const HASHES: [(&str, usize); 3] = [
    ("http://www.w3.org/2001/04/xmlenc#sha256", 64),
    ("http://www.w3.org/2001/04/xmlenc#sha384", 96),
    ("http://www.w3.org/2001/04/xmlenc#sha512", 128),
];

/// A manifest. Texts are as the document has them, of any content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// `name` of the tag.
    pub name: Option<String>,
    /// `tagVersion`.
    pub tag_version: Option<u64>,
    /// `colloquialVersion`: the version of the measured driver or firmware.
    pub colloquial_version: Option<String>,
    /// `product`, e.g. `GH100`.
    pub product: Option<String>,
    /// `edition`, e.g. `GPU`.
    pub edition: Option<String>,
    /// `PlatformManufacturerStr`.
    pub manufacturer: Option<String>,
    /// The payload's measurements in the document's order.
    pub measurements: Vec<Measurement>,
}

/// One measurement of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Its index, at most four digits.
    pub index: u16,
    /// `active`: whether it is to be compared. `None` where the document does not say it.
    pub active: Option<bool>,
    /// `alternatives`: how many values there are.
    pub alternatives: Option<u16>,
    /// `size` of the value in bytes.
    pub size: Option<u16>,
    /// The accepted values in the order of their numbers.
    pub hashes: Vec<Hash>,
}

/// One accepted value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    /// The number in its attribute's name.
    pub number: u16,
    /// Lower-case hex of its algorithm's length.
    pub hex: String,
}

impl Hash {
    /// Whether it is all zeros, which stands for "not measured".
    pub fn is_zero(&self) -> bool {
        self.hex.bytes().all(|b| b == b'0')
    }
}

/// Reads what stands directly within the root: nothing within the signature is signed.
pub(crate) fn read(tree: &Tree) -> Result<Manifest, Error> {
    let root = tree.root().ok_or(Error::Malformed("not a SWID tag"))?;
    let one = |local: &str| {
        let mut found = tree.children(root).filter(|(_, e)| e.is(SWID, local));
        found.next().filter(|_| found.next().is_none())
    };
    let (_, meta) = one("Meta").ok_or(Error::Malformed("it does not have one Meta element"))?;
    let (payload, _) = one("Payload").ok_or(Error::Malformed("it does not have one Payload element"))?;
    let tag_version = match root.attribute("", "tagVersion") {
        None => None,
        Some(version) => {
            Some(version.parse().map_err(|_| Error::Malformed("tagVersion is not a whole number"))?)
        }
    };
    let mut measurements = Vec::new();
    for (id, resource) in tree.elements().filter(|(_, e)| e.is(SWID, "Resource")) {
        if tree.within(id, payload) && resource.attribute("", "type") == Some("Measurement") {
            measurements.push(measurement(resource)?);
        }
    }
    let text = |element: &Element, ns: &str, local: &str| element.attribute(ns, local).map(str::to_owned);
    Ok(Manifest {
        name: text(root, "", "name"),
        tag_version,
        colloquial_version: text(meta, "", "colloquialVersion"),
        product: text(meta, "", "product"),
        edition: text(meta, "", "edition"),
        manufacturer: text(meta, RIM, "PlatformManufacturerStr"),
        measurements,
    })
}

fn measurement(resource: &Element) -> Result<Measurement, Error> {
    let index = number(resource.attribute("", "index").unwrap_or_default())
        .ok_or(Error::Malformed("a measurement's index is not a number"))?;
    let active = match resource.attribute("", "active") {
        None => None,
        Some(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Some(false),
        Some(_) => return Err(Error::Malformed("a measurement's `active` is neither true nor false")),
    };
    let optional = |local: &str| match resource.attribute("", local) {
        None => Ok(None),
        Some(text) => number(text).map(Some).ok_or(Error::Malformed("a measurement's size is not a number")),
    };
    Ok(Measurement {
        index,
        active,
        alternatives: optional("alternatives")?,
        size: optional("size")?,
        hashes: hashes(resource)?,
    })
}

/// The values of `Hash0`, `Hash1`, … in the order of their numbers.
fn hashes(resource: &Element) -> Result<Vec<Hash>, Error> {
    let mut hashes: Vec<Hash> = Vec::new();
    for attribute in &resource.attributes {
        let Some((_, length)) = HASHES.iter().find(|(ns, _)| *ns == attribute.ns) else { continue };
        let Some(number) = attribute.local.strip_prefix("Hash").and_then(number) else { continue };
        let hex = attribute.value.as_str();
        if hex.len() != *length || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::Malformed("a hash is not hex of its algorithm's length"));
        }
        hashes.push(Hash { number, hex: hex.to_ascii_lowercase() });
    }
    hashes.sort_by_key(|hash| hash.number);
    Ok(hashes)
}

/// A number of one to four digits.
fn number(text: &str) -> Option<u16> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
