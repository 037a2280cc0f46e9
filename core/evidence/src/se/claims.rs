//! Claims of a measurement, under the names and types that CoCo's policies read, and more.

use serde_json::{Value, json};

use super::evidence::Evidence;
use super::header::Header;
use super::request::VERSION;

/// Upstream's: `cuid`, `report_data`, `version` (a number, that of the request), `image_phkh`, `attestation_phkh`, `tag`; lower-case hex.
/// Ours: the image's other digests, `page_list_digest`, `address_list_digest`, `tweak_list_digest`, and its
/// `plaintext_control_flags`, hex. All but the flags were measured; those the tag authenticates.
pub(super) fn claims(evidence: &Evidence, header: &Header) -> Value {
    let tags = &header.tags;
    json!({
        "cuid": hex::encode(evidence.cuid),
        "report_data": hex::encode(&evidence.user_data),
        "version": VERSION,
        "image_phkh": hex::encode(evidence.image_phkh()),
        "attestation_phkh": hex::encode(evidence.attestation_phkh()),
        "tag": hex::encode(tags.tag),
        "page_list_digest": hex::encode(tags.page_list),
        "address_list_digest": hex::encode(tags.address_list),
        "tweak_list_digest": hex::encode(tags.tweak_list),
        "plaintext_control_flags": format!("{:016x}", header.plaintext_control_flags),
    })
}

/// What the evidence says; **nothing of it is verified**. Which image it is of the evidence does not say.
pub fn unverified(evidence: &Evidence) -> Value {
    json!({
        "cuid": hex::encode(evidence.cuid),
        "report_data": hex::encode(&evidence.user_data),
        "image_phkh": hex::encode(evidence.image_phkh()),
        "attestation_phkh": hex::encode(evidence.attestation_phkh()),
    })
}
