//! The developer's image of the guest that is tested: the same program, in an image that runs without a plan.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{cocoon_program, guest_image};

/// Builds it into a folder with `cocoon guest build --developer`; false, and the reason printed, where this machine gets no
/// kernel or this call of the tests names nothing to test.
///
/// # Errors
/// Where it cannot be built for another reason.
pub fn build_developer_image(out: &Path) -> Result<bool> {
    let (Some(program), Some(image)) = (cocoon_program(), guest_image()) else {
        println!("skipped: COCOON_BIN and COCOON_GUEST_IMAGE do not name what to test (make test does)");
        return Ok(false);
    };
    let parent = out.parent().context("the image needs a folder")?;
    let work = tempfile::tempdir_in(parent)?;
    let guest = work.path().join("cocoon-guest");
    fs::write(
        &guest,
        member(&fs::read(image.join("initrd.img"))?, "init").context("the initrd has no init")?,
    )?;
    let mut command = Command::new(program);
    command.args(["guest", "build", "--developer", "--guest-binary"]).arg(&guest).arg("--out").arg(out);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", work.path());
    command.env("TMPDIR", work.path()).stdin(Stdio::null());
    let kernel = std::env::var_os("COCOON_KERNEL_DEB");
    if let Some(deb) = &kernel {
        command.arg("--kernel-deb").arg(deb);
    }
    let built = command.output()?;
    let said = String::from_utf8_lossy(&built.stderr);
    if kernel.is_none() && !built.status.success() && said.contains("apt-get") {
        println!("skipped: apt-get gives no kernel and COCOON_KERNEL_DEB names none: {said}");
        return Ok(false);
    }
    if !built.status.success() {
        bail!("cocoon guest build: {said}");
    }
    ensure!(out.join("manifest.json").is_file(), "there is no image");
    Ok(true)
}

/// A file's content in a cpio archive of the `newc` form: a header of 110 characters, six of magic and thirteen numbers of
/// eight hex digits, then the name and the content, each up to a multiple of four bytes.
fn member<'a>(archive: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut rest = archive;
    loop {
        let number = |at: usize| -> Option<usize> {
            let digits = rest.get(6 + 8 * at..)?.get(..8)?;
            usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let (size, name_size) = (number(6)?, number(11)?);
        let name = rest.get(110..)?.get(..name_size.checked_sub(1)?)?;
        let start = (110 + name_size).next_multiple_of(4);
        let content = rest.get(start..)?.get(..size)?;
        if name == wanted.as_bytes() {
            return Some(content);
        }
        if name == b"TRAILER!!!" {
            return None;
        }
        rest = rest.get((start + size).next_multiple_of(4)..)?;
    }
}
