//! `[secrets]` and `[[plugins]]`.

use std::path::PathBuf;
use std::time::Duration;

use super::state::{Given, TokenChoice};

/// Where shared secrets live.
#[derive(Clone, Debug, PartialEq)]
pub enum Secrets {
    /// Sealed in Trustee's state.
    Store,
    /// In a Vault.
    Vault(Vault),
    /// In a PKCS#11 token.
    Pkcs11(Pkcs11Secrets),
}

/// A HashiCorp Vault or OpenBao.
#[derive(Clone, Debug, PartialEq)]
pub struct Vault {
    /// Its URL; http only to this machine.
    pub url: String,
    /// Version of the KV engine.
    pub kv_version: KvVersion,
    /// Where the engine is mounted.
    pub mount: String,
    /// The token.
    pub token: Given,
    /// PEM file of its authorities; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Put before each path.
    pub prefix: Option<String>,
}

/// Version of Vault's KV engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvVersion {
    /// Without versions of values.
    V1,
    /// With them.
    V2,
}

/// Secrets in a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Pkcs11Secrets {
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// Which token.
    pub token: TokenChoice,
    /// File of the user PIN.
    pub pin_file: PathBuf,
}

/// A further service under `/kbs/v0`.
#[derive(Clone, Debug, PartialEq)]
pub enum Plugin {
    /// A gRPC service, `/kbs/v0/external/NAME/…`.
    External(ExternalPlugin),
    /// Disk keys for VMs.
    Provisioner {
        /// Length of a key, in bytes.
        key_bytes: usize,
    },
    /// A token that stores, wraps and unwraps.
    Pkcs11(Pkcs11Plugin),
}

/// A gRPC service.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalPlugin {
    /// Its name, unique among external plugins.
    pub name: String,
    /// Its URL; http only to this machine.
    pub endpoint: String,
    /// PEM file of its authorities.
    pub ca_file: Option<PathBuf>,
    /// How long a call may take.
    pub time: Duration,
    /// PEM files to show: chain and private key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The token of the `pkcs11` plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Pkcs11Plugin {
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// Which token.
    pub token: TokenChoice,
    /// Label of the RSA key pair that wraps.
    pub key_label: Option<String>,
    /// The user PIN.
    pub pin: Given,
}
