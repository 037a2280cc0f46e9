//! Folders that other tools fill: CoCo's offline store of VCEKs, and Hygon's certificates as its tools keep them.
//!
//! `vcek/<chip id>/bl02_tee00_snp06_ucode21[_fmc01]_vcek.der`, else `vcek/<chip id>/vcek.der`;
//! `hsk_cek/<serial number>/hsk_cek.cert`.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use cocoon_evidence::collateral::{Document, Need, freshness};
use rustix::fs::{Mode, OFlags};

use crate::{Error, Provider};

/// A folder of one document per file, read at each use.
#[derive(Debug)]
pub struct OfflineStore {
    folder: PathBuf,
    name: String,
}

impl OfflineStore {
    /// The folder need not exist yet.
    pub fn new(folder: &Path) -> Self {
        OfflineStore { folder: folder.to_owned(), name: folder.display().to_string() }
    }
}

/// Where the document may lie, most exact first.
fn candidates(need: &Need) -> Vec<String> {
    match need {
        Need::AmdVcek { chip_id, tcb, .. } => {
            let (bl, tee, snp, ucode) = (tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode);
            let mut exact = format!("vcek/{chip_id}/bl{bl:02}_tee{tee:02}_snp{snp:02}_ucode{ucode:02}");
            if let Some(fmc) = tcb.fmc {
                let _ = write!(exact, "_fmc{fmc:02}");
            }
            vec![format!("{exact}_vcek.der"), format!("vcek/{chip_id}/vcek.der")]
        }
        Need::HygonCertificates { chip_id } => vec![format!("hsk_cek/{chip_id}/hsk_cek.cert")],
        _ => Vec::new(),
    }
}

fn find(folder: &Path, need: &Need) -> Result<Option<Document>, Error> {
    for candidate in candidates(need) {
        let path = folder.join(candidate);
        let Some(body) = read_limited(&path, need.max_body())? else { continue };
        let document = Document { body, issuer_chain: String::new() };
        // A `vcek.der` may be of another TCB: then it is not the one.
        if freshness(need, &document).is_ok() {
            return Ok(Some(document));
        }
        tracing::warn!(path = %path.display(), "not the document that its name says");
    }
    Ok(None)
}

#[async_trait]
impl Provider for OfflineStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn fetch(&self, need: &Need) -> Result<Document, Error> {
        need.check().map_err(Error::Need)?;
        let (folder, need) = (self.folder.clone(), need.clone());
        tokio::task::spawn_blocking(move || find(&folder, &need))
            .await
            .map_err(|e| Error::Unreachable { at: self.name.clone(), problem: e.to_string() })??
            .ok_or_else(|| Error::NotFound { at: self.name.clone() })
    }
}

/// A regular file of at most `limit` bytes; `None` where there is none. Never waits for a pipe or a device.
///
/// # Errors
/// [`Error::File`] where it is something else, too large or unreadable.
pub(crate) fn read_limited(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, Error> {
    // Links are followed: mounted configuration is made of them.
    read_with(path, limit, OFlags::empty())
}

/// [`read_limited`] that takes a link for no file.
///
/// # Errors
/// The same.
pub(crate) fn read_own(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, Error> {
    read_with(path, limit, OFlags::NOFOLLOW)
}

fn read_with(path: &Path, limit: usize, more: OFlags) -> Result<Option<Vec<u8>>, Error> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => std::fs::File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(e) => return Err(Error::file(path, e)),
    };
    let metadata = file.metadata().map_err(|e| Error::file(path, e))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "not a file"));
    }
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::file(path, e))?;
    if bytes.len() > limit {
        return Err(Error::file(path, format_args!("more than {limit} bytes")));
    }
    Ok(Some(bytes))
}
