//! A TPM on its own: measured boot by firmware and kernel, initdata in register 8, quotes by a key that the TPM proves.
//!
//! A TPM does not protect the guest's memory, and who feeds it says what booted. Its evidence is worth what its maker and the
//! machine's owner are; Trustee's owner names the makers.

mod attester;
mod commands;
mod device;
mod wire;

pub(crate) use attester::TpmAttester;
pub use attester::attester_over;
pub use commands::{Loaded, Tpm};
pub use device::{DEVICE, bind_initdata};
pub use wire::{Channel, Error};

use aws_lc_rs::digest::{SHA256, digest};

/// A register's value after it was extended once, from zero.
fn extended(digest_of: &[u8; 32]) -> [u8; 32] {
    let value = digest(&SHA256, &[[0; 32], *digest_of].concat());
    let mut out = [0; 32];
    out.iter_mut().zip(value.as_ref()).for_each(|(to, from)| *to = *from);
    out
}
