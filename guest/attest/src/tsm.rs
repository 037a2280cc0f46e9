//! The kernel's configfs-tsm report interface (Documentation/ABI/testing/configfs-tsm): one folder per request.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use cocoon_stage::Failure;

use crate::unavailable;

const ROOT: &str = "/sys/kernel/config/tsm/report";

/// What one report request gave.
pub(crate) struct TsmReport {
    /// `outblob`: the report itself.
    pub(crate) report: Vec<u8>,
    /// `auxblob`: certificates, where the host supplied them; empty otherwise.
    pub(crate) aux: Vec<u8>,
}

struct Entry(PathBuf);

impl Drop for Entry {
    fn drop(&mut self) {
        // configfs folders are removed with rmdir; their attributes go with them.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A name that no other request of this process has, for as long as it runs: evidence may be asked for twice at once.
fn entry_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("cocoon-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Requests a report; `provider` is the driver's name that must answer, such as `sev_guest`.
pub(crate) fn report(provider: &str, report_data: &[u8; 64]) -> Result<TsmReport, Failure> {
    let entry = Entry(PathBuf::from(ROOT).join(entry_name()));
    let fail = |what: &str, e: std::io::Error| unavailable(format!("configfs-tsm {what}: {e}"));
    fs::create_dir(&entry.0).map_err(|e| fail("entry", e))?;
    let found = fs::read_to_string(entry.0.join("provider")).map_err(|e| fail("provider", e))?;
    if found.trim() != provider {
        return Err(unavailable(format!("configfs-tsm provider is {:?}, not {provider}", found.trim())));
    }
    fs::write(entry.0.join("inblob"), report_data).map_err(|e| fail("inblob", e))?;
    let report = fs::read(entry.0.join("outblob")).map_err(|e| fail("outblob", e))?;
    // One writer made one request: generation 1. Anything else means that somebody else wrote here.
    let generation = fs::read_to_string(entry.0.join("generation")).map_err(|e| fail("generation", e))?;
    if generation.trim() != "1" {
        return Err(unavailable("configfs-tsm entry was written by somebody else"));
    }
    let aux = fs::read(entry.0.join("auxblob")).unwrap_or_default();
    Ok(TsmReport { report, aux })
}

#[cfg(test)]
mod tests {
    #[test]
    fn requests_at_once_have_entries_of_their_own() {
        assert_ne!(super::entry_name(), super::entry_name());
    }
}
