//! Registers that are presented beside a quote, and whether the quote is of just these.

use cocoon_stage::Code;

use super::algorithm::{hashed, id_of, name_of};
use super::quote::{Quote, Signature};
use crate::x509::Hash;
use crate::{Check, Error};

/// Registers of a bank, as the platform specifications have them.
pub const REGISTERS: usize = 24;
/// The register into which a guest's boot extends the initdata's digest.
const INIT_DATA: usize = 8;

const QUOTE: &str = "TPM 2.0 part 2, 10.12.1 TPMS_QUOTE_INFO";
const CALLER: &str = "the challenge";
const INITDATA: &str = "the presented initdata";

/// Values of registers 0, 1, 2 … of one bank. What stands where says which register it is, so a quote of any other
/// selection, or of another bank, is none of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    bank: Hash,
    values: Vec<Vec<u8>>,
}

impl Registers {
    /// One to 24 values, each as long as the bank's digests.
    ///
    /// # Errors
    /// [`Error::Field`] for another number or length.
    pub fn new(bank: Hash, values: Vec<Vec<u8>>) -> Result<Self, Error> {
        let bad = |reason| Err(Error::Field { field: "pcrs", reason });
        if values.is_empty() || values.len() > REGISTERS {
            return bad("not 1 to 24 registers");
        }
        if values.iter().any(|value| value.len() != bank.length()) {
            return bad("a value of another length than the bank's digests");
        }
        Ok(Registers { bank, values })
    }

    /// The bank.
    pub fn bank(&self) -> Hash {
        self.bank
    }

    /// The values, register 0 first.
    pub fn values(&self) -> &[Vec<u8>] {
        &self.values
    }

    /// Names (`pcr00` …) and values in hex, as claims have them.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (String, String)> {
        self.values.iter().enumerate().map(|(n, value)| (format!("pcr{n:02}"), hex::encode(value)))
    }

    /// Value of the register that holds the initdata's digest, hex; empty where it was not presented.
    pub(crate) fn init_data_claim(&self) -> String {
        self.values.get(INIT_DATA).map(hex::encode).unwrap_or_default()
    }

    /// Whether the quote selects exactly these registers of exactly this bank.
    pub(crate) fn check_selection(&self, quote: &Quote) -> Check {
        let ok = match quote.selections.as_slice() {
            [one] => {
                let numbers = one.registers.iter().map(|n| usize::try_from(*n).ok());
                one.bank == id_of(self.bank) && numbers.eq((0..self.values.len()).map(Some))
            }
            _ => false,
        };
        let got = match quote.selections.as_slice() {
            [one] => format!("{:?} of bank {:#06x}", one.registers, one.bank),
            other => format!("{} banks", other.len()),
        };
        let last = self.values.len().saturating_sub(1);
        let expected =
            format!("registers 0 to {last} of bank {:#06x} ({})", id_of(self.bank), name_of(self.bank));
        Check::new("tpm.pcr-selection", ok, Code::AttestPcrSelection, expected, got, QUOTE)
    }

    /// Whether the quote's digest is of these values. The digest's hash is the signature's, whatever the bank's is.
    pub(crate) fn check_digest(&self, quote: &Quote, signature: &Signature) -> Check {
        let parts: Vec<&[u8]> = self.values.iter().map(Vec::as_slice).collect();
        let digest = hashed(signature.hash(), &parts);
        Check::new(
            "tpm.pcr-digest",
            digest == quote.pcr_digest,
            Code::AttestSignatureInvalid,
            format!("{} (of the registers presented)", hex::encode(&digest)),
            hex::encode(&quote.pcr_digest),
            QUOTE,
        )
    }

    /// Whether register 8 of the SHA-256 bank holds just the initdata's digest: extended once, from zero. Guests extend that
    /// bank alone; in another the register is still free for whatever runs later.
    pub(crate) fn check_init_data(&self, digest: &[u8]) -> Check {
        let length = self.bank.length();
        let value = self.values.get(INIT_DATA);
        let extended = (self.bank == Hash::Sha256 && digest.len() == length)
            .then(|| hashed(self.bank, &[vec![0; length].as_slice(), digest]));
        let ok = extended.is_some() && extended.as_ref() == value;
        let expected = match &extended {
            Some(extended) => format!("PCR 8 {}", hex::encode(extended)),
            None if self.bank != Hash::Sha256 => {
                format!("registers of the SHA-256 bank, not of {}", name_of(self.bank))
            }
            None => {
                format!("a digest of {length} bytes (this one has {}), which the bank can hold", digest.len())
            }
        };
        let got = value.map_or("no PCR 8".to_owned(), |value| format!("PCR 8 {}", hex::encode(value)));
        Check::new("tpm.init-data", ok, Code::AttestInitdataMismatch, expected, got, INITDATA)
    }
}

/// Whether a quote was made for the challenge; `expected` is what must stand in it, `None` what nothing meets.
pub(crate) fn check_nonce(quote: &Quote, expected: Option<&[u8]>) -> Check {
    let ok = expected == Some(quote.extra_data.as_slice());
    let text = |bytes: &[u8]| match bytes.len() {
        0 => "nothing".to_owned(),
        1..=64 => hex::encode(bytes),
        length => format!("{length} bytes"),
    };
    let expected = expected.map_or("a challenge that is not empty".to_owned(), text);
    let got = text(&quote.extra_data);
    Check::new("tpm.report-data", ok, Code::AttestReportDataMismatch, expected, got, CALLER)
}
