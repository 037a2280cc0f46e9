//! The checks that all shapes of a signature share.

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_evidence::x509::Certificate;
use cocoon_image::{Digest, Error};

use super::body::{Content, Expected};
use super::bundle::{Bundle, Signed};
use super::entry::Entry;
use super::statement::{STATEMENT_MEDIA_TYPE, pae, vouched};
use super::trust::{Signer, Trust, Window};
use super::{Claim, SKEW, certificate, timestamp, wrong};
use crate::VerifyingKey;

/// Most time stamps of one signature whose certificates are looked at.
const MAX_CHAINS: usize = 2;

/// Checks a bundle over an image: a statement by cosign, or a signature over the manifest itself. `accepted` are the
/// digests of the image that it may vouch for.
///
/// # Errors
/// [`Error::SignatureInvalid`] with the reason.
pub fn verify_bundle(trust: &Trust, json: &[u8], accepted: &[Digest], now_unix: u64) -> Result<Claim, Error> {
    let bundle = Bundle::parse(json)?;
    match &bundle.content {
        Signed::Dsse { payload_type, payload, signature } => {
            if payload_type != STATEMENT_MEDIA_TYPE {
                return Err(wrong(format!("the envelope holds {payload_type:?}, not an in-toto statement")));
            }
            let message = pae(payload_type, payload);
            let content = Content::Dsse { payload, pae: &message };
            let proved =
                prove(trust, &bundle.material(), Message::Bytes(&message), content, signature, now_unix)?;
            // The statement is read only after it is known to come from the signer.
            let (digest, reference) = vouched(payload, accepted)?;
            Ok(Claim { digest, reference, by: proved.0, at_unix: proved.1 })
        }
        Signed::Message { sha256, signature } => {
            let sha256 = sha256.ok_or_else(|| wrong("the bundle does not say which SHA-256 is signed"))?;
            let signed = Digest::Sha256(sha256);
            if !accepted.contains(&signed) {
                return Err(wrong(format!("it is for {signed}, another image")));
            }
            let content = Content::Message { sha256, bytes: None };
            let proved =
                prove(trust, &bundle.material(), Message::Sha256(sha256), content, signature, now_unix)?;
            Ok(Claim { digest: signed, reference: None, by: proved.0, at_unix: proved.1 })
        }
    }
}

/// Checks a bundle over any bytes (`cosign sign-blob --bundle`).
///
/// # Errors
/// [`Error::SignatureInvalid`] with the reason.
pub fn verify_blob(trust: &Trust, json: &[u8], blob: &[u8], now_unix: u64) -> Result<Claim, Error> {
    let bundle = Bundle::parse(json)?;
    let Signed::Message { sha256, signature } = &bundle.content else {
        return Err(wrong("the bundle is of a statement, not of these bytes"));
    };
    let own = sha256_of(blob);
    if sha256.is_some_and(|said| said != own) {
        return Err(wrong("the bundle is of other bytes"));
    }
    let content = Content::Message { sha256: own, bytes: Some(blob) };
    let proved = prove(trust, &bundle.material(), Message::Bytes(blob), content, signature, now_unix)?;
    Ok(Claim { digest: Digest::Sha256(own), reference: None, by: proved.0, at_unix: proved.1 })
}

pub(super) fn sha256_of(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

impl Bundle {
    fn material(&self) -> Material<'_> {
        Material {
            leaf: self.leaf.as_ref(),
            chain: &self.chain,
            entries: &self.entries,
            timestamps: &self.timestamps,
        }
    }
}

/// What comes along with a signature to prove it.
pub(super) struct Material<'a> {
    pub leaf: Option<&'a Certificate>,
    pub chain: &'a [Certificate],
    pub entries: &'a [Entry],
    pub timestamps: &'a [Vec<u8>],
}

/// What the signature is over.
#[derive(Clone, Copy)]
pub(super) enum Message<'a> {
    Bytes(&'a [u8]),
    Sha256([u8; 32]),
}

impl Message<'_> {
    fn is_signed(&self, key: &VerifyingKey, signature: &[u8]) -> bool {
        match self {
            Message::Bytes(bytes) => key.verifies(bytes, signature),
            Message::Sha256(hash) => key.verifies_sha256(hash, signature),
        }
    }
}

/// Who signed, for people, and when, where that is proved.
pub(super) type Proved = (String, Option<u64>);

/// Checks that one whom `trust` names made the signature, at a time at which that counted.
pub(super) fn prove(
    trust: &Trust,
    material: &Material<'_>,
    message: Message<'_>,
    content: Content<'_>,
    signature: &[u8],
    now_unix: u64,
) -> Result<Proved, Error> {
    match &trust.signer {
        Signer::Keys(keys) => {
            let key = keys.iter().find(|key| message.is_signed(key, signature));
            let key = key.ok_or_else(|| wrong("the signature does not verify with a required key"))?;
            let times =
                times(trust, material, &Expected { signature, key, certificate: None, content }, now_unix)?;
            Ok((format!("the key {}", key.fingerprint()), times.first().copied()))
        }
        Signer::Identity(identity) => {
            let leaf = material.leaf.ok_or_else(|| wrong("it has no certificate that names its signer"))?;
            let key = VerifyingKey::from_der(&leaf.spki()).map_err(|e| wrong(e.to_string()))?;
            if !message.is_signed(&key, signature) {
                return Err(wrong("the signature does not verify with its certificate"));
            }
            // Before the time, whose proof brings more certificates along: strangers are to cost little.
            certificate::plausible(leaf, material.chain, &trust.roots, identity).map_err(wrong)?;
            let expected = Expected { signature, key: &key, certificate: Some(leaf), content };
            let mut fault = "nothing proves when it was signed, so its certificate does not count".to_owned();
            for at in times(trust, material, &expected, now_unix)? {
                match certificate::check(leaf, material.chain, &trust.roots, at) {
                    Ok(()) => return Ok((certificate::shown(identity), Some(at))),
                    Err(why) => fault = why,
                }
            }
            Err(wrong(fault))
        }
    }
}

/// Every time that a trusted log or time-stamping authority proves for the signature. Where logs are given, one must
/// have recorded it.
fn times(
    trust: &Trust,
    material: &Material<'_>,
    expected: &Expected<'_>,
    now_unix: u64,
) -> Result<Vec<u64>, Error> {
    let roots = &trust.roots;
    let (mut times, mut faults) = (Vec::new(), Vec::new());
    let mut chains = MAX_CHAINS;
    for stamp in material.timestamps.iter().filter(|_| !roots.timestamp_authorities.is_empty()) {
        match timestamp::verify(stamp, &roots.timestamp_authorities, expected.signature, &mut chains) {
            Ok(at) => times.push(at),
            Err(why) => faults.push(why.to_owned()),
        }
    }
    let mut windows: Vec<Window> = Vec::new();
    for entry in material.entries.iter().filter(|_| !roots.logs.is_empty()) {
        match entry.verify(&roots.logs, expected) {
            Ok(proved) => {
                windows.push(proved.window);
                times.extend(proved.at);
            }
            Err(why) => faults.push(why),
        }
    }
    let past: Vec<u64> = times.iter().copied().filter(|at| *at <= now_unix.saturating_add(SKEW)).collect();
    if past.len() < times.len() {
        faults.push("it was signed in the future, or our clock is wrong".to_owned());
    }
    let explained = |why: &str| {
        let told: Vec<&str> = faults.iter().take(4).map(String::as_str).collect();
        wrong(if told.is_empty() { why.to_owned() } else { format!("{why}: {}", told.join("; ")) })
    };
    if !roots.logs.is_empty() {
        if windows.is_empty() {
            return Err(explained("no trusted log recorded it"));
        }
        // An entry without a time of its own borrows another's: its log must have been in use then.
        if !past.is_empty() && !past.iter().any(|at| windows.iter().any(|w| w.contains(*at))) {
            return Err(wrong("the log was not in use when it was signed"));
        }
    }
    if past.is_empty() && !faults.is_empty() {
        return Err(explained("nothing proves when it was signed"));
    }
    Ok(past)
}
