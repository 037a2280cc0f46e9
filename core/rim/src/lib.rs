//! Reference integrity manifests: TCG's SWID tags (XML) with an enveloped XML signature, as NVIDIA publishes them.
//!
//! Contract: a pure library for hostile documents. It parses a plain subset of XML, checks that the signed digest is the
//! document's, and gives what was signed, by which algorithm, with which certificates. Whether that signature is good and
//! its signer trusted is for the caller to check, with X.509 of its own: [`Signature`] proves nothing by itself. Sizes,
//! depths and counts are bounded; nothing is fetched, nothing panics.

mod c14n;
mod manifest;
#[cfg(test)]
mod tests;
mod xml;
mod xmldsig;

pub use manifest::{Hash, Manifest, Measurement};
pub use xmldsig::{Algorithm, MAX_CERTIFICATES, Signature};

use xml::Tree;

/// Longest document in bytes (2 MiB); real ones have about 20 kB.
pub const MAX_DOCUMENT: usize = 2 * 1024 * 1024;

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not a manifest of the plain form.
    #[error("the manifest is malformed: {0}")]
    Malformed(&'static str),
    /// Its signature is of a form or algorithm that is not known here, so it is nobody's.
    #[error("the manifest's signature is not known: {0}")]
    UnknownSignature(&'static str),
    /// The signature is over another document: this one was altered.
    #[error("the document is not the one that was signed")]
    Altered,
}

/// A parsed document whose root is a SWID tag.
#[derive(Debug)]
pub struct Document(Tree);

impl Document {
    /// Parses a document of at most [`MAX_DOCUMENT`] bytes of UTF-8.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything outside the subset: document types, entities of one's own, CDATA, processing
    /// instructions, more than 20,000 nodes, another root element.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(Error::Malformed("larger than 2 MiB"));
        }
        let tree = Tree::parse(bytes).map_err(Error::Malformed)?;
        if tree.root().is_some_and(|root| root.is(manifest::SWID, "SoftwareIdentity")) {
            return Ok(Document(tree));
        }
        Err(Error::Malformed("not a SWID tag"))
    }

    /// The document's signature, with the digest of the document already compared; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::UnknownSignature`] or [`Error::Altered`].
    pub fn signature(&self) -> Result<Option<Signature>, Error> {
        xmldsig::signature(&self.0)
    }

    /// What the manifest says. Only signed parts are read.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn manifest(&self) -> Result<Manifest, Error> {
        manifest::read(&self.0)
    }
}
