//! Disks that a running VM is given: each goes into a port of its own, made at the VM's start.

use std::os::unix::ffi::OsStrExt;

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
    let path = std::str::from_utf8(disk.path.as_os_str().as_bytes());
    let path = path.map_err(|_| Error::Qmp("a disk's path that is no text".into()))?;
    // What it holds outlives the pod: what the guest flushes reaches the medium.
    let driver = if disk.path.starts_with("/dev") { "host_device" } else { "file" };
    Ok(json!({
        "driver": "raw", "node-name": node, "read-only": disk.read_only,
        "file": { "driver": driver, "filename": path },
    }))
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
}
