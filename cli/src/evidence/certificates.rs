//! Certificates, revocation lists and bundles of vendors' documents, readable.

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_collateral::bundle;
use cocoon_evidence::x509::{Certificate, Crl, PublicKey, Validity};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use super::describe::counted;
use super::parts::Part;
use crate::moments;

/// A certificate.
pub fn certificate(c: &Certificate) -> Value {
    let key = c.key().map_or_else(
        |e| e.to_string(),
        |key| match &key {
            PublicKey::Rsa(_) => {
                format!("RSA, {} bits", key.rsa_components().map_or(0, |(n, _)| n.len() * 8))
            }
            PublicKey::Ec(curve, _) => format!("{curve:?}"),
        },
    );
    json!({
        "subject": c.subject(),
        "issuer": c.issuer(),
        // AMD numbers all its certificates 0, of which nothing is left without leading zeros.
        "serial": if c.serial().is_empty() { "00".to_owned() } else { hex::encode(c.serial()) },
        "valid": valid(c.validity()),
        "authority": c.is_authority(),
        "key": key,
        "sha256": hex::encode(digest(&SHA256, c.der())),
    })
}

/// A revocation list.
pub fn revocations(crl: &Crl) -> Value {
    json!({ "valid": valid(crl.validity()), "number": crl.number(), "revoked": crl.len() })
}

/// First and last second.
pub fn valid(validity: Validity) -> String {
    format!("{} to {}", moments::shown(validity.not_before), moments::shown(validity.not_after))
}

/// What `cocoon collateral export` wrote.
pub fn bundle(value: &Value) -> Result<Part, Failure> {
    let bytes = serde_json::to_vec(value).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    let contents = bundle::read(&bytes, crate::embedded::now())?;
    let document = |entry: &cocoon_collateral::Entry| {
        json!({
            "document": entry.need.to_string(),
            "valid": entry.validity.map_or_else(|| "no end".into(), valid),
            "bytes": entry.size(),
        })
    };
    let documents: Vec<Value> = contents.entries.iter().map(document).collect();
    let format = format!("collateral bundle (JSON, {})", counted(documents.len(), "document"));
    let shown = json!({ "documents": documents, "refused": contents.refused });
    Ok(Part::new("collateral-bundle", format, "name it with --collateral beside evidence", shown))
}
