//! Transferable public keys (RFC 9580, section 10.1): which key may sign, and until when.

use cocoon_image::Error;

use super::invalid;
use super::key::Key;
use super::reader::Reader;
use super::signature::{self, Signature};

/// Public keys whose owners are trusted.
///
/// A keyring is what its owner wrote down: a revocation in it counts whether or not it can be verified, and for every copy
/// of its key. Certifications by other keys count for nothing.
pub struct Keyring {
    certificates: Vec<Certificate>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.fingerprints()).finish()
    }
}

/// A primary key with what it says of itself, verified.
pub(super) struct Certificate {
    pub(super) primary: Key,
    pub(super) revoked: bool,
    direct: Vec<Signature>,
    names: Vec<Name>,
    subkeys: Vec<Subkey>,
    /// Why a self-signature was not taken, for the error.
    refused: Option<String>,
}

/// A user id or attribute.
struct Name {
    /// As signatures over it hash it.
    hashed: Vec<u8>,
    revoked: bool,
    statements: Vec<Signature>,
}

struct Subkey {
    key: Key,
    revoked: bool,
    /// Verified both ways.
    bindings: Vec<Signature>,
}

/// What the signature packets that follow are over; names and subkeys by their place in the certificate.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Primary,
    Name(usize),
    Subkey(usize),
    /// Something that is not read.
    Nothing,
}

impl Keyring {
    /// Reads one or more transferable public keys, binary or armored, at most 4 MiB. Keys that cannot verify a signature
    /// (of another version or algorithm, too short) are passed over.
    ///
    /// # Errors
    /// See [`Keyring::parse_all`].
    pub fn parse(bytes: &[u8]) -> Result<Keyring, Error> {
        Keyring::parse_all(&[bytes])
    }

    /// Reads several files as one keyring. Copies of a primary key, in one file or in several, are one key: what any of them
    /// says of it holds. A file may also hold nothing but revocations, as `gpg --gen-revoke` writes them.
    ///
    /// # Errors
    /// [`Error::Key`] where one is malformed, holds a secret key, or holds keys none of which can verify; where a revocation
    /// is of no key that is there, so that it is unknown what the owner wanted revoked.
    pub fn parse_all<B: AsRef<[u8]>>(files: &[B]) -> Result<Keyring, Error> {
        let fail = |why: String| Error::Key(format!("OpenPGP keyring: {why}"));
        let mut reader = Reader::default();
        for file in files {
            reader.file(file.as_ref()).map_err(fail)?;
        }
        Ok(Keyring { certificates: reader.finish().map_err(fail)? })
    }

    /// Fingerprints of the primary keys, upper-case hex.
    pub fn fingerprints(&self) -> Vec<String> {
        self.certificates.iter().map(|c| hex::encode_upper(c.primary.fingerprint)).collect()
    }

    /// The primary fingerprint of the key that made the signature over `content` and may sign at `now_unix`.
    pub(super) fn signer(&self, signed: &Signature, content: &[u8], now_unix: u64) -> Result<String, Error> {
        signed.in_force(now_unix).map_err(|why| invalid(format!("its signature {why}")))?;
        let mut problem = None;
        for certificate in &self.certificates {
            let keys = std::iter::once((&certificate.primary, None));
            let keys = keys.chain(certificate.subkeys.iter().map(|s| (&s.key, Some(s))));
            for (key, subkey) in keys.filter(|(key, _)| signed.names(key)) {
                if !signed.is_by(key, &[content]) {
                    problem = Some("its signature is not the key's that it names".to_owned());
                    continue;
                }
                let allowed = certificate.allows(key, subkey, signed, now_unix);
                let primary = hex::encode_upper(certificate.primary.fingerprint);
                match allowed {
                    Ok(()) => return Ok(primary),
                    Err(why) => problem = Some(format!("key {primary} {why}")),
                }
            }
        }
        Err(invalid(problem.unwrap_or_else(|| "no key of the keyring signed it".to_owned())))
    }
}

impl Certificate {
    pub(super) fn new(primary: Key) -> Self {
        Certificate {
            primary,
            revoked: false,
            direct: Vec::new(),
            names: Vec::new(),
            subkeys: Vec::new(),
            refused: None,
        }
    }

    /// Whether any of its keys is of an algorithm and size that verify.
    pub(super) fn is_usable(&self) -> bool {
        self.primary.can_verify() || self.subkeys.iter().any(|s| s.key.can_verify())
    }

    /// Takes in a name, as signatures hash it, that may be there already.
    pub(super) fn name(&mut self, hashed: Vec<u8>) -> Over {
        let known = self.names.iter().position(|n| n.hashed == hashed);
        Over::Name(known.unwrap_or_else(|| {
            self.names.push(Name { hashed, revoked: false, statements: Vec::new() });
            self.names.len() - 1
        }))
    }

    /// Takes in a subkey that may be there already.
    pub(super) fn subkey(&mut self, key: Key) -> Over {
        let known = self.subkeys.iter().position(|s| s.key.hashed == key.hashed);
        Over::Subkey(known.unwrap_or_else(|| {
            self.subkeys.push(Subkey { key, revoked: false, bindings: Vec::new() });
            self.subkeys.len() - 1
        }))
    }

    /// Takes a signature packet in, where it is the key's own and good; a revocation in any case. Revocations of the primary
    /// key are not for here, for they may be another's.
    ///
    /// # Errors
    /// A revocation of a subkey that is not there.
    pub(super) fn signature(&mut self, over: Over, body: &[u8]) -> Result<(), String> {
        match (signature::kind_of(body), over) {
            (Some(signature::SUBKEY_REVOCATION), Over::Subkey(at)) => {
                if let Some(subkey) = self.subkeys.get_mut(at) {
                    subkey.revoked = true;
                }
            }
            // A subkey that is not read; or, to be safe, any.
            (Some(signature::SUBKEY_REVOCATION), Over::Nothing) => {
                self.subkeys.iter_mut().for_each(|s| s.revoked = true);
            }
            (Some(signature::SUBKEY_REVOCATION), _) => {
                return Err("a revocation of a subkey does not follow it".to_owned());
            }
            (Some(signature::CERTIFICATION_REVOCATION), Over::Name(at)) => {
                if let Some(name) = self.names.get_mut(at) {
                    name.revoked = true;
                }
            }
            (Some(_), Over::Primary | Over::Name(_) | Over::Subkey(_)) => match Signature::parse(body) {
                Ok(signature) if signature.names(&self.primary) => self.statement(over, signature),
                Ok(_) => {}
                Err(why) => self.refused = Some(why),
            },
            _ => {}
        }
        Ok(())
    }

    fn statement(&mut self, over: Over, signature: Signature) {
        let primary = &self.primary;
        let list = match over {
            Over::Primary if signature.kind == signature::DIRECT_KEY => {
                signature.is_by(primary, &[&primary.hashed]).then_some(&mut self.direct)
            }
            Over::Name(at) if signature::CERTIFICATIONS.contains(&signature.kind) => {
                let name = self.names.get_mut(at);
                let own = name.filter(|n| signature.is_by(primary, &[&primary.hashed, &n.hashed]));
                own.map(|n| &mut n.statements)
            }
            Over::Subkey(at) if signature.kind == signature::SUBKEY_BINDING => {
                let subkey = self.subkeys.get_mut(at);
                subkey.filter(|s| binds(primary, &s.key, &signature)).map(|s| &mut s.bindings)
            }
            _ => None,
        };
        if let Some(list) = list {
            list.push(signature);
        }
    }

    /// Whether the key, the primary one or the subkey, may have made the signature.
    fn allows(
        &self,
        key: &Key,
        subkey: Option<&Subkey>,
        signed: &Signature,
        now_unix: u64,
    ) -> Result<(), String> {
        if self.revoked || subkey.is_some_and(|s| s.revoked) {
            return Err("is revoked".to_owned());
        }
        if signed.created < key.created {
            return Err("is younger than its signature".to_owned());
        }
        let direct = newest(&self.direct, now_unix);
        let named = newest(self.names.iter().filter(|n| !n.revoked).flat_map(|n| &n.statements), now_unix);
        let statements: Vec<&Signature> = direct.into_iter().chain(named).collect();
        if statements.is_empty() {
            let why = self.refused.as_deref().map(|why| format!(" (it has a signature {why})"));
            return Err(format!("has no self-signature that holds{}", why.unwrap_or_default()));
        }
        let over = |s: &Signature, key: &Key| s.key_end(key).is_some_and(|end| end <= now_unix);
        if statements.iter().any(|s| over(s, &self.primary)) {
            return Err("has expired".to_owned());
        }
        let may_sign = match subkey {
            None => {
                let spoken: Vec<_> = statements.iter().filter(|s| s.has_flags()).collect();
                !spoken.is_empty() && spoken.iter().all(|s| s.may_sign())
            }
            Some(subkey) => {
                let binding =
                    newest(&subkey.bindings, now_unix).ok_or("has no binding to its subkey that holds")?;
                if over(binding, &subkey.key) {
                    return Err("signed with a subkey that has expired".to_owned());
                }
                binding.may_sign() && returned(&self.primary, &subkey.key, binding, now_unix)
            }
        };
        may_sign.then_some(()).ok_or_else(|| "signed with a key that is not for signing".to_owned())
    }
}

/// The newest statement that is in force; of two as old, the later one.
fn newest<'a>(statements: impl IntoIterator<Item = &'a Signature>, now_unix: u64) -> Option<&'a Signature> {
    statements.into_iter().filter(|s| s.in_force(now_unix).is_ok()).max_by_key(|s| s.created)
}

/// Whether the primary key says that the subkey is its own.
fn binds(primary: &Key, subkey: &Key, binding: &Signature) -> bool {
    binding.is_by(primary, &[&primary.hashed, &subkey.hashed])
}

/// Whether the subkey says, inside the binding, that it belongs to the primary key: without it anybody could adopt a
/// stranger's key as his own.
fn returned(primary: &Key, subkey: &Key, binding: &Signature, now_unix: u64) -> bool {
    binding.embedded.iter().filter_map(|body| Signature::parse(body).ok()).any(|back| {
        back.kind == signature::PRIMARY_BINDING
            && back.in_force(now_unix).is_ok()
            && back.is_by(subkey, &[&primary.hashed, &subkey.hashed])
    })
}
