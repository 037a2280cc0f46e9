//! The socket between the guest daemon and a container's process, before that becomes the workload. Its
//! closing by exec says that the workload runs.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::syscalls::watched;

/// What the first process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Everything is built; a terminal's master comes with it.
    Ready,
    /// The helper has made the process that will be the workload; its pidfd comes with it.
    Forked {
        /// Its process id in the guest.
        pid: i32,
    },
    /// The pod's first process is in its place; a detached mount of its `/proc` comes with it.
    Holding,
    /// It could not go on.
    Failed {
        /// For the console: the step, or all there is to say where there is no error number.
        reason: String,
        /// The error number, 0 where there is none.
        errno: i32,
    },
}

const START: &[u8] = b"start";
/// Longest message, in bytes; reasons name plan values, which are bounded but may be long.
const MAX_MESSAGE: usize = 16 * 1024;

/// Both ends; messages keep their bounds, and the end of one side is seen by the other.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn pair() -> io::Result<(Control, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((Control(watched(ours, Interest::READABLE)?), theirs))
}

/// Says something to the daemon, from the first process.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn send(control: BorrowedFd<'_>, message: &Message, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE {
        bytes = serde_json::to_vec(&Message::Failed { reason: "(reason too long)".into(), errno: 0 })?;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = fd.as_slice();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(control, &[io::IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits, in the first process, for the word to start.
///
/// # Errors
/// Where the daemon closed the socket instead.
pub(crate) fn receive_start(control: BorrowedFd<'_>) -> io::Result<()> {
    let mut buffer = [0; 16];
    let (got, _) = rustix::net::recv(control, &mut buffer, RecvFlags::empty())?;
    if buffer.get(..got) == Some(START) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The daemon's end.
#[derive(Debug)]
pub(crate) struct Control(AsyncFd<OwnedFd>);

impl Control {
    /// The next message with the descriptor that came along; `None` where the other side is closed.
    ///
    /// # Errors
    /// The kernel's answer; something that is not a message.
    pub(crate) async fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (got, fd) =
            self.0.async_io(Interest::READABLE, |socket| receive(socket.as_fd(), &mut buffer)).await?;
        match buffer.get(..got) {
            None | Some([]) => Ok(None),
            Some(bytes) => Ok(Some((serde_json::from_slice(bytes)?, fd))),
        }
    }

    /// Gives the word to start.
    ///
    /// # Errors
    /// Where the first process is gone.
    pub(crate) fn start(&self) -> io::Result<()> {
        rustix::net::send(self.0.get_ref(), START, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(buffer)];
    let got = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fd = fds.next().and_then(|mut fds| fds.next());
    Ok((got.bytes, fd))
}
