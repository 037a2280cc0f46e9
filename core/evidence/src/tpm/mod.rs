//! TPM 2.0: quotes of platform registers, the keys that sign them, and how such a key comes to be trusted.
//!
//! A quote is only as good as its key. Anybody can make a key and sign a made-up quote with it, so a key that came with the
//! evidence is never trusted for that: it must have been enrolled (best by credential activation, which proves that it lives
//! in a TPM whose vendor certified it, see [`enrol`]) or be named by a reference value.
//!
//! Registers are what the quote selects, never what their place in a list suggests: evidence presents registers 0, 1, 2 … of
//! one bank, and a quote that selects anything else is refused.
//!
//! Source: TCG, TPM 2.0 Library Specification, revision 1.59, parts 1 and 2.

mod activation;
mod algorithm;
mod claims;
pub mod endorsement;
pub mod enrol;
mod evidence;
mod public;
mod quote;
mod quoted;
mod registers;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

pub use activation::{Challenge, SECRET, fresh_secret, is_secret, make_credential};
pub(crate) use algorithm::hashed;
pub(crate) use claims::tpm_state;
pub use claims::unverified;
pub use evidence::Evidence;
pub use public::{Attributes, Public, Symmetric};
pub use quote::{Clock, Quote, Selection, Signature};
pub(crate) use quote::{MAX_MESSAGE, MAX_SIGNATURE};
pub use quoted::Quoted;
pub use registers::{REGISTERS, Registers};
pub use verify::{Enrolled, Trust, verify};
