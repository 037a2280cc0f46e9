//! Notices that dm-verity has met a block that is not what the root hash says.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::Error;
use crate::dm::{Control, is};
use crate::mapped::Mapped;

/// How long the watch sleeps at most; the kernel's events wake it before.
const INTERVAL: Duration = Duration::from_secs(1);

/// A watch over verity devices; dropped, it ends.
#[derive(Debug)]
pub struct Watch {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // Not joined: the callback may be waiting for whoever drops this. The thread ends within a second.
        drop(self.thread.take());
    }
}

/// Watches the verity devices of these mappings on a thread; calls `tampered` once for each on which a wrong block was
/// met, with the label given with it (the layer's diff id, say). It hears of it right after the reader got its error.
///
/// The kernel tells by a uevent (dm-verity raises no device-mapper event) and remembers in the device's status; the
/// status is what counts, so a lost event delays the call by a second at most. The thread ends when the watch is
/// dropped, when all devices have been reported, or when none is left.
///
/// # Errors
/// [`Error::Io`] without device-mapper; [`Error::Invalid`] for a mapping without verity.
pub fn watch_verity(
    devices: &[(&Mapped, &str)],
    tampered: impl FnMut(&str) + Send + 'static,
) -> Result<Watch, Error> {
    let control = Control::open()?;
    let mut watched = Vec::with_capacity(devices.len());
    for (device, label) in devices {
        let verity = device.verity();
        let verity = verity.ok_or_else(|| Error::Invalid(format!("{}: not under verity", device.name())))?;
        watched.push((verity.to_owned(), (*label).to_owned()));
    }
    let events = uevents().inspect_err(|e| tracing::debug!("uevents: {e}")).ok();
    let end = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&end);
    let run = move || run(&control, watched, events.as_ref(), &flag, tampered);
    let thread = thread::Builder::new().name("verity-watch".into()).spawn(run);
    Ok(Watch { end, thread: Some(thread.map_err(Error::io("start the verity watch"))?) })
}

fn run(
    control: &Control,
    mut watched: Vec<(String, String)>,
    events: Option<&OwnedFd>,
    end: &AtomicBool,
    mut tampered: impl FnMut(&str),
) {
    while !watched.is_empty() && !end.load(Ordering::Relaxed) {
        watched.retain(|(name, label)| match judge(&control.table_status(name)) {
            Found::Good => true,
            Found::Tampered => {
                tampered(label);
                false
            }
            Found::Removed => false,
        });
        wait(events);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Good,
    Tampered,
    Removed,
}

/// What the kernel's answer says of a verity device. Only a device that is not there needs no further watch: any other
/// error, of memory that is short for a moment, say, says nothing of it.
fn judge(answer: &Result<String, Error>) -> Found {
    match answer {
        // Newer kernels may say more after it.
        Ok(status) if status.split_whitespace().next() == Some("C") => Found::Tampered,
        Err(e) if is(e, Errno::NXIO.raw_os_error()) => Found::Removed,
        Ok(_) | Err(_) => Found::Good,
    }
}

/// Sleeps until the kernel says something, a second at most.
fn wait(events: Option<&OwnedFd>) {
    let Some(events) = events else { return thread::sleep(INTERVAL) };
    let limit = Timespec::try_from(INTERVAL).ok();
    let _ = poll(&mut [PollFd::new(events, PollFlags::IN)], limit.as_ref());
    // What it says does not matter; an overrun ends this too.
    let mut message = [0; 4096];
    while recv(events.as_fd(), &mut message, RecvFlags::DONTWAIT).is_ok_and(|(n, _)| n > 0) {}
}

fn uevents() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
    // Group 1: what the kernel itself sends.
    bind(&socket, &SocketAddrNetlink::new(0, 1))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_that_is_gone_is_no_longer_watched() {
        let failed = |errno: Errno| Err(Error::io("x")(errno.into()));
        for (answer, expected) in [
            (Ok("V".to_owned()), Found::Good),
            (Ok(" C ".to_owned()), Found::Tampered),
            (Ok("C 3".to_owned()), Found::Tampered),
            (Ok("V C".to_owned()), Found::Good),
            (failed(Errno::NXIO), Found::Removed),
            (failed(Errno::NOMEM), Found::Good),
            (failed(Errno::INTR), Found::Good),
            (Err(Error::Invalid("no table yet".into())), Found::Good),
        ] {
            assert_eq!(judge(&answer), expected, "{answer:?}");
        }
    }
}
