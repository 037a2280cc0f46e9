//! Shared layers that the plan wants attached: from the node's cache, whose missing ones `cocoon layers fetch` makes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cocoon_layers::{Cache, Lease, Pinned};
use cocoon_plan::Plan;
use cocoon_protocol::initdata::InitData;
use cocoon_sandbox::Disk;
use cocoon_stage::{Code, Failure, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Names the program that fetches layers, in place of the one beside this and on the PATH.
const VARIABLE: &str = "COCOON_PROGRAM";
/// Its name.
const PROGRAM: &str = "cocoon";
/// Most of its last words that are kept, in bytes.
const WORDS: u64 = 16 << 10;
/// Longest sentence of it that is passed on, in characters.
const SENTENCE: usize = 300;

/// Leases on the plan's layers, each once. They stay in the cache for as long as these live.
///
/// # Errors
/// `IMAGE-…` with the program's words where one is missing and cannot be made.
pub async fn leases(data: &Path, plan: &Plan, initdata: &InitData) -> Result<Vec<Lease>, Failure> {
    let wanted = wanted(plan)?;
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let folder = data.join("layers");
    // The limit is for those who make layers, which is another's work.
    let cache = Cache::open(&folder, u64::MAX).map_err(|e| Failure::from(e).at(Stage::Boot))?;
    if let Some(found) = held(&cache, &wanted).await? {
        return Ok(found);
    }
    fetch(&folder, initdata).await?;
    let found = held(&cache, &wanted).await?;
    found.ok_or_else(|| {
        missing("a layer is not in the cache although it was fetched; the cache may be too small")
    })
}

/// The disks of leased layers.
pub fn disks(leases: &[Lease]) -> Vec<Disk> {
    let disk = |lease: &Lease| Disk { path: lease.path.clone(), serial: lease.serial(), read_only: true };
    leases.iter().map(disk).collect()
}

fn missing(why: &str) -> Failure {
    Failure::new(Code::ImageCacheFailed, why).at(Stage::Boot)
}

/// The plan's layers by root, each once.
fn wanted(plan: &Plan) -> Result<Vec<Pinned>, Failure> {
    let (mut seen, mut wanted) = (BTreeSet::new(), Vec::new());
    for layer in plan.containers.iter().flat_map(|c| c.image.layers.iter().flatten()) {
        let root = decoded(&layer.root).ok_or_else(|| {
            Failure::new(Code::PlanInvalid, format!("layer root {:?} is not 64 hex digits", layer.root))
        })?;
        if seen.insert(root) {
            wanted.push(Pinned { root, blocks: layer.blocks });
        }
    }
    Ok(wanted)
}

fn decoded(hex: &str) -> Option<[u8; 32]> {
    let mut root = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, digits) in root.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(root)
}

/// All of them, where the cache lacks none.
async fn held(cache: &Cache, wanted: &[Pinned]) -> Result<Option<Vec<Lease>>, Failure> {
    let mut leases = Vec::with_capacity(wanted.len());
    for pinned in wanted {
        match cache.pinned(*pinned).await.map_err(|e| Failure::from(e).at(Stage::Boot))? {
            Some(lease) => leases.push(lease),
            None => return Ok(None),
        }
    }
    Ok(Some(leases))
}

/// Has the layers made by a process of its own: what registries say is none of the shim's business, and the memory that
/// it takes is free again.
async fn fetch(folder: &Path, initdata: &InitData) -> Result<(), Failure> {
    let mut command = Command::new(program());
    command.args(["layers", "fetch", "--initdata", "-", "--dir"]).arg(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = |e: std::io::Error| missing(&format!("{PROGRAM} layers fetch: {e}"));
    let mut child = command.spawn().map_err(failed)?;
    let (input, errors) = (child.stdin.take(), child.stderr.take());
    let write = async {
        if let Some(mut input) = input {
            // Where it ends early it says why.
            let _ = input.write_all(initdata.text().as_bytes()).await;
        }
    };
    let read = async {
        let mut said = Vec::new();
        if let Some(errors) = errors {
            let mut errors = errors;
            let _ = (&mut errors).take(WORDS).read_to_end(&mut said).await;
            let _ = tokio::io::copy(&mut errors, &mut tokio::io::sink()).await;
        }
        said
    };
    let ((), said) = tokio::join!(write, read);
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let last: String = last.chars().filter(|c| !c.is_control()).take(SENTENCE).collect();
    Err(missing(&format!("the image's layers cannot be made: {last}")))
}

/// `cocoon`: the one that the environment names, else beside this program, else on the PATH.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) {
        return named.into();
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(PROGRAM)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PROGRAM.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_64_hex_digits() {
        assert_eq!(decoded(&"0f".repeat(32)), Some([15; 32]));
        for bad in ["", "0f", &"0g".repeat(32), &"é".repeat(32), &"+1".repeat(32)[..63]] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
