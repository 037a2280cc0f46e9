//! Checkpoints of logs: signed notes (C2SP signed-note, tlog-checkpoint) as Rekor writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::merkle::Hash;
use crate::VerifyingKey;

const MAX_BYTES: usize = 16 * 1024;
/// Most signatures of one note: the log's and its witnesses'.
const MAX_SIGNATURES: usize = 16;

/// A tree as its log vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Number of leaves.
    pub size: u64,
    /// Hash of the root.
    pub root: Hash,
}

/// Reads a checkpoint that the key signed; says why not.
pub(super) fn open(envelope: &str, key: &VerifyingKey) -> Result<Checkpoint, &'static str> {
    if envelope.len() > MAX_BYTES {
        return Err("the checkpoint is too long");
    }
    // The text ends with the line feed before the empty line; that is what is signed.
    let at = envelope.rfind("\n\n").ok_or("the checkpoint has no signatures")?;
    let (text, signatures) = envelope.split_at_checked(at + 1).ok_or("the checkpoint has no signatures")?;
    let signatures = signatures.strip_prefix('\n').unwrap_or_default();
    let signed = signatures.lines().take(MAX_SIGNATURES).any(|line| {
        // `— name base64(hint of the key in 4 bytes, signature)`. The hint only helps to choose, so it is passed over.
        let encoded = line.strip_prefix("— ").and_then(|l| l.split_once(' ')).map(|(_, encoded)| encoded);
        let bytes = encoded.and_then(|e| STANDARD.decode(e).ok()).unwrap_or_default();
        bytes.get(4..).is_some_and(|signature| key.verifies(text.as_bytes(), signature))
    });
    if !signed {
        return Err("the checkpoint is not signed by the log");
    }
    let mut lines = text.lines();
    let origin = lines.next().filter(|l| !l.is_empty());
    let size = lines.next().filter(|l| !l.starts_with('+')).and_then(|l| l.parse().ok());
    let root = lines.next().and_then(|l| STANDARD.decode(l).ok()).and_then(|r| r.try_into().ok());
    match (origin, size, root) {
        (Some(_), Some(size), Some(root)) => Ok(Checkpoint { size, root }),
        _ => Err("the checkpoint is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyPair, SigningKey};

    #[test]
    fn only_the_logs_own_signature_counts() {
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let sign = |pair: &KeyPair, text: &str| {
            let signature = SigningKey::from_pem(&pair.private_pem).unwrap().sign(text.as_bytes()).unwrap();
            format!("— log {}\n", STANDARD.encode([&[1, 2, 3, 4], &signature[..]].concat()))
        };
        let key = VerifyingKey::from_pem(&own.public_pem).unwrap();
        let text = format!("log - 1\n7\n{}\nTimestamp: 1\n", STANDARD.encode([9; 32]));
        let good = format!("{text}\n{}{}", sign(&other, &text), sign(&own, &text));
        assert_eq!(open(&good, &key), Ok(Checkpoint { size: 7, root: [9; 32] }));
        for bad in [
            String::new(),
            text.clone(),
            format!("{text}\n"),
            format!("{text}\n{}", sign(&other, &text)),
            good.replace("\n7\n", "\n8\n"),
            format!("{text}\n— log AAAA\n"),
            format!("x\n\n{}", sign(&own, "x\n")),
            format!("x\n-1\n\n\n{}", sign(&own, "x\n-1\n\n")),
        ] {
            assert!(open(&bad, &key).is_err(), "{bad}");
        }
    }
}
