//! What a policy requires of an image.

use cocoon_image::Error;

use super::identity::SignedIdentity;
use crate::sigstore::Trust;
use crate::{Needs, notation, simple};

/// One requirement. Of a list all must be met; one good signature meets one requirement.
#[derive(Clone, Debug)]
pub enum Requirement {
    /// Met by every image.
    InsecureAcceptAnything,
    /// Met by none.
    Reject,
    /// A "simple signing" signature of an OpenPGP key.
    SignedBy(SignedBy),
    /// A Sigstore signature: of a key, or of an identity that Fulcio certified.
    SigstoreSigned(SigstoreSigned),
    /// A Notation signature.
    NotationSigned(NotationSigned),
}

/// OpenPGP keys, and the name that must be signed.
#[derive(Clone, Debug)]
pub struct SignedBy {
    /// Files of OpenPGP public keys, armored or binary. They are read when a decision needs them, as containers do:
    /// unusable ones make no signature good.
    pub keyrings: Vec<Vec<u8>>,
    /// Which name the signature must carry.
    pub identity: SignedIdentity,
}

/// Whom a Sigstore signature must come from, and the name that must be signed.
#[derive(Clone, Debug)]
pub struct SigstoreSigned {
    /// Keys, or an identity with the roots that prove it.
    pub trust: Trust,
    /// Which name the signature must carry.
    pub identity: SignedIdentity,
}

/// Roots and subjects of Notation's certificates.
#[derive(Clone, Debug)]
pub struct NotationSigned {
    /// PEM of trusted roots.
    pub roots: Vec<String>,
    /// `x509.subject: …`, or `*`.
    pub identities: Vec<String>,
}

impl NotationSigned {
    pub(super) fn trust(&self) -> Result<notation::Trust, Error> {
        notation::Trust::new(&self.roots, &self.identities)
    }
}

impl SignedBy {
    /// All files as one keyring: a key that is revoked in one is revoked.
    pub(super) fn keyring(&self) -> Result<simple::Keyring, Error> {
        simple::Keyring::parse_all(&self.keyrings)
    }
}

impl Requirement {
    /// A signature that cosign made with the key (PEM), and that names the image's repository. A bundle without a name is
    /// not enough: whoever keeps the registry could offer it for another repository's image.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn cosign_key(pem: &str) -> Result<Requirement, Error> {
        let trust = Trust::keys(&[pem.to_owned()])?;
        Ok(Requirement::SigstoreSigned(SigstoreSigned { trust, identity: SignedIdentity::MatchRepository }))
    }

    /// The type as a policy spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Requirement::InsecureAcceptAnything => "insecureAcceptAnything",
            Requirement::Reject => "reject",
            Requirement::SignedBy(_) => "signedBy",
            Requirement::SigstoreSigned(_) => "sigstoreSigned",
            Requirement::NotationSigned(_) => "notationSigned",
        }
    }
}

/// Which kinds of signature must be looked for to decide on these requirements. None where one of them rejects anyway.
pub fn needs(requirements: &[Requirement]) -> Needs {
    let mut needs = Needs::default();
    for requirement in requirements {
        match requirement {
            Requirement::InsecureAcceptAnything => {}
            Requirement::Reject => return Needs::default(),
            Requirement::SignedBy(_) => needs.simple = true,
            Requirement::SigstoreSigned(_) => needs.cosign = true,
            Requirement::NotationSigned(_) => needs.notation = true,
        }
    }
    needs
}
