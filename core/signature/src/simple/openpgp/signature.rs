//! Signature packets of version 4 (RFC 9580, section 5.2).

use cocoon_evidence::x509::Hash;

use super::Fields;
use super::key::{Key, digest_of};

/// Signature types.
pub(super) const BINARY: u8 = 0x00;
pub(super) const CERTIFICATIONS: std::ops::RangeInclusive<u8> = 0x10..=0x13;
pub(super) const SUBKEY_BINDING: u8 = 0x18;
pub(super) const PRIMARY_BINDING: u8 = 0x19;
pub(super) const DIRECT_KEY: u8 = 0x1f;
pub(super) const KEY_REVOCATION: u8 = 0x20;
pub(super) const SUBKEY_REVOCATION: u8 = 0x28;
pub(super) const CERTIFICATION_REVOCATION: u8 = 0x30;

const SIGN_FLAG: u8 = 0x02;
/// How far ahead of our clock a signer's may be, in seconds.
const SKEW: u64 = 300;

/// A parsed signature. What its unhashed part says is a hint at most.
pub(super) struct Signature {
    pub(super) kind: u8,
    pub(super) algorithm: u8,
    pub(super) hash_id: u8,
    pub(super) hash: Hash,
    pub(super) created: u64,
    /// Seconds after its creation at which it ends.
    lifetime: Option<u64>,
    /// Seconds after the *key's* creation at which the key ends.
    pub(super) key_lifetime: Option<u64>,
    flags: Option<u8>,
    /// Issuers named: 8 bytes (key id) or 20 (fingerprint).
    issuers: Vec<Vec<u8>>,
    /// Signatures inside: where a subkey says that it belongs to its primary key.
    pub(super) embedded: Vec<Vec<u8>>,
    /// Version to the end of the hashed subpackets.
    hashed: Vec<u8>,
    left: [u8; 2],
    value: Vec<u8>,
}

/// The type of a signature packet of any version; `None` where there is none.
pub(super) fn kind_of(body: &[u8]) -> Option<u8> {
    let mut fields = Fields(body);
    match fields.byte()? {
        // Version 3 has a length before it.
        2 | 3 => fields.take(2)?.get(1).copied(),
        _ => fields.byte(),
    }
}

/// The makers that a signature packet names, by key id (8 bytes) or fingerprint (20), of version 3 or 4 and with whatever
/// hash: for revocations, which count unverified.
pub(super) fn issuers_of(body: &[u8]) -> Vec<Vec<u8>> {
    issuers(body).unwrap_or_default()
}

fn issuers(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut fields = Fields(body);
    match fields.byte()? {
        2 | 3 => {
            // Length, type and time go before the key id.
            fields.take(6)?;
            Some(vec![fields.take(8)?.to_vec()])
        }
        4 => {
            fields.take(3)?;
            let mut found = Vec::new();
            for _ in 0..2 {
                let length = fields.short()?;
                let mut area = Fields(fields.take(length)?);
                while !area.0.is_empty() {
                    match subpacket(&mut area)? {
                        [16 | 0x90, id @ ..] if id.len() == 8 => found.push(id.to_vec()),
                        [33 | 0xa1, 4, print @ ..] if print.len() == 20 => found.push(print.to_vec()),
                        _ => {}
                    }
                }
            }
            Some(found)
        }
        _ => None,
    }
}

/// The next subpacket, its type first.
fn subpacket<'a>(area: &mut Fields<'a>) -> Option<&'a [u8]> {
    let length = match area.byte()? {
        n @ 0..=191 => usize::from(n),
        255 => area.word().and_then(|n| usize::try_from(n).ok())?,
        n => ((usize::from(n) - 192) << 8) + usize::from(area.byte()?) + 192,
    };
    area.take(length)
}

impl Signature {
    /// Reads a packet's body.
    ///
    /// # Errors
    /// What is wrong, or what is not taken, in words that go after "a signature".
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let cut = || "that is cut short".to_owned();
        let mut fields = Fields(body);
        let version = fields.byte().ok_or_else(cut)?;
        if version != 4 {
            return Err(format!("of version {version}; only version 4 is supported"));
        }
        let head = fields.take(3).ok_or_else(cut)?;
        let [kind, algorithm, hash_id] = head.try_into().map_err(|_| cut())?;
        let hash = match hash_id {
            8 => Hash::Sha256,
            9 => Hash::Sha384,
            10 => Hash::Sha512,
            1 => return Err("with MD5, which proves nothing".to_owned()),
            2 => {
                return Err(
                    "with SHA-1, which proves nothing any more; sign with SHA-256 or longer".to_owned()
                );
            }
            other => return Err(format!("with hash algorithm {other}, which is not supported")),
        };
        let length = fields.short().ok_or_else(cut)?;
        let hashed_part = fields.take(length).ok_or_else(cut)?;
        let hashed = body.get(..6 + length).ok_or_else(cut)?.to_vec();
        let length = fields.short().ok_or_else(cut)?;
        let unhashed_part = fields.take(length).ok_or_else(cut)?;
        let left = fields.take(2).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
        let value = fields.0.to_vec();
        let mut signature = Signature {
            kind,
            algorithm,
            hash_id,
            hash,
            created: 0,
            lifetime: None,
            key_lifetime: None,
            flags: None,
            issuers: Vec::new(),
            embedded: Vec::new(),
            hashed,
            left,
            value,
        };
        let mut created = None;
        signature.subpackets(hashed_part, Some(&mut created))?;
        signature.subpackets(unhashed_part, None)?;
        signature.created = created.ok_or("without its time")?;
        Ok(signature)
    }

    /// Takes subpackets in; of unhashed ones (`created` is `None`) only hints.
    fn subpackets(&mut self, area: &[u8], mut created: Option<&mut Option<u64>>) -> Result<(), String> {
        let malformed = || "with malformed subpackets".to_owned();
        let mut fields = Fields(area);
        while !fields.0.is_empty() {
            let mut content = Fields(subpacket(&mut fields).ok_or_else(malformed)?);
            let kind = content.byte().ok_or_else(malformed)?;
            let (critical, kind) = (kind & 0x80 != 0, kind & 0x7f);
            let time = || match <[u8; 4]>::try_from(content.0) {
                Ok(bytes) => Ok(u64::from(u32::from_be_bytes(bytes))),
                Err(_) => Err(malformed()),
            };
            let once = |twice: bool| if twice { Err(format!("with subpacket {kind} twice")) } else { Ok(()) };
            match (kind, &mut created) {
                (2, Some(created)) => once(created.replace(time()?).is_some())?,
                (3, Some(_)) => once(self.lifetime.replace(time()?).is_some())?,
                (9, Some(_)) => once(self.key_lifetime.replace(time()?).is_some())?,
                (27, Some(_)) => {
                    let flags = content.0.first().copied().unwrap_or_default();
                    once(self.flags.replace(flags).is_some())?;
                }
                (16, _) if content.0.len() == 8 => self.issuers.push(content.0.to_vec()),
                (33, _) => match content.0 {
                    [4, fingerprint @ ..] if fingerprint.len() == 20 => {
                        self.issuers.push(fingerprint.to_vec());
                    }
                    _ => return Err("by a key of another version than 4".to_owned()),
                },
                (32, _) => self.embedded.push(content.0.to_vec()),
                // Preferences, policies and remarks, which change nothing here.
                (4 | 7 | 11 | 12 | 21 | 22 | 23 | 24 | 25 | 26 | 28 | 29 | 30 | 34, _) => {}
                _ if critical => return Err(format!("with unknown critical subpacket {kind}")),
                _ => {}
            }
        }
        if self.issuers.len() > 8 || self.embedded.len() > 4 {
            return Err("with too many subpackets".to_owned());
        }
        Ok(())
    }

    /// Whether it names this key, and no other, as its maker.
    pub(super) fn names(&self, key: &Key) -> bool {
        let same = |issuer: &Vec<u8>| *issuer == key.fingerprint || issuer == key.id();
        !self.issuers.is_empty() && self.issuers.iter().all(same)
    }

    /// Whether it says that the key may sign. What says nothing says no.
    pub(super) fn may_sign(&self) -> bool {
        self.flags.is_some_and(|flags| flags & SIGN_FLAG != 0)
    }

    /// Whether it says anything of what the key may do.
    pub(super) fn has_flags(&self) -> bool {
        self.flags.is_some()
    }

    /// The last second of the key's life by this signature; `None` where it does not end.
    pub(super) fn key_end(&self, key: &Key) -> Option<u64> {
        // Zero means never, as in GnuPG.
        self.key_lifetime.filter(|n| *n != 0).map(|n| key.created.saturating_add(n))
    }

    /// Whether it is made and not over at that time.
    pub(super) fn in_force(&self, now_unix: u64) -> Result<(), &'static str> {
        if self.created > now_unix.saturating_add(SKEW) {
            return Err("is of the future");
        }
        match self.lifetime {
            Some(n) if n != 0 && self.created.saturating_add(n) <= now_unix => Err("has expired"),
            _ => Ok(()),
        }
    }

    /// Whether it is the key's over `content`: what goes before the signature's own fields.
    pub(super) fn is_by(&self, key: &Key, content: &[&[u8]]) -> bool {
        let mut message = content.concat();
        message.extend_from_slice(&self.hashed);
        message.extend([4, 0xff]);
        message.extend(u32::try_from(self.hashed.len()).unwrap_or(u32::MAX).to_be_bytes());
        let same_kind = self.algorithm == key.algorithm;
        same_kind
            && digest_of(self.hash, &message).starts_with(&self.left)
            && key.verifies(self.hash, &message, &self.value)
    }
}
