//! What a signature is over, and what was found beside an image: the words that finders of signatures and policies
//! share.

use cocoon_image::{Digest, Reference};

/// The image that a decision is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The name as its user wrote it: before mirrors, before any cache.
    pub reference: &'a Reference,
    /// The digests that stand for it: the pinned one, and where that is an index's also the chosen manifest's.
    pub digests: &'a [Digest],
}

/// Which kinds of signature a decision needs to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Cosign's: under the tag `sha256-<hex>.sig`, and bundles among the image's referrers.
    pub cosign: bool,
    /// Detached OpenPGP signatures of "simple signing".
    pub simple: bool,
    /// Notation's: among the image's referrers.
    pub notation: bool,
}

/// A signature as cosign lists it under a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CosignSignature {
    /// The signed payload: simple signing JSON.
    pub payload: Vec<u8>,
    /// `dev.cosignproject.cosign/signature`: standard base64.
    pub signature: String,
    /// `dev.sigstore.cosign/certificate`: PEM.
    pub certificate: Option<String>,
    /// `dev.sigstore.cosign/chain`: PEM.
    pub chain: Option<String>,
    /// `dev.sigstore.cosign/bundle`: Rekor's promise, JSON.
    pub bundle: Option<String>,
    /// `dev.sigstore.cosign/rfc3161timestamp`: JSON.
    pub timestamp: Option<String>,
}

/// A Notation signature envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotationEnvelope {
    /// `application/jose+json` or `application/cose`.
    pub media_type: String,
    /// The envelope.
    pub bytes: Vec<u8>,
}

/// What was found beside an image. Nothing in it is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Cosign's signatures under the tag.
    pub cosign: Vec<CosignSignature>,
    /// Sigstore bundles (JSON) among the referrers.
    pub bundles: Vec<Vec<u8>>,
    /// OpenPGP signed messages from look-aside places or the registry.
    pub simple: Vec<Vec<u8>>,
    /// Notation's envelopes among the referrers.
    pub notation: Vec<NotationEnvelope>,
}
