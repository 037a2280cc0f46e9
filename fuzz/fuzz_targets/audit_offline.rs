//! What an auditor is given: entries, proofs, signed heads and keys, as JSON and text between NUL bytes.
#![no_main]

use cocoon_audit::offline::{verify_consistency, verify_entry, verify_growth, verify_head, verify_inclusion};
use cocoon_audit::{ConsistencyProof, Entry, Hash, InclusionProof, PublicKey, SignedHead};
use cocoon_fuzz::parts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parts = parts(bytes, 5);
    let text = |at: usize| parts.get(at).and_then(|part| std::str::from_utf8(part).ok());
    let entry = Entry::from_bytes(parts[0]);
    if let Some(entry) = &entry {
        assert_eq!(entry.to_bytes().expect("it was read"), parts[0]);
    }
    let inclusion = text(1).and_then(|json| serde_json::from_str::<InclusionProof>(json).ok());
    let consistency = text(2).and_then(|json| serde_json::from_str::<ConsistencyProof>(json).ok());
    let head = text(3).and_then(|json| serde_json::from_str::<SignedHead>(json).ok());
    let key = text(4).and_then(|text| text.parse::<PublicKey>().ok());
    let other = Hash([1; 32]);
    if let Some(proof) = &inclusion {
        let holds = verify_inclusion(&Hash::of_leaf(parts[0]), proof, &other);
        assert!(holds.is_err(), "that would be a preimage");
    }
    if let Some(proof) = &consistency {
        let _ = verify_consistency(&other, &other, proof);
        let _ = verify_consistency(&Hash::of_nothing(), &other, proof);
        let leaf = Hash::of_leaf(b"");
        if proof.from != proof.to && proof.from != 0 {
            assert!(verify_consistency(&leaf, &other, proof).is_err(), "that would be a preimage");
        }
    }
    if let (Some(key), Some(head)) = (&key, &head) {
        let _ = verify_head(key, head);
        if let (Some(entry), Some(proof)) = (&entry, &inclusion) {
            let _ = verify_entry(key, head, entry, proof);
        }
        if let Some(proof) = &consistency {
            let _ = verify_growth(key, head, head, proof);
        }
    }
});
