//! XML signatures (W3C XML-DSig 1.1), the one shape that manifests have: a signature directly within the root element,
//! over the whole document without itself, by the first of its X.509 certificates.

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Error;
use crate::c14n::{Method, canonical};
use crate::xml::{Element, Id, Tree};

/// Most certificates of a signature.
pub const MAX_CERTIFICATES: usize = 6;

const DS: &str = "http://www.w3.org/2000/09/xmldsig#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const C14N: &str = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315";
const C14N_11: &str = "http://www.w3.org/2006/12/xml-c14n11";
const C14N_EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

/// How a signature was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with SHA-256; r and s in full length.
    EcdsaSha256,
    /// ECDSA with SHA-384; r and s in full length.
    EcdsaSha384,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaSha384,
}

/// A signature of a document whose digest fits. It is good only if `value` verifies over `signed` with the key of the
/// first certificate, and that certificate is one the caller trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The canonical form of what was signed.
    pub signed: Vec<u8>,
    /// The signature's bytes.
    pub value: Vec<u8>,
    /// DER, at most [`MAX_CERTIFICATES`]; the signer's is the first. May be empty; nothing about them is trusted.
    pub certificates: Vec<Vec<u8>>,
}

/// Reads the document's signature and compares the digest.
pub(crate) fn signature(tree: &Tree) -> Result<Option<Signature>, Error> {
    let mut signatures = tree.elements().filter(|(_, e)| e.is(DS, "Signature"));
    let Some((id, signature)) = signatures.next() else { return Ok(None) };
    if signatures.next().is_some() || signature.parent != Some(0) {
        return Err(unknown_form());
    }
    let [(info_id, info), (_, value), (_, key_info)] =
        parts(tree, signature, ["SignedInfo", "SignatureValue", "KeyInfo"])?;
    let [(_, method), (_, algorithm), (_, reference)] =
        parts(tree, info, ["CanonicalizationMethod", "SignatureMethod", "Reference"])?;

    check_reference(tree, id, reference)?;

    let signed = canonical(tree, info_id, form(tree, method)?, None).ok_or_else(unknown_form)?;
    let algorithm = match bare_algorithm(tree, algorithm)? {
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256" => Algorithm::EcdsaSha256,
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384" => Algorithm::EcdsaSha384,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256" => Algorithm::RsaSha256,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384" => Algorithm::RsaSha384,
        _ => {
            return Err(Error::UnknownSignature(
                "the algorithm is none of ECDSA and RSA with SHA-256 or SHA-384",
            ));
        }
    };
    let value = base64_lines(&tree.text(value)).ok_or_else(unknown_form)?;
    let certificates = certificates(tree, key_info)?;
    Ok(Some(Signature { algorithm, signed: signed.into_bytes(), value, certificates }))
}

/// Nothing can be said of such a signature, so it is nobody's.
fn unknown_form() -> Error {
    Error::UnknownSignature("its signature is not one enveloped signature of the plain form")
}

/// The one reference: to the whole document, transformed by leaving the signature out and making it canonical.
fn check_reference(tree: &Tree, signature: Id, reference: &Element) -> Result<(), Error> {
    if reference.attribute("", "URI") != Some("") {
        return Err(unknown_form());
    }
    let [(_, transforms), (_, method), (_, wanted)] =
        parts(tree, reference, ["Transforms", "DigestMethod", "DigestValue"])?;
    let steps: Vec<&Element> = tree.children(transforms).map(|(_, step)| step).collect();
    if steps.iter().any(|step| !step.is(DS, "Transform")) {
        return Err(unknown_form());
    }
    let method_of_form = match steps.as_slice() {
        [enveloped] if bare_algorithm(tree, enveloped)? == ENVELOPED => Method::Inclusive,
        [enveloped, step] if bare_algorithm(tree, enveloped)? == ENVELOPED => form(tree, step)?,
        _ => return Err(unknown_form()),
    };
    let algorithm = match bare_algorithm(tree, method)? {
        "http://www.w3.org/2001/04/xmlenc#sha256" => &SHA256,
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => &SHA384,
        "http://www.w3.org/2001/04/xmlenc#sha512" => &SHA512,
        _ => return Err(Error::UnknownSignature("the digest is none of SHA-256, SHA-384, SHA-512")),
    };
    let wanted = base64_lines(&tree.text(wanted)).ok_or_else(unknown_form)?;
    let document = canonical(tree, 0, method_of_form, Some(signature)).ok_or_else(unknown_form)?;
    if digest(algorithm, document.as_bytes()).as_ref() != wanted {
        return Err(Error::Altered);
    }
    Ok(())
}

/// Exactly these children, in this order, in the namespace of signatures.
fn parts<'a, const N: usize>(
    tree: &'a Tree,
    of: &'a Element,
    names: [&str; N],
) -> Result<[(Id, &'a Element); N], Error> {
    let children: Vec<(Id, &Element)> = tree.children(of).collect();
    let named = children.iter().zip(names).all(|((_, child), name)| child.is(DS, name));
    let exact: Result<[(Id, &Element); N], _> = children.try_into();
    exact.ok().filter(|_| named).ok_or_else(unknown_form)
}

/// The algorithm of an element without parameters.
fn bare_algorithm<'a>(tree: &Tree, of: &'a Element) -> Result<&'a str, Error> {
    match of.attribute("", "Algorithm") {
        Some(algorithm) if tree.children(of).next().is_none() => Ok(algorithm),
        _ => Err(unknown_form()),
    }
}

fn form(tree: &Tree, of: &Element) -> Result<Method, Error> {
    match bare_algorithm(tree, of)? {
        C14N | C14N_11 => Ok(Method::Inclusive),
        C14N_EXCLUSIVE => Ok(Method::Exclusive),
        _ => Err(unknown_form()),
    }
}

/// All certificates of KeyInfo, in their order.
fn certificates(tree: &Tree, key_info: &Element) -> Result<Vec<Vec<u8>>, Error> {
    let mut ders = Vec::new();
    for (_, data) in tree.children(key_info).filter(|(_, e)| e.is(DS, "X509Data")) {
        for (_, certificate) in tree.children(data).filter(|(_, e)| e.is(DS, "X509Certificate")) {
            if ders.len() >= MAX_CERTIFICATES {
                return Err(Error::UnknownSignature("its chain has more than 6 certificates"));
            }
            ders.push(base64_lines(&tree.text(certificate)).ok_or_else(unknown_form)?);
        }
    }
    Ok(ders)
}

/// Standard base64 that may be broken into lines.
fn base64_lines(text: &str) -> Option<Vec<u8>> {
    let joined: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(joined).ok()
}
