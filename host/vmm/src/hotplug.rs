//! Disks that a running VM is given: each goes into a port of its own, made at the VM's start.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Error;
use crate::qmp::Qmp;
use crate::spec::Disk;

/// Most ports: the functions of two PCI slots.
pub const MAX_PORTS: u32 = 16;
/// The PCI slots of the ports.
const FIRST_SLOT: u32 = 0x1c;
const FUNCTIONS: u32 = 8;

/// A port's name.
fn port(number: u32) -> String {
    format!("port{number}")
}

/// QEMU's `-device` for a port.
pub(crate) fn device(number: u32) -> String {
    let (slot, function) = (FIRST_SLOT + number / FUNCTIONS, number % FUNCTIONS);
    let first = if function == 0 { ",multifunction=on" } else { "" };
    let (name, chassis) = (port(number), number + 1);
    format!("pcie-root-port,id={name},bus=pcie.0,chassis={chassis},addr={slot:#x}.{function}{first}")
}

/// Gives the VM a disk, in that port. `private` as on the command line: a TEE's devices go through shared buffers.
///
/// # Errors
/// [`Error::Qmp`] with QEMU's words; the disk then is not there.
pub(crate) async fn plug<S: AsyncRead + AsyncWrite + Unpin>(
    qmp: &mut Qmp<S>,
    number: u32,
    disk: &Disk,
    private: bool,
) -> Result<(), Error> {
    let node = format!("plugged{number}");
    qmp.execute_with("blockdev-add", backend(&node, disk)?).await?;
    let front = json!({
        "driver": "virtio-blk-pci", "id": format!("disk-{node}"), "bus": port(number), "drive": node,
        "serial": disk.serial, "num-queues": 1, "werror": "report", "rerror": "report",
        "disable-legacy": "on", "iommu_platform": private,
    });
    if let Err(error) = qmp.execute_with("device_add", front).await {
        let _ = qmp.execute_with("blockdev-del", json!({ "node-name": node })).await;
        return Err(error);
    }
    Ok(())
}

fn backend(node: &str, disk: &Disk) -> Result<Value, Error> {
    let path = named(&disk.path);
    let path = std::str::from_utf8(path.as_os_str().as_bytes());
    let path = path.map_err(|_| Error::Qmp("a disk's path that is no text".into()))?;
    // What it holds outlives the pod: what the guest flushes reaches the medium.
    let driver = if disk.path.starts_with("/dev") { "host_device" } else { "file" };
    Ok(json!({
        "driver": "raw", "node-name": node, "read-only": disk.read_only,
        "file": { "driver": driver, "filename": path },
    }))
}

/// A device by its name, where nobody (udev, that is) made the link `/dev/block/MAJOR:MINOR` that was asked for: as the kernel
/// has it (sysfs, `uevent` of a block device).
fn named(path: &Path) -> PathBuf {
    let number = path.strip_prefix("/dev/block").ok().filter(|_| !path.exists());
    let known = number.and_then(|number| {
        let about = std::fs::read_to_string(Path::new("/sys/dev/block").join(number).join("uevent")).ok()?;
        let name = about.lines().find_map(|line| line.strip_prefix("DEVNAME="))?.to_owned();
        Some(Path::new("/dev").join(name))
    });
    known.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_functions_of_two_slots() {
        assert_eq!(device(0), "pcie-root-port,id=port0,bus=pcie.0,chassis=1,addr=0x1c.0,multifunction=on");
        assert_eq!(device(9), "pcie-root-port,id=port9,bus=pcie.0,chassis=10,addr=0x1d.1");
    }

    #[test]
    fn a_device_and_a_file_are_opened_as_what_they_are() {
        let disk = |path: &str| Disk { path: path.into(), serial: "vol-1".into(), read_only: true };
        let driver = |path: &str| backend("n", &disk(path)).unwrap()["file"]["driver"].clone();
        assert_eq!((driver("/dev/block/7:0"), driver("/x.img")), (json!("host_device"), json!("file")));
    }
    #[test]
    fn a_device_is_found_by_its_number_where_no_link_has_it() {
        let Some(disk) = std::fs::read_dir("/sys/dev/block").into_iter().flatten().flatten().next() else {
            return println!("skipped: this machine has no disk");
        };
        let number = disk.file_name();
        let asked = Path::new("/dev/block").join(&number);
        let found = named(&asked);
        // Where the link is, it is as good.
        assert!(found == asked || found.starts_with("/dev") && !found.starts_with("/dev/block"), "{found:?}");
        assert!(asked.exists() == (found == asked), "{found:?}");
        for other in ["/dev/block/999999:1", "/dev/block/../x", "/dev/x", "/a/file"] {
            assert_eq!(named(Path::new(other)), Path::new(other));
        }
    }
}
