//! Finds an image's signatures where their makers put them, and has them decided by policy.
//!
//! Contract: what registries and look-aside places give is hostile. Nothing found is verified here; `cocoon_signature`
//! does that, and [`check`] lets nothing through that it did not accept. Places can hide signatures, which refuses the
//! image; they cannot make one acceptable. What could hide a signature by accident (an outage, a refusal, a malformed
//! list) is an error and not "none"; one signature that is broken does not hide another that is good. At most
//! [`MAX_SIGNATURES`] of each kind are read, each within its own limit. Used in the guest and on the owner's machine.

mod attached;
mod check;
mod error;
mod find;
mod lookaside;
mod tagged;

pub use check::check;
pub use error::Error;
pub use find::{Places, find};

/// Most signatures of one kind that are read for one image.
pub const MAX_SIGNATURES: usize = 32;
