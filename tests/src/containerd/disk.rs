//! A disk of the node: a file as a block device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{missing, run, wait_until};

/// A file that the kernel shows as a block device. The device goes with its last user once this is dropped or the test's
/// process ends in whatever way.
pub struct Disk {
    held: Option<File>,
    device: String,
    file: PathBuf,
}

impl Disk {
    /// Makes one of this content, a multiple of 512 bytes; `None`, and the reason printed, where this machine has none.
    ///
    /// # Errors
    /// Where it has loop devices and gives none.
    pub fn of(file: PathBuf, content: &[u8]) -> Result<Option<Self>> {
        if missing(&["losetup"]).is_some() || !Path::new("/dev/loop-control").exists() {
            println!("skipped: this machine has no loop devices");
            return Ok(None);
        }
        fs::write(&file, content)?;
        let name = file.to_str().context("a path that is no text")?;
        let device = run("losetup", ["--find", "--show", name])?;
        let device = String::from_utf8(device)?.trim().to_owned();
        let held = File::open(&device);
        // Of one that is open this takes the name away, and the kernel the device once nobody has it open.
        run("losetup", ["--detach", &device])?;
        Ok(Some(Disk { held: Some(held?), device, file }))
    }

    /// The device's path.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What the file holds, as the node sees it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn content(&self) -> Result<Vec<u8>> {
        Ok(fs::read(&self.file)?)
    }

    /// Lets go of it; whether it is gone then, because nobody else has it open. What it held stays in the file.
    pub fn release(&mut self) -> bool {
        drop(self.held.take());
        let name = self.device.trim_start_matches("/dev/");
        let backing = format!("/sys/block/{name}/loop/backing_file");
        // Another may have taken the number since.
        let ours = || fs::read_to_string(&backing).is_ok_and(|text| Path::new(text.trim()) == self.file);
        wait_until(Duration::from_secs(10), || !ours())
    }
}
