//! Taps: network devices whose packets are a program's.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// A network device for the VM.
#[derive(Clone, Debug)]
pub struct Tap {
    /// Its name in the pod's namespace: `tapN_cocoon`.
    pub name: String,
    /// The hardware address that the guest's device must have: the one of the pod's device.
    pub mac: [u8; 6],
    /// Largest packet in bytes, without the link's header.
    pub mtu: u32,
    /// The queue: opened with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`, close-on-exec. The tap lives as long as anybody has it
    /// open.
    pub fd: Arc<OwnedFd>,
    /// An open `/dev/vhost-net`, where the host has one.
    pub vhost: Option<Arc<OwnedFd>>,
}

/// The name of a pod's tap; `number` below 16.
pub(crate) fn name(number: usize) -> String {
    format!("tap{number}_cocoon")
}

/// Whether a device of this name is a tap of a pod VM.
pub(crate) fn is_ours(name: &str) -> bool {
    let number = name.strip_prefix("tap").and_then(|n| n.strip_suffix("_cocoon"));
    number.is_some_and(|n| !n.is_empty() && n.len() <= 2 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Makes the tap in the calling thread's network namespace.
///
/// # Errors
/// The kernel's; `EBUSY` where another program holds a tap of this name.
pub(crate) fn open(name: &str) -> io::Result<OwnedFd> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
    make(&tun, name)?;
    Ok(tun.into())
}

/// Opens the kernel's packet mover for a tap; `None` where the host has none.
pub(crate) fn open_vhost() -> Option<OwnedFd> {
    let opened = File::options().read(true).write(true).open("/dev/vhost-net");
    opened.ok().map(OwnedFd::from)
}

#[allow(unsafe_code)]
fn make(tun: &File, name: &str) -> io::Result<()> {
    // netdevice(7); the flags of linux/if_tun.h fit their 16 bits.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    // SAFETY: an all-zero `ifreq` is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives through the call; the descriptor is open.
    let answer = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_taps() {
        assert!((0..16).all(|n| is_ours(&name(n)) && name(n).len() < libc::IFNAMSIZ));
        for other in ["tap_cocoon", "tapx_cocoon", "tap100_cocoon", "tap0", "eth0", "tap0_cocoon2"] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
