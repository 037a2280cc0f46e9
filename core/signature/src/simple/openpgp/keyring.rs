//! Transferable public keys (RFC 9580, section 10.1): which key may sign, and until when.

use cocoon_image::Error;

use super::key::Key;
use super::packet::{self, Packet};
use super::signature::{self, Signature};
use super::{armor, invalid};

const MAX_BYTES: usize = 4 * 1024 * 1024;
const MAX_PACKETS: usize = 16_384;
/// Most signatures of its own that are checked for one name or key.
const MAX_SELF_SIGNATURES: usize = 64;

/// Public keys whose owners are trusted.
///
/// A keyring is what its owner wrote down: a revocation in it counts whether or not it can be verified. Certifications by
/// other keys count for nothing.
pub struct Keyring {
    certificates: Vec<Certificate>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.fingerprints()).finish()
    }
}

/// A primary key with what it says of itself, verified.
struct Certificate {
    primary: Key,
    revoked: bool,
    direct: Vec<Signature>,
    /// Self-signatures of each name that is not revoked.
    names: Vec<Signature>,
    subkeys: Vec<Subkey>,
    /// Why a self-signature was not taken, for the error.
    refused: Option<String>,
}

struct Subkey {
    key: Key,
    revoked: bool,
    /// Verified both ways.
    bindings: Vec<Signature>,
}

/// What the signature packets that follow are over.
enum Over {
    Primary,
    Name {
        hashed: Vec<u8>,
        from: usize,
        revoked: bool,
    },
    Subkey,
    /// Something that is not read.
    Nothing,
}

impl Keyring {
    /// Reads one or more transferable public keys, binary or armored, at most 4 MiB. Keys that cannot verify a signature
    /// (of another version or algorithm, too short) are passed over.
    ///
    /// # Errors
    /// [`Error::Key`] where it is malformed, holds a secret key, or no key of it can verify.
    pub fn parse(bytes: &[u8]) -> Result<Keyring, Error> {
        let fail = |why: String| Error::Key(format!("OpenPGP keyring: {why}"));
        if bytes.len() > MAX_BYTES {
            return Err(fail(format!("longer than {MAX_BYTES} bytes")));
        }
        let decoded = armor::decode(bytes, "PUBLIC KEY BLOCK").transpose().map_err(fail)?;
        let mut rest = decoded.as_deref().unwrap_or(bytes);
        if rest.get(8..12) == Some(b"KBXf") {
            return Err(fail("it is GnuPG's keybox; give what `gpg --export` writes".to_owned()));
        }
        let mut reader = Reader { certificates: Vec::new(), over: Over::Nothing };
        for _ in 0..MAX_PACKETS {
            if rest.is_empty() {
                break;
            }
            let (packet, after) = packet::next(rest).ok_or_else(|| fail("it is malformed".to_owned()))?;
            reader.take(&packet).map_err(fail)?;
            rest = after;
        }
        if !rest.is_empty() {
            return Err(fail("it has too many packets".to_owned()));
        }
        let certificates = reader.certificates;
        let usable = |c: &Certificate| c.primary.can_verify() || c.subkeys.iter().any(|s| s.key.can_verify());
        if !certificates.iter().any(usable) {
            return Err(fail(
                "no key in it is RSA of 2048 bits or more, Ed25519, or ECDSA with P-256, P-384 or P-521"
                    .to_owned(),
            ));
        }
        Ok(Keyring { certificates })
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

/// Gathers packets to certificates.
struct Reader {
    certificates: Vec<Certificate>,
    over: Over,
}

impl Reader {
    fn take(&mut self, packet: &Packet<'_>) -> Result<(), String> {
        match packet.tag {
            packet::PUBLIC_KEY => {
                self.over = Over::Nothing;
                if let Some(primary) = Key::parse(&packet.body) {
                    self.certificates.push(Certificate {
                        primary,
                        revoked: false,
                        direct: Vec::new(),
                        names: Vec::new(),
                        subkeys: Vec::new(),
                        refused: None,
                    });
                    self.over = Over::Primary;
                } else {
                    // What follows belongs to a key that is not read, and must not be taken for the previous one's.
                    self.certificates.push(Certificate::unreadable());
                }
            }
            packet::USER_ID | packet::USER_ATTRIBUTE => {
                let first = if packet.tag == packet::USER_ID { 0xb4 } else { 0xd1 };
                let length = u32::try_from(packet.body.len()).unwrap_or(u32::MAX).to_be_bytes();
                let hashed = [&[first][..], &length, &packet.body].concat();
                let from = self.certificates.last().map_or(0, |c| c.names.len());
                self.over = Over::Name { hashed, from, revoked: false };
            }
            packet::PUBLIC_SUBKEY => {
                self.over = Over::Nothing;
                if let (Some(certificate), Some(key)) =
                    (self.certificates.last_mut(), Key::parse(&packet.body))
                {
                    certificate.subkeys.push(Subkey { key, revoked: false, bindings: Vec::new() });
                    self.over = Over::Subkey;
                }
            }
            packet::SIGNATURE => {
                if let Some(certificate) = self.certificates.last_mut() {
                    certificate.signature(&mut self.over, &packet.body);
                }
            }
            packet::TRUST | packet::MARKER => {}
            packet::SECRET_KEY | packet::SECRET_SUBKEY => return Err("it holds a secret key".to_owned()),
            other => return Err(format!("a packet of kind {other} does not belong into it")),
        }
        if self.certificates.is_empty() {
            return Err("it does not begin with a public key".to_owned());
        }
        Ok(())
    }
}

impl Certificate {
    fn unreadable() -> Self {
        let primary =
            Key { algorithm: 0, created: 0, fingerprint: [0; 20], hashed: Vec::new(), material: None };
        Certificate {
            primary,
            revoked: true,
            direct: Vec::new(),
            names: Vec::new(),
            subkeys: Vec::new(),
            refused: None,
        }
    }

    /// Takes a signature packet in, where it is the key's own and good; a revocation in any case.
    fn signature(&mut self, over: &mut Over, body: &[u8]) {
        let kind = signature::kind_of(body);
        match (kind, &mut *over) {
            (Some(signature::KEY_REVOCATION), _) => self.revoked = true,
            (Some(signature::SUBKEY_REVOCATION), _) => {
                if let Some(subkey) = self.subkeys.last_mut() {
                    subkey.revoked = true;
                }
            }
            (Some(signature::CERTIFICATION_REVOCATION), Over::Name { from, revoked, .. }) => {
                *revoked = true;
                self.names.truncate(*from);
            }
            (Some(_), Over::Primary | Over::Name { revoked: false, .. } | Over::Subkey) => {
                match Signature::parse(body) {
                    Ok(signature) if signature.names(&self.primary) => self.statement(over, signature),
                    Ok(_) => {}
                    Err(why) => self.refused = Some(why),
                }
            }
            _ => {}
        }
    }

    fn statement(&mut self, over: &Over, signature: Signature) {
        let primary = &self.primary;
        let list = match over {
            Over::Primary if signature.kind == signature::DIRECT_KEY => {
                signature.is_by(primary, &[&primary.hashed]).then_some(&mut self.direct)
            }
            Over::Name { hashed, .. } if signature::CERTIFICATIONS.contains(&signature.kind) => {
                signature.is_by(primary, &[&primary.hashed, hashed]).then_some(&mut self.names)
            }
            Over::Subkey if signature.kind == signature::SUBKEY_BINDING => {
                let subkey = self.subkeys.last_mut();
                subkey.filter(|s| binds(primary, &s.key, &signature)).map(|s| &mut s.bindings)
            }
            _ => None,
        };
        if let Some(list) = list.filter(|list| list.len() < MAX_SELF_SIGNATURES) {
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
        let named = newest(&self.names, now_unix);
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
fn newest(statements: &[Signature], now_unix: u64) -> Option<&Signature> {
    statements.iter().filter(|s| s.in_force(now_unix).is_ok()).max_by_key(|s| s.created)
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
