//! OpenPGP (RFC 9580, and RFC 4880 as GnuPG 2 writes it) as far as signed messages need it: version 4 keys and signatures.
//!
//! Nothing here encrypts, and nothing falls back: what is unknown, weak (MD5, SHA-1, RSA below 2048 bits, DSA) or out of
//! bounds is refused by name.

mod armor;
mod key;
mod keyring;
mod message;
mod packet;
mod reader;
mod signature;

pub use keyring::Keyring;
pub(super) use message::Message;

use cocoon_image::Error;

/// A signed message that cannot be taken.
fn invalid(why: impl std::fmt::Display) -> Error {
    Error::SignatureInvalid(format!("the signed message: {why}"))
}

/// Reads big-endian fields off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn short(&mut self) -> Option<usize> {
        self.take(2).and_then(|b| b.try_into().ok()).map(|b| usize::from(u16::from_be_bytes(b)))
    }

    fn word(&mut self) -> Option<u32> {
        self.take(4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
    }

    /// A multiprecision integer's bytes, without leading zeros where the writer kept to the rules.
    fn mpi(&mut self) -> Option<&'a [u8]> {
        let bits = self.short()?;
        self.take(bits.div_ceil(8))
    }
}
