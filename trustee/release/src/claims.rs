//! What a decision reads of a token's claims. Absent or oddly typed claims never help the guest.

use serde_json::Value;

use crate::MinStatus;

/// Submodule of the guest's own TEE.
const CPU: &str = "cpu0";
/// Member of a submodule with the verifier's claims.
const EVIDENCE: &str = "ear.veraison.annotated-evidence";
/// Kinds of evidence that anybody can write.
const NO_HARDWARE: [&str; 2] = ["sample", "sampledevice"];
/// TEEs whose own field holds the digest, zero-padded: HOST_DATA (32 bytes), MRCONFIGID (48), CONFIGID and the
/// personalization value (64).
const FIELD_TEES: [&str; 4] = ["snp", "tdx", "sgx", "cca"];
/// TEEs that extend register 8 of a TPM with the digest. Their claim `init_data` is the register; what was extended is
/// `init_data_digest`, which the verifier gives only where the register proves it.
const REGISTER_TEES: [&str; 3] = ["az-snp-vtpm", "az-tdx-vtpm", "tpm"];
/// Length of a registration's digest in hex.
const DIGEST: usize = 64;

/// The digest of the guest's plan in hex (32 bytes), if a TEE that binds it says so and the copies agree: only then are the
/// claims taken from the initdata document the plan's own.
pub fn bound_init_data(claims: &Value) -> Option<String> {
    let evidence = claims.get("submods")?.get(CPU)?.get(EVIDENCE)?;
    let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).map(str::to_owned);
    let init_data = text(evidence, "init_data")?;
    let of = |tees: &[&str]| {
        let mut tees = tees.iter().filter_map(|tee| evidence.get(tee));
        tees.find(|tee| text(tee, "init_data").as_ref() == Some(&init_data)).cloned()
    };
    let digest = match (of(&FIELD_TEES), of(&REGISTER_TEES)) {
        (Some(_), None) => {
            let (digest, padding) = init_data.split_at_checked(DIGEST)?;
            // What follows a digest of 32 bytes is padding; a longer digest is no registration's.
            padding.bytes().all(|b| b == b'0').then(|| digest.to_owned())?
        }
        (None, Some(tee)) => text(&tee, "init_data_digest")?,
        _ => return None,
    };
    let well_formed = digest.len() == DIGEST
        && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && digest.bytes().any(|b| b != b'0');
    well_formed.then_some(digest)
}

/// The worst status of all submodules in words, and as a tier if it is one that may suffice.
pub(crate) fn worst_status(claims: &Value) -> (Option<MinStatus>, &'static str) {
    let submods = claims.get("submods").and_then(Value::as_object);
    let Some(submods) = submods.filter(|s| s.contains_key(CPU)) else { return (None, "no cpu0 submodule") };
    let mut worst = (Some(MinStatus::Affirming), "affirming");
    for submod in submods.values() {
        let status = match submod.get("ear.status").and_then(Value::as_str) {
            Some("affirming") => continue,
            Some("warning") => (Some(MinStatus::Warning), "warning"),
            Some("contraindicated") => (None, "contraindicated"),
            _ => (None, "none"),
        };
        if status.0 < worst.0 {
            worst = status;
        }
    }
    worst
}

/// Whether any submodule was appraised from simulated evidence: by our own mark, which must be a plain `false` or absent to
/// mean "no"; or, in another issuer's token, because it comes of a kind of evidence that no hardware makes.
pub(crate) fn simulated(claims: &Value) -> bool {
    let submods = claims.get("submods").and_then(Value::as_object);
    submods.is_none_or(|submods| {
        submods.values().any(|submod| {
            let marked = !matches!(submod.get("ear.cocoon.simulated"), None | Some(Value::Bool(false)));
            let evidence = submod.get(EVIDENCE);
            marked || NO_HARDWARE.iter().any(|kind| evidence.and_then(|e| e.get(kind)).is_some())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bound(top: &str, tees: Value) -> Option<String> {
        let mut evidence = tees;
        evidence["init_data"] = json!(top);
        bound_init_data(&json!({"submods": {"cpu0": {EVIDENCE: evidence}}}))
    }

    #[test]
    fn a_digest_counts_only_where_the_tee_binds_it() {
        let digest = "ab".repeat(32);
        for (tee, padding) in [("snp", 0), ("tdx", 16), ("sgx", 32), ("cca", 32)] {
            let field = format!("{digest}{}", "00".repeat(padding));
            assert_eq!(bound(&field, json!({tee: {"init_data": field}})), Some(digest.clone()), "{tee}");
            assert_eq!(bound(&field, json!({tee: {"init_data": "cd".repeat(32)}})), None, "{tee}");
            assert_eq!(bound(&field, json!({"csv": {"init_data": field}})), None);
        }
        let longer = format!("{digest}{}01", "00".repeat(15));
        assert_eq!(bound(&longer, json!({"tdx": {"init_data": longer}})), None, "more than a digest");
        for bad in ["00".repeat(32), "AB".repeat(32), "ab".repeat(31), String::new(), "é".repeat(40)] {
            assert_eq!(bound(&bad, json!({"snp": {"init_data": bad}})), None, "{bad}");
        }
    }

    #[test]
    fn a_register_is_not_a_digest() {
        let (register, digest) = ("11".repeat(32), "ab".repeat(32));
        for tee in REGISTER_TEES {
            let proven = json!({tee: {"init_data": register, "init_data_digest": digest}});
            assert_eq!(bound(&register, proven), Some(digest.clone()));
            assert_eq!(bound(&register, json!({tee: {"init_data": register}})), None);
        }
        let two = json!({"snp": {"init_data": register}, "tpm": {"init_data": register, "init_data_digest": digest}});
        assert_eq!(bound(&register, two), None, "of two TEES neither is the guest's own");
    }
}
