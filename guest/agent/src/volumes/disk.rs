//! Block volumes: the host's disks by their serial, also those that it attaches while the pod runs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use cocoon_blockdev::Disk;
use cocoon_plan::pod::block_serial;
use cocoon_stage::{Code, Failure, Stage};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sys;
use crate::syscalls::watched;

/// How long the host may take to attach a disk.
const PATIENCE: Duration = Duration::from_secs(30);
/// The group of the kernel's own messages.
const KERNEL: u32 = 1;

/// Finds the disk of a block volume; waits for it where it is not there yet. Gives its device number, major and minor.
///
/// # Errors
/// `PLAN-DEVICE-MISSING`.
pub(super) async fn find(volume: &str, read_only: bool) -> Result<(u32, u32), Failure> {
    let disk = attached(volume, read_only).await?;
    let number = disk.number.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    number.ok_or_else(|| missing(volume, "the disk has no device number"))
}

fn missing(volume: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::PlanDeviceMissing, format!("volume {volume:?}: {why}")).at(Stage::Start)
}

/// The disk of a volume, by its serial; waits for it as [`find`] does.
///
/// # Errors
/// `PLAN-DEVICE-MISSING`.
pub(super) async fn attached(volume: &str, read_only: bool) -> Result<Disk, Failure> {
    let missing = |why: String| missing(volume, why);
    let serial = block_serial(volume);
    let wait = async {
        // Listening begins before the first look, so that no disk comes between the two.
        let events = Events::open().map_err(|e| missing(format!("listen for devices: {e}")))?;
        loop {
            let wanted = serial.clone();
            let look = tokio::task::spawn_blocking(move || cocoon_blockdev::look_for_disk(&wanted));
            match look.await.map_err(|e| missing(e.to_string()))? {
                Ok(Some(disk)) => return Ok(disk),
                Ok(None) => events.next().await.map_err(|e| missing(format!("wait for devices: {e}")))?,
                Err(e) => return Err(missing(e.to_string())),
            }
        }
    };
    let late = |_| missing(format!("no disk with serial {serial} within {} s", PATIENCE.as_secs()));
    let mut disk = tokio::time::timeout(PATIENCE, wait).await.map_err(late)??;
    if read_only {
        let protect = || sys::set_read_only(File::open(&disk.path)?.as_fd());
        protect().map_err(|e| missing(format!("make the disk read-only: {e}")))?;
        disk.read_only = true;
    }
    Ok(disk)
}

/// The kernel's messages about devices (netlink(7), `NETLINK_KOBJECT_UEVENT`).
struct Events(AsyncFd<OwnedFd>);

impl Events {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
        Ok(Events(watched(socket, Interest::READABLE)?))
    }

    /// Waits until something happened. What, the caller looks up: messages can be lost.
    async fn next(&self) -> io::Result<()> {
        let mut message = [0; 8192];
        loop {
            let mut ready = self.0.readable().await?;
            let received = ready.try_io(|socket| {
                match recv(socket, message.as_mut_slice(), RecvFlags::empty()) {
                    // Messages were lost for want of room: something happened.
                    Err(rustix::io::Errno::NOBUFS) => Ok(true),
                    Err(e) => Err(e.into()),
                    Ok((length, _)) => Ok(is_about_a_disk(message.get(..length).unwrap_or_default())),
                }
            });
            match received {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(e)) => return Err(e),
            }
        }
    }
}

fn is_about_a_disk(message: &[u8]) -> bool {
    message.split(|b| *b == 0).any(|line| line == b"SUBSYSTEM=block")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_disks_are_told_apart() {
        let add = b"add@/devices/x/block/vdb\0ACTION=add\0SUBSYSTEM=block\0MAJOR=254\0";
        assert!(is_about_a_disk(add));
        assert!(!is_about_a_disk(b"add@/devices/x/net/eth1\0SUBSYSTEM=net\0"));
        assert!(!is_about_a_disk(b""));
    }

    /// A real kernel message: a loop device that is written to `uevent` announces itself.
    #[tokio::test]
    async fn the_kernel_is_heard() {
        let Some(disk) = std::fs::read_dir("/sys/block").into_iter().flatten().flatten().next() else {
            println!("skipped: this machine has no disk");
            return;
        };
        let uevent = disk.path().join("uevent");
        let Ok(events) = Events::open() else {
            println!("skipped: no messages about devices here");
            return;
        };
        if std::fs::write(&uevent, "change").is_err() {
            println!("skipped: needs root");
            return;
        }
        // Namespaces of containers do not hear the kernel.
        match tokio::time::timeout(Duration::from_secs(2), events.next()).await {
            Ok(heard) => heard.unwrap(),
            Err(_) => println!("skipped: this network namespace hears nothing of devices"),
        }
    }
}
