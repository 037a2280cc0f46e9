//! What a decision reads of a token's claims. Absent or oddly typed claims never help the guest.

use serde_json::Value;

use crate::MinStatus;

/// Submodule of the guest's own TEE.
const CPU: &str = "cpu0";
/// Member of a submodule with the verifier's claims.
const EVIDENCE: &str = "ear.veraison.annotated-evidence";
/// Kinds of evidence that anybody can write.
const NO_HARDWARE: [&str; 2] = ["sample", "sampledevice"];
/// TEEs whose verifier proves `init_data` by hardware; others only copy it.
const BINDING_TEES: &[&str] = &["snp"];

/// The HOST_DATA hex of the guest's plan, if a TEE that binds it says so and the copies agree: only then are the claims
/// taken from the initdata document the plan's own.
pub fn bound_init_data(claims: &Value) -> Option<String> {
    let evidence = claims.get("submods")?.get(CPU)?.get(EVIDENCE)?;
    let init_data = evidence.get("init_data")?.as_str()?;
    let well_formed = init_data.len() == 64
        && init_data.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && init_data.bytes().any(|b| b != b'0');
    let bound = BINDING_TEES.iter().any(|tee| {
        evidence.get(tee).and_then(|t| t.get("init_data")).and_then(Value::as_str) == Some(init_data)
    });
    (well_formed && bound).then(|| init_data.to_owned())
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
