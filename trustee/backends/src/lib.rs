//! Foreign homes of Trustee's secrets: a Vault, a PKCS#11 token, an operator's own command.
//!
//! Runs inside Trustee, on the workload owner's side. [`Vault`] and [`Pkcs11Source`] keep shared secrets
//! ([`cocoon_release::SharedSource`]); [`Pkcs11Key`] and [`CommandKey`] protect the key that seals Trustee's own store
//! ([`KeyProtector`]); [`Provisioner`] and [`Pkcs11Wrap`] are the logic of upstream's plugins of those names
//! (trustee.md §1.5).
//!
//! Answers of a Vault and outputs of a command are hostile: bounded in size and time, parsed without panic. A PKCS#11
//! module is code inside this process and is trusted like it; its calls cannot be cut off. Nothing here writes a
//! secret, a token or a PIN to a log, an error, an environment or an argument. Every call is synchronous and may wait:
//! async callers use a blocking thread. TLS verification cannot be switched off.

mod bridge;
mod command;
mod error;
mod pkcs11;
mod protector;
mod provisioner;
mod secret;
mod vault;

pub use command::{CommandKey, CommandKeyConfig};
pub use error::Error;
pub use pkcs11::{
    KeyWrapping, Pkcs11Key, Pkcs11KeyConfig, Pkcs11Source, Pkcs11Wrap, RsaMechanism, Token, TokenConfig,
    TokenSelector,
};
pub use protector::KeyProtector;
pub use provisioner::{ProvisionRequest, Provisioned, Provisioner, ProvisionerCall, provisioned_uuid};
pub use vault::{KvVersion, Vault, VaultConfig};
