//! The simulated secure processor: SNP reports of genuine format on a machine that has no TEE.
//!
//! Contract: it runs on the untrusted host, in the process that boots the pod VM, and proves nothing to anybody. It holds a
//! self-made ARK→ASK→VCEK chain whose every name says SIMULATED and signs what its caller tells it about the guest. Only a
//! Trustee that was told to accept this very root accepts its reports, and says so in every token. It must never use a name
//! that could pass for AMD's, and never be reachable by a production Trustee's default configuration.

mod certificates;
mod error;
mod files;
mod processor;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use processor::{GuestContext, REQUEST_LEN, SecureProcessor};
