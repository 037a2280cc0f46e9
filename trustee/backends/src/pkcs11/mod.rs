//! PKCS#11: secrets and keys in a hardware token.

mod key;
mod module;
mod source;
mod token;
mod wrap;

pub use key::{KeyWrapping, Pkcs11Key, Pkcs11KeyConfig};
pub use source::Pkcs11Source;
pub use token::{Token, TokenConfig, TokenSelector};
pub use wrap::{Pkcs11Wrap, RsaMechanism};
