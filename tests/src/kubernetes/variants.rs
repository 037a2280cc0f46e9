//! Other guest images than the one that is tested, whole by their own manifests.

use std::fs;
use std::path::Path;

use anyhow::Result;
use cocoon_guest_image::{Archive, FileRecord, MAX_VCPUS, Manifest};
use cocoon_measure::sim::{BootDigests, BootFiles};
use serde_json::{Value, json};

/// How an image differs from the one that it is made of.
#[derive(Clone, Copy, Debug)]
pub enum Variant<'a> {
    /// Another release: it boots, and measures to something else.
    Release(&'a str),
    /// There is no program in it that could be started.
    Empty,
}

/// Makes such an image in `to`, a new folder.
///
/// # Errors
/// Where files cannot be read or written.
pub fn variant(from: &Path, to: &Path, how: Variant) -> Result<()> {
    fs::create_dir(to)?;
    let read = |name: &str| fs::read(from.join(name));
    let mut manifest: Manifest = serde_json::from_slice(&read("manifest.json")?)?;
    let (kernel, firmware) = (read("vmlinuz")?, read("firmware.bin")?);
    let mut more = Archive::new();
    let initrd = match how {
        Variant::Release(name) => {
            // The kernel unpacks one archive after the other.
            more.file("release", 0o644, name.as_bytes().to_vec())?;
            [read("initrd.img")?, more.finish()].concat()
        }
        Variant::Empty => {
            more.directory("dev", 0o755)?;
            more.finish()
        }
    };
    let files =
        BootFiles { firmware: &firmware, kernel: &kernel, initrd: &initrd, cmdline: &manifest.cmdline };
    let digests = BootDigests::of(&files);
    let values: Vec<Value> = (1..=MAX_VCPUS).map(|n| hex::encode(digests.launch_digest(n)).into()).collect();
    let values = serde_json::to_vec_pretty(&json!({"sim_launch_measurement": values}))?;
    for (name, bytes) in [
        ("vmlinuz", &kernel),
        ("firmware.bin", &firmware),
        ("initrd.img", &initrd),
        ("reference-values.json", &values),
    ] {
        fs::write(to.join(name), bytes)?;
        manifest.files.insert(name.into(), FileRecord::of(bytes));
    }
    fs::write(to.join("manifest.json"), serde_json::to_vec_pretty(&manifest)?)?;
    Ok(())
}
