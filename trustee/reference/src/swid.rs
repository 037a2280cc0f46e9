//! TCG reference integrity manifests as SWID tags (XML), as NVIDIA publishes them for its devices.
//!
//! Each measurement becomes `<manufacturer>.<edition>.measurement_<index>`, blanks and `-` as `_`, with the list of its
//! hashes in hex. Hashes of all zeros stand for "not measured" and are left out, as are measurements with no other.

use cocoon_rim::{Algorithm, Manifest, Signature};
use serde_json::Value;

use crate::Error;
use crate::certificate::{parse_chain, trusted_signer};
use crate::document::{Document, Entry, Format, Judge, refused};
use crate::trust::{Form, Scheme};
use crate::value::printable;

const FORMAT: Format = Format::Swid;

pub(crate) fn read(document: &[u8], judge: &Judge<'_>) -> Result<Document, Error> {
    let rim = cocoon_rim::Document::parse(document)?;
    let signed_by = match rim.signature() {
        Ok(None) => judge.unsigned(FORMAT)?,
        Ok(Some(signature)) => judge.signer(signer(&signature, judge))?,
        Err(error) => judge.signer(Err(error.into()))?,
    };
    let manifest = rim.manifest()?;
    let manufacturer = manifest.manufacturer.as_deref();
    let manufacturer = manufacturer.ok_or_else(|| refused(FORMAT, "Meta has no PlatformManufacturerStr"))?;
    let edition = manifest.edition.as_deref().ok_or_else(|| refused(FORMAT, "Meta has no edition"))?;

    let version = manifest.tag_version;
    let mut read = Document { set: set_name(&manifest), version, signed_by, ..Document::default() };
    for measurement in &manifest.measurements {
        let known = measurement.hashes.iter().filter(|hash| !hash.is_zero());
        let values: Vec<Value> = known.map(|hash| Value::String(hash.hex.clone())).collect();
        if !values.is_empty() {
            let index = measurement.index;
            let name = format!("{manufacturer}.{edition}.measurement_{index}").replace([' ', '-'], "_");
            read.add(FORMAT, Entry { name, values, single: false })?;
        }
    }
    Ok(read)
}

/// The signer of a manifest, where the signature is good and its certificate is trusted.
fn signer(signature: &Signature, judge: &Judge<'_>) -> Result<String, Error> {
    let scheme = match signature.algorithm {
        Algorithm::EcdsaSha256 => Scheme::EcdsaSha256(Form::Fixed),
        Algorithm::EcdsaSha384 => Scheme::EcdsaSha384(Form::Fixed),
        Algorithm::RsaSha256 => Scheme::RsaSha256,
        Algorithm::RsaSha384 => Scheme::RsaSha384,
    };
    let chain = parse_chain(signature.certificates.iter().map(Vec::as_slice))?;
    let key = chain.first().ok_or(Error::Untrusted("it has no certificate"))?.key();
    if !key.verifies(scheme, &signature.signed, &signature.value) {
        return Err(Error::Signature("it does not fit the document and the signer's key"));
    }
    trusted_signer(&chain, judge.trust, judge.now_unix)
}

/// The product's name with the version of its firmware, as manifests of several versions count side by side.
fn set_name(manifest: &Manifest) -> Option<String> {
    let name = manifest.name.as_deref()?;
    let set = match &manifest.colloquial_version {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    };
    Some(set).filter(|set| printable(set, 100))
}
