//! Signed attributes, by the names that both envelopes use for them.

use cocoon_evidence::x509::{Curve, Hash, PublicKey, Scheme};

pub(super) const SCHEME: &str = "io.cncf.notary.signingScheme";
pub(super) const SIGNING_TIME: &str = "io.cncf.notary.signingTime";
pub(super) const AUTHENTIC_TIME: &str = "io.cncf.notary.authenticSigningTime";
pub(super) const EXPIRY: &str = "io.cncf.notary.expiry";

/// How the signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
}

impl Algorithm {
    /// The one algorithm that goes with a key; `None` for sizes that are not allowed.
    pub(super) fn of(key: &PublicKey) -> Option<Self> {
        match key {
            PublicKey::Ec(Curve::P256, _) => Some(Algorithm::Es256),
            PublicKey::Ec(Curve::P384, _) => Some(Algorithm::Es384),
            PublicKey::Ec(Curve::P521, _) => Some(Algorithm::Es512),
            PublicKey::Rsa(_) => match key.rsa_components()?.0.len() {
                256 => Some(Algorithm::Ps256),
                384 => Some(Algorithm::Ps384),
                512 => Some(Algorithm::Ps512),
                _ => None,
            },
        }
    }

    pub(super) fn scheme(self) -> Scheme {
        match self {
            Algorithm::Ps256 => Scheme::RsaPss(Hash::Sha256),
            Algorithm::Ps384 => Scheme::RsaPss(Hash::Sha384),
            Algorithm::Ps512 => Scheme::RsaPss(Hash::Sha512),
            Algorithm::Es256 => Scheme::EcdsaFixed(Hash::Sha256),
            Algorithm::Es384 => Scheme::EcdsaFixed(Hash::Sha384),
            Algorithm::Es512 => Scheme::EcdsaFixed(Hash::Sha512),
        }
    }
}

/// Who vouches for the signing time.
pub(super) enum SigningScheme {
    /// Nobody: it is what the signer says.
    X509 { signing_time: u64 },
    /// An authority that is trusted to.
    SigningAuthority { authentic_time: u64 },
}

/// What the protected headers say.
pub(super) struct Headers {
    pub(super) scheme: SigningScheme,
    pub(super) expiry: Option<u64>,
}

impl Headers {
    /// Judges the headers as found, times in Unix seconds. `critical` must name the scheme, the expiry and the authentic
    /// time where they are given, and nothing else: other critical headers are not known here.
    pub(super) fn new(
        scheme: &str,
        signing_time: Option<u64>,
        authentic_time: Option<u64>,
        expiry: Option<u64>,
        critical: &[String],
    ) -> Result<Self, String> {
        let mut wanted = vec![SCHEME];
        wanted.extend(expiry.map(|_| EXPIRY));
        wanted.extend(authentic_time.map(|_| AUTHENTIC_TIME));
        if let Some(unknown) = critical.iter().find(|name| !wanted.contains(&name.as_str())) {
            let unknown: String = unknown.chars().take(80).collect();
            return Err(format!("has an unknown critical header {unknown:?}"));
        }
        let marked = wanted.iter().all(|name| critical.iter().any(|c| c == name));
        if !marked || critical.len() != wanted.len() {
            return Err("does not mark its scheme and expiry as critical, each once".to_owned());
        }
        let scheme = match (scheme, signing_time, authentic_time) {
            ("notary.x509", Some(signing_time), None) => SigningScheme::X509 { signing_time },
            ("notary.x509.signingAuthority", None, Some(authentic_time)) => {
                SigningScheme::SigningAuthority { authentic_time }
            }
            ("notary.x509" | "notary.x509.signingAuthority", ..) => {
                return Err("does not have the one signing time of its scheme".to_owned());
            }
            _ => return Err("is of an unknown signing scheme".to_owned()),
        };
        Ok(Headers { scheme, expiry })
    }
}
