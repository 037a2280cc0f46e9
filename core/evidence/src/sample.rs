//! Evidence without any hardware (`sample`, `sampledevice`): anybody can write it, so it proves nothing.
//!
//! It exists to try a Trustee. A caller must have been told explicitly to accept it; the verdict always says `simulated`.
//!
//! Form: `{"svn": text or number, "report_data": standard base64}` (Trustee's sample attester).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use serde_json::{Value, json};

use crate::{Check, Error, Verdict};

const CALLER: &str = "the challenge";
/// Most bytes of report data.
const MAX_REPORT_DATA: usize = 64;
/// Longest security version.
const MAX_SVN: usize = 64;

/// Parsed sample evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Security version, as text.
    pub svn: String,
    /// At most 64 bytes.
    pub report_data: Vec<u8>,
}

impl Evidence {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`Error::Field`] where a member is absent, of another type or too long.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let bad = |field, reason| Error::Field { field, reason };
        let svn = match value.get("svn") {
            Some(Value::String(text)) if text.len() <= MAX_SVN => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => return Err(bad("svn", "must be a short text or a number")),
        };
        let report_data = value
            .get("report_data")
            .and_then(Value::as_str)
            .filter(|text| text.len() <= 2 * MAX_REPORT_DATA)
            .and_then(|text| STANDARD.decode(text).ok())
            .filter(|bytes| bytes.len() <= MAX_REPORT_DATA)
            .ok_or_else(|| bad("report_data", "must be base64 of at most 64 bytes"))?;
        Ok(Evidence { svn, report_data })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        json!({ "svn": self.svn, "report_data": STANDARD.encode(&self.report_data) })
    }
}

/// Compares the report data; `None` expects nothing of it. `accepted` is whether the operator of the verifier takes
/// evidence that proves nothing.
///
/// Claims: `svn`, `report_data` (base64), `launch_digest`, `platform_version`, `debug` as upstream's verifier gives
/// them, and `simulated: true`.
pub fn verify(evidence: &Evidence, accepted: bool, report_data: Option<&[u8]>) -> Verdict {
    let mut checks = vec![Check::new(
        "sample.accepted",
        accepted,
        Code::AttestSimulatedRefused,
        "evidence that a TEE made",
        "sample evidence, which proves nothing",
        "this Trustee's settings",
    )];
    if let Some(expected) = report_data {
        checks.push(Check::new(
            "sample.report-data",
            same(&evidence.report_data, expected),
            Code::AttestReportDataMismatch,
            hex::encode(expected),
            hex::encode(&evidence.report_data),
            CALLER,
        ));
    }
    let mut verdict = Verdict { checks, claims: Value::Null, simulated: true };
    if verdict.ok() {
        let (major, minor) = (1, 4);
        verdict.claims = json!({
            "svn": evidence.svn,
            "report_data": STANDARD.encode(&evidence.report_data),
            "launch_digest": "abcde",
            "platform_version": { "major": major, "minor": minor },
            "debug": false,
            "simulated": true,
        });
    }
    verdict
}

/// Equal when both are filled with zeros to the same length; nothing at all equals nothing.
fn same(got: &[u8], expected: &[u8]) -> bool {
    let at = |bytes: &[u8], i: usize| bytes.get(i).copied().unwrap_or(0);
    !expected.is_empty()
        && !got.is_empty()
        && expected.len() <= MAX_REPORT_DATA
        && (0..MAX_REPORT_DATA).all(|i| at(got, i) == at(expected, i))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn evidence(report_data: &[u8]) -> Evidence {
        Evidence { svn: "1".into(), report_data: report_data.to_vec() }
    }

    #[test]
    fn it_is_refused_unless_switched_on_and_always_labelled() {
        let refused = verify(&evidence(&[7; 48]), false, Some(&[7; 48]));
        assert_eq!(refused.failure().unwrap().code, Code::AttestSimulatedRefused);
        assert!(refused.simulated && refused.claims.is_null());
        let fine = verify(&evidence(&[7; 48]), true, Some(&[7; 48]));
        assert!(fine.ok() && fine.simulated && fine.claims["simulated"] == true);
    }

    #[test]
    fn report_data_is_compared_zero_padded() {
        let padded = [[7u8; 48].as_slice(), &[0; 16]].concat();
        assert!(verify(&evidence(&padded), true, Some(&[7; 48])).ok());
        assert!(verify(&evidence(&[7; 48]), true, Some(&padded)).ok());
        for (got, expected) in
            [(&[7u8; 48][..], &[8u8; 48][..]), (&[7; 47], &[7; 48]), (&[], &[]), (&[0], &[])]
        {
            assert!(!verify(&evidence(got), true, Some(expected)).ok());
        }
        assert!(verify(&evidence(&[1]), true, None).ok(), "a caller that expects nothing");
    }

    #[test]
    fn malformed_evidence_is_named() {
        assert_eq!(Evidence::from_json(&evidence(&[1, 2]).to_json()).unwrap(), evidence(&[1, 2]));
        for bad in [
            json!({}),
            json!({"svn": "1"}),
            json!({"report_data": "AA=="}),
            json!({"svn": ["1"], "report_data": "AA=="}),
            json!({"svn": "1", "report_data": "%"}),
            json!({"svn": "1", "report_data": "A".repeat(1 << 20)}),
            json!({"svn": "1".repeat(65), "report_data": "AA=="}),
        ] {
            assert!(Evidence::from_json(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(svn in "\\PC{0,80}", data in "\\PC{0,140}") {
            let _ = Evidence::from_json(&json!({"svn": svn, "report_data": data}));
        }
    }
}
