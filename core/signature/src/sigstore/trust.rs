//! Whom signatures are taken from, and by whose keys that is proved.

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_evidence::x509::Certificate;
use cocoon_image::Error;

use crate::VerifyingKey;

/// Most keys, authorities or logs of one kind.
const MAX_ROOTS: usize = 64;
/// Longest name of an issuer or subject.
const MAX_NAME: usize = 2048;

/// When something was trustworthy, Unix seconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First second.
    pub start: u64,
    /// Last second; `None` while it still is.
    pub end: Option<u64>,
}

impl Window {
    /// Always.
    pub const ALWAYS: Window = Window { start: 0, end: None };

    /// Whether the time lies within.
    pub fn contains(&self, at_unix: u64) -> bool {
        self.start <= at_unix && self.end.is_none_or(|end| at_unix <= end)
    }
}

/// A transparency log: Rekor, or a certificate log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its key: ECDSA, Ed25519 or RSA.
    pub key: VerifyingKey,
    /// SHA-256 of the key's SubjectPublicKeyInfo: the log id of RFC 6962, and of Rekor 1.
    pub id: [u8; 32],
    /// When it was in use.
    pub window: Window,
}

impl Log {
    pub(super) fn new(key: VerifyingKey, window: Window) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(digest(&SHA256, key.der()).as_ref());
        Log { key, id, window }
    }
}

/// A certificate authority: its roots and what lies between.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Certificates that name themselves; where there are none, all of them.
    pub roots: Vec<Certificate>,
    /// The others.
    pub intermediates: Vec<Certificate>,
    /// When it was in use.
    pub window: Window,
}

impl Authority {
    pub(super) fn new(certificates: Vec<Certificate>, window: Window) -> Result<Self, Error> {
        if certificates.is_empty() {
            return Err(Error::Key("an authority without certificates".to_owned()));
        }
        let (roots, intermediates): (Vec<_>, Vec<_>) =
            certificates.into_iter().partition(Certificate::names_itself);
        if roots.is_empty() {
            return Ok(Authority { roots: intermediates, intermediates: Vec::new(), window });
        }
        Ok(Authority { roots, intermediates, window })
    }
}

/// The keys and certificates of a Sigstore instance.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// Fulcio and its like: who certifies signers.
    pub authorities: Vec<Authority>,
    /// Rekor. Where there are any, a signature must be in one of them.
    pub logs: Vec<Log>,
    /// Certificate logs. Where there are any, a signer's certificate must be in one of them.
    pub certificate_logs: Vec<Log>,
    /// Time-stamping authorities.
    pub timestamp_authorities: Vec<Authority>,
}

impl Roots {
    /// Roots from PEM: certificates of authorities, keys of Rekor, keys of certificate logs, chains of time-stamping
    /// authorities. All hold for all time.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn new(
        authorities: &[String],
        rekor: &[String],
        certificate_logs: &[String],
        timestamping: &[String],
    ) -> Result<Roots, Error> {
        Ok(Roots {
            authorities: authorities_of(authorities)?,
            logs: logs_of(rekor)?,
            certificate_logs: logs_of(certificate_logs)?,
            timestamp_authorities: authorities_of(timestamping)?,
        })
    }

    /// Roots from a trusted root (JSON, `application/vnd.dev.sigstore.trustedroot+json;version=0.1`, at most 1 MiB).
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn from_trusted_root(json: &[u8]) -> Result<Roots, Error> {
        super::trusted_root::parse(json)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let lengths = [
            self.authorities.len(),
            self.logs.len(),
            self.certificate_logs.len(),
            self.timestamp_authorities.len(),
        ];
        if lengths.iter().any(|n| *n > MAX_ROOTS) {
            return Err(Error::Key(format!("more than {MAX_ROOTS} authorities or logs")));
        }
        Ok(())
    }
}

fn logs_of(pems: &[String]) -> Result<Vec<Log>, Error> {
    pems.iter().map(|pem| Ok(Log::new(VerifyingKey::from_pem(pem)?, Window::ALWAYS))).collect()
}

fn authorities_of(pems: &[String]) -> Result<Vec<Authority>, Error> {
    let one = |pem: &String| {
        let chain = Certificate::parse_chain(pem.as_bytes()).map_err(|e| Error::Key(e.to_string()))?;
        Authority::new(chain, Window::ALWAYS)
    };
    pems.iter().map(one).collect()
}

/// Whom a certificate must name: compared in full, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The OIDC issuer that Fulcio believed.
    pub issuer: String,
    /// The subject in the certificate's alternative name.
    pub subject: Name,
}

/// A subject's alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// An e-mail address.
    Email(String),
    /// A URI: of a workflow, or a SPIFFE id.
    Uri(String),
}

impl Identity {
    /// A person or service with an e-mail address.
    ///
    /// # Errors
    /// [`Error::Key`] for empty or overlong text.
    pub fn email(issuer: &str, email: &str) -> Result<Self, Error> {
        Identity::new(issuer, Name::Email(email.to_owned()))
    }

    /// A workflow or workload with a URI.
    ///
    /// # Errors
    /// [`Error::Key`] for empty or overlong text.
    pub fn uri(issuer: &str, uri: &str) -> Result<Self, Error> {
        Identity::new(issuer, Name::Uri(uri.to_owned()))
    }

    fn new(issuer: &str, subject: Name) -> Result<Self, Error> {
        let (Name::Email(text) | Name::Uri(text)) = &subject;
        if [issuer, text].iter().any(|t| t.is_empty() || t.len() > MAX_NAME) {
            return Err(Error::Key("issuer and subject must be given, at most 2048 bytes each".to_owned()));
        }
        Ok(Identity { issuer: issuer.to_owned(), subject })
    }
}

/// Who may sign.
#[derive(Clone, Debug)]
pub enum Signer {
    /// The holder of any of these keys.
    Keys(Vec<VerifyingKey>),
    /// Who was certified under this identity.
    Identity(Identity),
}

/// Whom signatures are taken from, and by whose keys that is proved.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Who may sign.
    pub signer: Signer,
    /// What proves it.
    pub roots: Roots,
}

impl Trust {
    /// Signatures of any of these keys (PEM).
    ///
    /// # Errors
    /// [`Error::Key`] where there is none, there are too many or one is unusable.
    pub fn keys(pems: &[String]) -> Result<Trust, Error> {
        if pems.is_empty() || pems.len() > MAX_ROOTS {
            return Err(Error::Key(format!("1 to {MAX_ROOTS} keys are needed")));
        }
        let keys: Result<Vec<_>, _> = pems.iter().map(|pem| VerifyingKey::from_pem(pem)).collect();
        Ok(Trust { signer: Signer::Keys(keys?), roots: Roots::default() })
    }

    /// The same signers, whose signatures must also be in one of these Rekor logs (PEM keys) where any are given.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn with_logs(mut self, rekor: &[String]) -> Result<Trust, Error> {
        self.roots.logs = logs_of(rekor)?;
        self.roots.check()?;
        Ok(self)
    }

    /// Signatures of short-lived keys that an authority certified for this identity.
    ///
    /// # Errors
    /// [`Error::Key`] where the roots lack an authority, or both a log and a time-stamping authority, one of which must
    /// prove when a certificate was used.
    pub fn keyless(roots: Roots, identity: Identity) -> Result<Trust, Error> {
        roots.check()?;
        if roots.authorities.is_empty() {
            return Err(Error::Key("no certificate authority is given".to_owned()));
        }
        if roots.logs.is_empty() && roots.timestamp_authorities.is_empty() {
            return Err(Error::Key(
                "neither a log nor a time-stamping authority is given to prove the time of a signature"
                    .to_owned(),
            ));
        }
        Ok(Trust { signer: Signer::Identity(identity), roots })
    }
}
