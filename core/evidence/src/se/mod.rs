//! IBM Secure Execution for Linux: attestation of a guest by the Ultravisor of an IBM Z or LinuxONE machine.
//!
//! Unlike other TEEs there is no signed report. The verifier draws a secret measurement key, encrypts it for the machines it
//! trusts (their *host keys*) in an attestation request, and the Ultravisor answers with an HMAC by that key. So trust rests
//! on three things that are the verifier's own: which host keys it encrypts for ([`HostKey`], verified to the roots of the
//! caller with revocation lists), which image it expects ([`Header`]), and that nobody else knows the measurement key.
//!
//! The guest gets the request as the challenge's nonce, and sends two members of it back unread. They hold the key and the
//! rest of the challenge's state, sealed by AES-256-GCM under a key of the verifier ([`SealingKey`]): a verifier need not
//! remember challenges, and nothing that a client returns is trusted unless the seal is intact and young. Every way in which
//! the state can be unusable gives the same check with the same text. Within its lifetime a state opens more than once; that a
//! nonce is answered once only is the caller's to see to, as for every TEE.
//!
//! Report data: the guest's kernel passes it as user data, 64 bytes (a shorter digest zero-padded). Init-data: nothing binds
//! it, so evidence of which init-data is expected fails. The image's own configuration is covered by its header.
//!
//! Sources: IBM, "Introducing IBM Secure Execution for Linux" (SC34-7721) and the request, measurement and header formats as
//! s390-tools (`pvattest`, `rust/pv`) document and implement them; the JSON forms are those that CoCo's attester and verifier
//! exchange. All numbers are big endian.
//!
//! What could not be tried: no machine and no recorded evidence were at hand. The measurement's layout is checked against
//! values that s390-tools publishes; the request is checked by a model of the Ultravisor written from the same description.
//! IBM's real host key documents and revocation lists were not at hand either.

mod claims;
mod evidence;
mod header;
mod host_key;
mod measurement;
mod names;
mod request;
mod state;
#[cfg(test)]
mod tests;
mod verify;

pub use claims::unverified;
pub use evidence::Evidence;
pub use header::{Header, HeaderTags};
pub use host_key::{HostKey, HostKeyTrust};
pub use request::{Config, challenge};
pub use state::SealingKey;
pub use verify::verify;
