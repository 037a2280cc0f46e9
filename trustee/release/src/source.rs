//! Where shared secrets may live instead of Trustee's own store.

use zeroize::Zeroizing;

use crate::ResourcePath;

/// A foreign home of shared secrets: a Vault, a hardware token. Calls may wait for a network.
pub trait SharedSource: Send + Sync {
    /// The value, if there is one.
    fn get(&self, path: &ResourcePath) -> Result<Option<Zeroizing<Vec<u8>>>, String>;

    /// Sets the value.
    fn put(&self, path: &ResourcePath, value: &[u8]) -> Result<(), String>;

    /// Removes it; whether there was one.
    fn delete(&self, path: &ResourcePath) -> Result<bool, String>;

    /// The paths; `None` where this home cannot list.
    fn list(&self) -> Result<Option<Vec<String>>, String>;
}
