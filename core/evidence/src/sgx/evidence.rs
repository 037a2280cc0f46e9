//! The evidence as CoCo's attesters send it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::collateral::Need;
use crate::dcap::{Body, EnclaveReport, MAX_QUOTE, Quote};
use crate::tdx::decode;
use crate::{Error, dcap};

/// An enclave's quote.
///
/// JSON: `{"quote": "<base64>"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    quote: Quote,
    report: Box<EnclaveReport>,
}

impl Evidence {
    /// Evidence of a quote as it comes from the quoting enclave.
    ///
    /// # Errors
    /// Whatever [`Quote::parse`] refuses; [`Error::Unsupported`] for quotes of TDs and for versions other than 3.
    pub fn new(quote: &[u8]) -> Result<Self, Error> {
        let quote = Quote::parse(quote)?;
        match (&quote.body, quote.header.version) {
            (Body::Enclave(report), 3) => {
                let report = report.clone();
                Ok(Evidence { quote, report })
            }
            (_, version) => {
                let got = format!("a quote of a TD or of version {version}");
                Err(Error::Unsupported { what: "SGX evidence", got })
            }
        }
    }

    /// Reads the JSON value.
    ///
    /// # Errors
    /// [`Error::Field`] for a field that is missing, too long or not base64; else as [`Evidence::new`].
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let quote = decode("quote", value.get("quote"), MAX_QUOTE)?;
        Evidence::new(&quote.ok_or(Error::Field { field: "quote", reason: "missing" })?)
    }

    /// The JSON value.
    pub fn to_json(&self) -> Value {
        json!({ "quote": STANDARD.encode(self.quote.bytes()) })
    }

    /// The quote.
    pub fn quote(&self) -> &Quote {
        &self.quote
    }

    /// The enclave's report.
    pub fn report(&self) -> &EnclaveReport {
        &self.report
    }
}

/// What verification needs beside the evidence.
pub fn needs(evidence: &Evidence) -> Vec<Need> {
    dcap::needs(&evidence.quote)
}
