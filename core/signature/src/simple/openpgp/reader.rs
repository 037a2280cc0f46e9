//! The packets of keyring files, gathered to one certificate for each primary key.

use std::collections::BTreeMap;

use super::armor;
use super::key::Key;
use super::keyring::{Certificate, Over};
use super::packet::{self, Packet};
use super::signature;

const MAX_BYTES: usize = 4 * 1024 * 1024;
const MAX_PACKETS: usize = 16_384;

/// Whose packets are being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Current {
    /// Nobody's: the file has begun.
    Nobody,
    /// A key's that is not read, of another version or malformed; nothing of it may be taken for another's.
    Unread,
    /// A certificate's, by its place.
    Certificate(usize),
}

/// Gathers packets of several files.
#[derive(Default)]
pub(super) struct Reader {
    certificates: Vec<Certificate>,
    /// Where the certificate of a primary key is, by the key as signatures hash it.
    places: BTreeMap<Vec<u8>, usize>,
    /// Revocations of primary keys, which may be told of a key before the key itself.
    revocations: Vec<Revocation>,
}

struct Revocation {
    /// Whom it names as its maker: key ids or fingerprints.
    issuers: Vec<Vec<u8>>,
    /// Whether it must be of a key that is there: it stands where it says nothing of another.
    alone: bool,
}

/// One file's state.
struct File {
    current: Current,
    over: Over,
    /// Whether any key in it is of use; `None` before the first key.
    usable: Option<bool>,
    revocations: usize,
}

impl Reader {
    /// Takes a file in; says why not.
    pub(super) fn file(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() > MAX_BYTES {
            return Err(format!("longer than {MAX_BYTES} bytes"));
        }
        let decoded = armor::decode(bytes, "PUBLIC KEY BLOCK").transpose()?;
        let mut rest = decoded.as_deref().unwrap_or(bytes);
        if rest.get(8..12) == Some(b"KBXf") {
            return Err("it is GnuPG's keybox; give what `gpg --export` writes".to_owned());
        }
        let mut file = File { current: Current::Nobody, over: Over::Nothing, usable: None, revocations: 0 };
        for _ in 0..MAX_PACKETS {
            if rest.is_empty() {
                break;
            }
            let (packet, after) = packet::next(rest).ok_or("it is malformed")?;
            self.take(&mut file, &packet)?;
            rest = after;
        }
        if !rest.is_empty() {
            return Err("it has too many packets".to_owned());
        }
        self.judge(&mut file);
        match file.usable {
            Some(true) => Ok(()),
            None if file.revocations > 0 => Ok(()),
            _ => {
                Err("no key in it is RSA of 2048 bits or more, Ed25519, or ECDSA with P-256, P-384 or P-521"
                    .to_owned())
            }
        }
    }

    /// The certificates, after each revocation found its key; says which did not.
    pub(super) fn finish(mut self) -> Result<Vec<Certificate>, String> {
        let mut places: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for (place, certificate) in self.certificates.iter().enumerate() {
            for name in [certificate.primary.id(), &certificate.primary.fingerprint] {
                places.entry(name.to_vec()).or_default().push(place);
            }
        }
        for revocation in &self.revocations {
            let mut found = false;
            for place in revocation.issuers.iter().filter_map(|name| places.get(name)).flatten() {
                if let Some(certificate) = self.certificates.get_mut(*place) {
                    certificate.revoked = true;
                    found = true;
                }
            }
            if !found && revocation.alone {
                let named = revocation.issuers.first().map(hex::encode_upper).unwrap_or_default();
                return Err(format!("a revocation of the key {named:?}, which is not there"));
            }
        }
        if !self.certificates.iter().any(Certificate::is_usable) {
            return Err("it holds revocations alone, and no key".to_owned());
        }
        Ok(self.certificates)
    }

    fn take(&mut self, file: &mut File, packet: &Packet<'_>) -> Result<(), String> {
        if file.current == Current::Nobody && !matches!(packet.tag, packet::PUBLIC_KEY | packet::MARKER) {
            let alone = signature::kind_of(&packet.body) == Some(signature::KEY_REVOCATION);
            if packet.tag != packet::SIGNATURE || !alone {
                let secret = matches!(packet.tag, packet::SECRET_KEY | packet::SECRET_SUBKEY);
                let why =
                    if secret { "it holds a secret key" } else { "it does not begin with a public key" };
                return Err(why.to_owned());
            }
        }
        match packet.tag {
            packet::PUBLIC_KEY => self.key(file, &packet.body),
            packet::USER_ID | packet::USER_ATTRIBUTE => {
                let first = if packet.tag == packet::USER_ID { 0xb4 } else { 0xd1 };
                let length = u32::try_from(packet.body.len()).unwrap_or(u32::MAX).to_be_bytes();
                let hashed = [&[first][..], &length, &packet.body].concat();
                file.over = self.current(file).map_or(Over::Nothing, |c| c.name(hashed));
            }
            packet::PUBLIC_SUBKEY => {
                file.over = match (self.current(file), Key::parse(&packet.body)) {
                    (Some(certificate), Some(key)) => certificate.subkey(key),
                    _ => Over::Nothing,
                };
            }
            packet::SIGNATURE if signature::kind_of(&packet.body) == Some(signature::KEY_REVOCATION) => {
                self.revocation(file, &packet.body)?;
            }
            packet::SIGNATURE => {
                let over = file.over;
                if let Some(certificate) = self.current(file) {
                    certificate.signature(over, &packet.body)?;
                }
            }
            packet::TRUST | packet::MARKER => {}
            packet::SECRET_KEY | packet::SECRET_SUBKEY => return Err("it holds a secret key".to_owned()),
            other => return Err(format!("a packet of kind {other} does not belong into it")),
        }
        Ok(())
    }

    fn current(&mut self, file: &File) -> Option<&mut Certificate> {
        match file.current {
            Current::Certificate(place) => self.certificates.get_mut(place),
            Current::Nobody | Current::Unread => None,
        }
    }

    /// A primary key begins; of one that is there already, another copy.
    fn key(&mut self, file: &mut File, body: &[u8]) {
        self.judge(file);
        file.usable.get_or_insert(false);
        let Some(primary) = Key::parse(body) else {
            (file.current, file.over) = (Current::Unread, Over::Nothing);
            return;
        };
        let place = *self.places.entry(primary.hashed.clone()).or_insert(self.certificates.len());
        if place == self.certificates.len() {
            self.certificates.push(Certificate::new(primary));
        }
        (file.current, file.over) = (Current::Certificate(place), Over::Primary);
    }

    /// The current certificate is complete.
    fn judge(&mut self, file: &mut File) {
        if self.current(file).is_some_and(|c| c.is_usable()) {
            file.usable = Some(true);
        }
    }

    /// A revocation of a primary key: of the one that it follows directly, whoever made it, for its owner may have named
    /// another to revoke it; and of the one that it names, wherever it stands.
    fn revocation(&mut self, file: &mut File, body: &[u8]) -> Result<(), String> {
        let issuers = signature::issuers_of(body);
        let direct = matches!(file.over, Over::Primary);
        if let (true, Some(certificate)) = (direct, self.current(file)) {
            certificate.revoked = true;
        }
        let alone = !direct && file.current != Current::Unread;
        if alone && issuers.is_empty() {
            return Err("a revocation that names no key".to_owned());
        }
        file.revocations += 1;
        self.revocations.push(Revocation { issuers, alone });
        Ok(())
    }
}
