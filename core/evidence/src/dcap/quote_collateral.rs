//! Collateral as quote libraries hand it out: one object with everything for one quote.

use serde_json::Value;
use std::sync::Arc;

use super::{Quote, needs};
use crate::Error;
use crate::collateral::{Collateral, Document, Need};

const WHAT: &str = "quote collateral";
/// Longest member.
const MAX_MEMBER: usize = 8 * 1024 * 1024;

/// Reads the members of Intel's `sgx_ql_qve_collateral_t` as JSON texts: `pck_crl_issuer_chain`, `root_ca_crl`, `pck_crl`
/// (lists as hex of DER or PEM), `tcb_info_issuer_chain`, `tcb_info`, `tcb_info_signature`, `qe_identity_issuer_chain`,
/// `qe_identity`, `qe_identity_signature` (signatures as hex).
///
/// The object does not name the platform it is for; the documents are filed as what `quote` needs, and verification finds
/// out whether they are.
///
/// # Errors
/// [`Error::Malformed`] where a member is absent, too long or no text.
pub fn quote_collateral(value: &Value, quote: &Quote) -> Result<Collateral, Error> {
    let text = |name: &'static str| match value.get(name).and_then(Value::as_str) {
        Some(text) if text.len() <= MAX_MEMBER => Ok(text),
        _ => Err(Error::Malformed { what: WHAT, reason: format!("`{name}` is absent or no text") }),
    };
    let document = |body: String, chain: &str| {
        Arc::new(Document { body: body.into_bytes(), issuer_chain: chain.to_owned() })
    };
    // Texts go in as they are: the signature is over these bytes.
    let signed = |name: &str, body: &str, signature: &str| {
        format!("{{\"{name}\":{body},\"signature\":\"{signature}\"}}")
    };
    let mut collateral = Collateral::none();
    for need in needs(quote) {
        let document = match &need {
            Need::IntelRootCrl => document(text("root_ca_crl")?.to_owned(), ""),
            Need::IntelPckCrl { .. } => document(text("pck_crl")?.to_owned(), text("pck_crl_issuer_chain")?),
            Need::IntelTcbInfo { .. } => {
                let body = signed("tcbInfo", text("tcb_info")?, text("tcb_info_signature")?);
                document(body, text("tcb_info_issuer_chain")?)
            }
            Need::IntelQeIdentity { .. } => {
                let body = signed("enclaveIdentity", text("qe_identity")?, text("qe_identity_signature")?);
                document(body, text("qe_identity_issuer_chain")?)
            }
            _ => continue,
        };
        collateral.insert(need, document);
    }
    Ok(collateral)
}
