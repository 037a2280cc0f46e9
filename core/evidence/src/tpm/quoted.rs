//! A quote with its signature and the registers presented beside it: what generic TPMs and Azure's vTPMs share.

use cocoon_stage::Code;

use super::quote::{Quote, Signature};
use super::registers::{Registers, check_nonce};
use crate::x509::PublicKey;
use crate::{Check, Error};

/// A parsed quote, the bytes that were signed, the signature and the registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    message: Vec<u8>,
    signature: Vec<u8>,
    quote: Quote,
    parsed: Signature,
    registers: Registers,
}

impl Quoted {
    /// From a `TPMS_ATTEST` and a `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// As [`Quote::parse`] and [`Signature::parse`].
    pub fn new(message: Vec<u8>, signature: Vec<u8>, registers: Registers) -> Result<Self, Error> {
        let (quote, parsed) = (Quote::parse(&message)?, Signature::parse(&signature)?);
        Ok(Quoted { message, signature, quote, parsed, registers })
    }

    /// From a `TPMS_ATTEST` and a bare RSASSA signature with SHA-256, as Azure's attesters send it.
    ///
    /// # Errors
    /// As [`Quote::parse`].
    pub(crate) fn bare(message: Vec<u8>, signature: Vec<u8>, registers: Registers) -> Result<Self, Error> {
        let (quote, parsed) = (Quote::parse(&message)?, Signature::rsassa_sha256(&signature));
        Ok(Quoted { message, signature, quote, parsed, registers })
    }

    /// The bytes that were signed.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The signature as it was sent.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// What was signed.
    pub fn quote(&self) -> &Quote {
        &self.quote
    }

    /// The registers presented.
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// Signature, selection and digest; without a key, the signature's check fails.
    pub(crate) fn checks(&self, key: Option<&PublicKey>) -> Vec<Check> {
        let signature = match key {
            Some(key) => self.parsed.check(key, &self.message),
            None => {
                let code = Code::AttestSignatureInvalid;
                let (expected, got) = ("a signature by the attestation key", "no key to verify it with");
                Check::new(
                    "tpm.signature",
                    false,
                    code,
                    expected,
                    got,
                    "TPM 2.0 part 2, 11.3.4 TPMT_SIGNATURE",
                )
            }
        };
        let selection = self.registers.check_selection(&self.quote);
        vec![signature, selection, self.registers.check_digest(&self.quote, &self.parsed)]
    }

    /// That exactly these bytes are the quote's qualifying data; `None` is met by nothing.
    pub(crate) fn check_nonce(&self, expected: Option<&[u8]>) -> Check {
        check_nonce(&self.quote, expected)
    }
}
