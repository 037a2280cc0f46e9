//! Real quotes and real collateral, as tests of several modules want them.

use std::sync::Arc;

use serde_json::Value;

use crate::collateral::{Collateral, Document, IntelTee, Need, PckCa};
pub(crate) use crate::testing::vector;

/// 2025-06-25: all collateral of the vectors `tdx_quote_collateral.json` and `sgx_quote_collateral.json` is good.
pub(crate) const JUNE_2025: u64 = 1_750_809_600;

/// Names checks that failed.
pub(crate) fn failed(checks: &[crate::Check]) -> Vec<&'static str> {
    checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}

/// A complete set of collateral from a vector's JSON.
pub(crate) fn collateral(name: &str, tee: IntelTee, fmspc: &str, ca: PckCa) -> Option<Collateral> {
    let json: Value = serde_json::from_slice(&vector(name)?).unwrap();
    let text = |field: &str| json[field].as_str().unwrap().to_owned();
    let document = |body: String, chain: &str| {
        let issuer_chain = if chain.is_empty() { String::new() } else { text(chain) };
        Arc::new(Document { body: body.into_bytes(), issuer_chain })
    };
    let signed = |name: &str, body: &str, signature: &str| {
        format!(r#"{{"{name}":{},"signature":"{}"}}"#, text(body), text(signature))
    };
    let mut out = Collateral::none();
    out.insert(Need::IntelRootCrl, document(text("root_ca_crl"), ""));
    out.insert(Need::IntelPckCrl { ca }, document(text("pck_crl"), "pck_crl_issuer_chain"));
    out.insert(
        Need::IntelTcbInfo { tee, fmspc: fmspc.to_owned() },
        document(signed("tcbInfo", "tcb_info", "tcb_info_signature"), "tcb_info_issuer_chain"),
    );
    out.insert(
        Need::IntelQeIdentity { tee },
        document(
            signed("enclaveIdentity", "qe_identity", "qe_identity_signature"),
            "qe_identity_issuer_chain",
        ),
    );
    Some(out)
}

/// Collateral of the vector `tdx/tdx_quote`.
pub(crate) fn tdx_collateral() -> Option<Collateral> {
    collateral("tdx/tdx_quote_collateral.json", IntelTee::Tdx, "b0c06f000000", PckCa::Platform)
}

/// Collateral of the vector `sgx/sgx_quote`.
pub(crate) fn sgx_collateral() -> Option<Collateral> {
    collateral("sgx/sgx_quote_collateral.json", IntelTee::Sgx, "00a067110000", PckCa::Processor)
}

/// The platform that a quote's certificate describes.
pub(crate) fn pck(quote: &super::Quote) -> super::Pck {
    let [leaf, ..] = super::chain::read(&quote.chain).unwrap();
    super::Pck::of(&leaf).unwrap()
}
