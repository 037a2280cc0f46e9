//! Where things are kept. `COCOON_DATA_DIR` moves all of it.

use std::path::PathBuf;

use cocoon_stage::{Code, Failure, Stage};

/// The user's data folder: `$COCOON_DATA_DIR`, else `$XDG_DATA_HOME/cocoon`, else `~/.local/share/cocoon`.
pub fn data_dir() -> Result<PathBuf, Failure> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("COCOON_DATA_DIR")
        .or_else(|| var("XDG_DATA_HOME").map(|d| d.join("cocoon")))
        .or_else(|| var("HOME").map(|h| h.join(".local/share/cocoon")))
        .ok_or_else(|| Failure::new(Code::HostUnsupported, "neither COCOON_DATA_DIR nor HOME is set"))
}

/// The guest image's folder: `$COCOON_GUEST_IMAGE`, else `guest` in the data folder.
pub fn guest_dir() -> Result<PathBuf, Failure> {
    match std::env::var_os("COCOON_GUEST_IMAGE").filter(|v| !v.is_empty()) {
        Some(dir) => Ok(dir.into()),
        None => Ok(data_dir()?.join("guest")),
    }
}

/// Where the embedded Trustee caches vendors' documents.
pub fn collateral_dir() -> Result<PathBuf, Failure> {
    Ok(data_dir()?.join("trustee/collateral"))
}

/// A new private folder's name for one run's sockets. Short, since unix socket paths hold 107 bytes.
pub fn run_dir(id: &str) -> PathBuf {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/run"), PathBuf::from);
    let base = if base.is_dir() { base } else { std::env::temp_dir() };
    base.join(format!("cocoon-{id}"))
}

/// Random lower-case hex of `bytes` bytes.
pub fn random_hex(bytes: usize) -> Result<String, Failure> {
    let mut buffer = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut buffer)
        .map_err(|_| Failure::new(Code::Internal, "no random numbers").at(Stage::Plan))?;
    Ok(hex::encode(buffer))
}
