//! The JSON text of a header (LUKS2 On-Disk Format Specification 1.1.x, section 3): what of it is taken, and nothing else.
//!
//! A header says how a volume is enciphered, and the host can write another one. So there is no choice here: exactly the
//! ciphers, hashes and functions that this guest would itself write are taken, whatever else the format knows. A header that
//! names a weaker one, or none (`cipher_null`), is refused before any key is derived.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::Problem;

/// The cipher of key slots, and of volumes without integrity.
const XTS: &str = "aes-xts-plain64";
/// The cipher of volumes with integrity: a fresh random IV at each write.
const XTS_RANDOM: &str = "aes-xts-random";
const HMAC: &str = "hmac(sha256)";
const HASH: &str = "sha256";
/// Copies into which a key slot spreads the key.
pub(super) const STRIPES: u64 = 4000;
/// Bytes of a key slot's own key: AES-256-XTS.
pub(super) const SLOT_KEY: u64 = 64;
/// Rounds of PBKDF2 that are taken; more would be the host's way to keep the guest busy.
pub(super) const ROUNDS: std::ops::RangeInclusive<u32> = 1000..=10_000_000;
/// Key slots that are tried.
const MOST_SLOTS: usize = 8;
/// Bytes of a salt.
const SALTS: std::ops::RangeInclusive<usize> = 8..=64;
/// Largest sector of dm-crypt; offsets are whole numbers of it.
const SECTOR: u64 = 4096;

/// How a volume's blocks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// AES-256-XTS: the host learns nothing of what a block holds, but may change it unnoticed.
    Secret,
    /// The same with HMAC-SHA-256 beside each block (dm-integrity): a block that the host changed cannot be read.
    Authentic,
}

impl Protection {
    /// Bytes of the volume's key.
    pub(super) fn key_bytes(self) -> u64 {
        match self {
            Protection::Secret => 64,
            Protection::Authentic => 96,
        }
    }

    fn cipher(self) -> &'static str {
        match self {
            Protection::Secret => XTS,
            Protection::Authentic => XTS_RANDOM,
        }
    }
}

/// PBKDF2 with HMAC-SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kdf {
    pub(super) salt: Vec<u8>,
    pub(super) rounds: u32,
}

/// A key slot: where it lies, and how its key is derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) offset: u64,
    pub(super) kdf: Kdf,
}

/// What a header says, as far as it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) protection: Protection,
    /// Bytes in a sector of dm-crypt: 512 or 4096.
    pub(super) sector: u64,
    /// Where the volume begins, in bytes.
    pub(super) offset: u64,
    /// How long it is, in bytes, with what dm-integrity takes of it.
    pub(super) bytes: u64,
    pub(super) slots: Vec<Slot>,
    pub(super) digest: Kdf,
    pub(super) expected: [u8; 32],
}

#[derive(Deserialize)]
struct Text {
    keyslots: BTreeMap<String, Keyslot>,
    segments: BTreeMap<String, Segment>,
    digests: BTreeMap<String, Digest>,
    config: Config,
}

#[derive(Deserialize)]
struct Keyslot {
    #[serde(rename = "type")]
    kind: String,
    key_size: u64,
    af: Af,
    area: Area,
    kdf: Function,
}

#[derive(Deserialize)]
struct Af {
    #[serde(rename = "type")]
    kind: String,
    stripes: u64,
    hash: String,
}

#[derive(Deserialize)]
struct Area {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    encryption: String,
    key_size: u64,
}

#[derive(Deserialize)]
struct Function {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    hash: String,
    #[serde(default)]
    iterations: u64,
    salt: String,
}

#[derive(Deserialize)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    #[serde(default)]
    iv_tweak: String,
    #[serde(default)]
    encryption: String,
    #[serde(default)]
    sector_size: u64,
    #[serde(default)]
    integrity: Option<Integrity>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Deserialize)]
struct Integrity {
    #[serde(rename = "type")]
    kind: String,
    journal_encryption: String,
    journal_integrity: String,
}

#[derive(Deserialize)]
struct Digest {
    #[serde(flatten)]
    function: Function,
    segments: Vec<String>,
    keyslots: Vec<String>,
    digest: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    requirements: Option<Requirements>,
}

#[derive(Deserialize)]
struct Requirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

impl Metadata {
    /// Reads and checks the text of a header of which one copy has `copy` bytes, on a disk of `disk` bytes.
    pub(super) fn read(text: &[u8], copy: usize, disk: u64) -> Result<Metadata, Problem> {
        let text: Text = serde_json::from_slice(text)
            .map_err(|_| Problem::foreign("its header's JSON lacks something, or is none"))?;
        let taken = |ok: bool, what: &str| if ok { Ok(()) } else { Err(Problem::foreign(what)) };
        let required = text.config.requirements.is_none_or(|r| r.mandatory.is_empty());
        taken(required, "its header has requirements that this guest does not know")?;
        let (Some(("0", segment)), 1) =
            (text.segments.first_key_value().map(|(n, s)| (n.as_str(), s)), text.segments.len())
        else {
            return Err(Problem::foreign("its header has not exactly one segment"));
        };
        let protection = segment.protection()?;
        let headers = u64::try_from(copy).unwrap_or(u64::MAX).saturating_mul(2);
        let offset = number(&segment.offset)?;
        let bytes = match segment.size.as_str() {
            "dynamic" => disk.saturating_sub(offset) / SECTOR * SECTOR,
            size => number(size)?,
        };
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= disk);
        taken(
            fits && bytes > 0 && offset.is_multiple_of(SECTOR) && bytes.is_multiple_of(SECTOR),
            "its volume is not within the disk",
        )?;
        let mut digests = text.digests.values().filter(|d| d.segments.iter().any(|s| s == "0"));
        let (Some(digest), None) = (digests.next(), digests.next()) else {
            return Err(Problem::foreign("its volume has not exactly one digest"));
        };
        let mut slots = Vec::new();
        for name in digest.keyslots.iter().take(MOST_SLOTS) {
            // Others, of kinds that are not known, may be there beside them.
            let Some(slot) = text.keyslots.get(name) else { continue };
            slots.push(slot.read(protection, headers..offset)?);
        }
        taken(!slots.is_empty(), "its header has no key slot")?;
        let expected = STANDARD.decode(&digest.digest).ok().and_then(|d| d.try_into().ok());
        Ok(Metadata {
            protection,
            sector: segment.sector_size,
            offset,
            bytes,
            slots,
            digest: digest.function.read()?,
            expected: expected.ok_or_else(|| Problem::foreign("its digest has not 32 bytes"))?,
        })
    }

    /// The text of a new header with one key slot.
    pub(super) fn text(&self, copy: usize) -> Vec<u8> {
        let kdf = |kdf: &Kdf| {
            json!({
                "type": "pbkdf2", "hash": HASH, "iterations": kdf.rounds, "salt": STANDARD.encode(&kdf.salt),
            })
        };
        let slot = |slot: &Slot| {
            json!({
                "type": "luks2", "key_size": self.protection.key_bytes(),
                "af": {"type": "luks1", "stripes": STRIPES, "hash": HASH},
                "area": {
                    "type": "raw", "offset": slot.offset.to_string(), "size": area(self.protection).to_string(),
                    "encryption": XTS, "key_size": SLOT_KEY,
                },
                "kdf": kdf(&slot.kdf),
            })
        };
        let slots: serde_json::Map<_, _> =
            self.slots.iter().enumerate().map(|(n, s)| (n.to_string(), slot(s))).collect();
        let names: Vec<&String> = slots.keys().collect();
        let of_digest =
            json!({"digest": STANDARD.encode(self.expected), "keyslots": names, "segments": ["0"]});
        let digest = joined(kdf(&self.digest), of_digest);
        let segment = json!({
            "type": "crypt", "offset": self.offset.to_string(), "size": "dynamic", "iv_tweak": "0",
            "encryption": self.protection.cipher(), "sector_size": self.sector,
        });
        let integrity = json!({
            "integrity": {"type": HMAC, "journal_encryption": "none", "journal_integrity": "none"},
        });
        let segment = match self.protection {
            Protection::Authentic => joined(segment, integrity),
            Protection::Secret => segment,
        };
        let copy = u64::try_from(copy).unwrap_or_default();
        json!({
            "keyslots": slots, "tokens": {}, "segments": {"0": segment}, "digests": {"0": digest},
            "config": {
                "json_size": copy.saturating_sub(4096).to_string(),
                "keyslots_size": self.offset.saturating_sub(2 * copy).to_string(),
            },
        })
        .to_string()
        .into_bytes()
    }
}

/// An object with the members of another one.
fn joined(mut object: serde_json::Value, more: serde_json::Value) -> serde_json::Value {
    if let (Some(members), serde_json::Value::Object(more)) = (object.as_object_mut(), more) {
        members.extend(more);
    }
    object
}

/// Bytes of a key slot's area: the spread key in whole blocks.
pub(super) fn area(protection: Protection) -> u64 {
    (protection.key_bytes() * STRIPES).next_multiple_of(SECTOR)
}

impl Segment {
    fn protection(&self) -> Result<Protection, Problem> {
        let authentic =
            |i: &Integrity| i.kind == HMAC && i.journal_encryption == "none" && i.journal_integrity == "none";
        let protection = match (&self.integrity, self.encryption.as_str()) {
            (None, XTS) => Protection::Secret,
            (Some(integrity), XTS_RANDOM) if authentic(integrity) => Protection::Authentic,
            _ => {
                return Err(Problem::foreign(
                    "its volume has another cipher than AES-256-XTS, or another integrity",
                ));
            }
        };
        let sector = match protection {
            Protection::Secret => matches!(self.sector_size, 512 | 4096),
            Protection::Authentic => self.sector_size == 4096,
        };
        let plain = self.kind == "crypt" && self.iv_tweak == "0" && self.flags.is_empty();
        if plain && sector { Ok(protection) } else { Err(Problem::foreign("its volume is of another kind")) }
    }
}

impl Keyslot {
    /// `room` is what lies between the headers and the volume.
    fn read(&self, protection: Protection, room: std::ops::Range<u64>) -> Result<Slot, Problem> {
        let Keyslot { kind, key_size, af, area, kdf } = self;
        let usual = kind == "luks2"
            && *key_size == protection.key_bytes()
            && (af.kind.as_str(), af.stripes, af.hash.as_str()) == ("luks1", STRIPES, HASH)
            && (area.kind.as_str(), area.encryption.as_str(), area.key_size) == ("raw", XTS, SLOT_KEY);
        if !usual {
            return Err(Problem::foreign("a key slot is of another kind, cipher or key size"));
        }
        let (offset, size) = (number(&area.offset)?, number(&area.size)?);
        let end = offset.checked_add(size).filter(|end| *end <= room.end && offset >= room.start);
        if end.is_none() || size < key_size * STRIPES || !offset.is_multiple_of(SECTOR) {
            return Err(Problem::foreign("a key slot lies outside of the header"));
        }
        Ok(Slot { offset, kdf: kdf.read()? })
    }
}

impl Function {
    fn read(&self) -> Result<Kdf, Problem> {
        let rounds = u32::try_from(self.iterations).ok().filter(|n| ROUNDS.contains(n));
        let salt = STANDARD.decode(&self.salt).ok().filter(|s| SALTS.contains(&s.len()));
        match (self.kind.as_str(), self.hash.as_str(), rounds, salt) {
            ("pbkdf2", HASH, Some(rounds), Some(salt)) => Ok(Kdf { salt, rounds }),
            _ => Err(Problem::foreign("its keys are derived by another function than PBKDF2 with SHA-256")),
        }
    }
}

/// A number as the format writes them: a text of digits.
fn number(text: &str) -> Result<u64, Problem> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if plain { text.parse().ok() } else { None };
    number.ok_or_else(|| Problem::foreign("its header has a number that is none"))
}
