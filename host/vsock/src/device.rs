//! The vhost-user-vsock device: one thread serves QEMU's control socket, one the virtqueues.
//!
//! The queue thread sleeps until the guest kicks a queue or a stream pokes the device's eventfd.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use vhost::vhost_user::Listener as ControlListener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{ShutdownHandle, VhostUserBackend, VhostUserDaemon, VringMutex};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};
use vmm_sys_util::eventfd::EventFd;

use crate::mux::Mux;
use crate::ring;
use crate::wire::MAX_PAYLOAD;
use crate::{Error, GUEST_CID};

/// Receive, transmit and event queue (VIRTIO 1.2, 5.10.2); QEMU keeps the event queue to itself.
const QUEUES: usize = 3;
const QUEUE_SIZE: usize = 1024;
/// Epoll tag of the eventfd that streams poke; the tags up to [`QUEUES`] belong to the library.
const POKED: u16 = 16;
/// Turns at the queues before the event loop looks at other events, so that a busy guest cannot stop the device
/// from being shut down.
const TURNS: usize = 64;

/// Takes a lock; a thread that panicked while it held it left the state usable (no invariant spans a panic).
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What streams, listeners and the device's threads share.
pub(crate) struct Shared {
    mux: Mutex<Mux>,
    poke: EventFd,
    poked: AtomicBool,
}

impl Shared {
    /// Runs `f` on the connections, then wakes whom it concerns: tasks, and the queue thread if it has to send.
    pub fn with<T>(&self, f: impl FnOnce(&mut Mux) -> T) -> T {
        let (out, output, wakes) = {
            let mut mux = lock(&self.mux);
            let out = f(&mut mux);
            (out, mux.has_output(), mux.take_wakes())
        };
        for waker in wakes {
            waker.wake();
        }
        if output {
            self.poke();
        }
        out
    }

    fn poke(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) {
            let _ = self.poke.write(1);
        }
    }
}

enum Control {
    /// QEMU has not connected; shutting this socket down wakes the thread that waits for it.
    Waiting(OwnedFd),
    Serving(ShutdownHandle),
    Stopped,
}

/// A running vhost-user-vsock device for one QEMU process. Dropping it closes the device and removes its socket.
pub struct UserDevice {
    shared: Arc<Shared>,
    control: Arc<Mutex<Control>>,
    path: PathBuf,
}

impl UserDevice {
    /// Makes the socket (mode 0600; its folder should be private too) and waits for QEMU in the background.
    pub(crate) fn new(path: &Path) -> Result<Self, Error> {
        let listener = bind_private(path).map_err(|source| Error::Socket { path: path.into(), source })?;
        let device = Self::serve(path, listener);
        if device.is_err() {
            let _ = fs::remove_file(path);
        }
        device
    }

    fn serve(path: &Path, listener: UnixListener) -> Result<Self, Error> {
        let fail = |e: &dyn std::fmt::Display| Error::Device(e.to_string());
        let poke = EventFd::new(libc_nonblock()).map_err(|e| fail(&e))?;
        let shared = Arc::new(Shared { mux: Mutex::default(), poke, poked: AtomicBool::new(false) });
        let wake: OwnedFd = listener.try_clone().map_err(|e| fail(&e))?.into();
        let control = Arc::new(Mutex::new(Control::Waiting(wake)));

        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let backend = Arc::new(Backend {
            shared: shared.clone(),
            memory: memory.clone(),
            scratch: Mutex::new(Vec::with_capacity(MAX_PAYLOAD)),
        });
        let daemon = VhostUserDaemon::new("vsock-control".into(), backend, memory).map_err(|e| fail(&e))?;
        for handler in daemon.get_epoll_handlers() {
            handler
                .register_listener(shared.poke.as_raw_fd(), EventSet::IN, u64::from(POKED))
                .map_err(|e| fail(&e))?;
        }
        let device = UserDevice { shared: shared.clone(), control: control.clone(), path: path.into() };
        thread::Builder::new()
            .name("vsock-device".into())
            .spawn(move || run(daemon, listener, &control, &shared))
            .map_err(|e| fail(&e))?;
        Ok(device)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for UserDevice {
    fn drop(&mut self) {
        match std::mem::replace(&mut *lock(&self.control), Control::Stopped) {
            Control::Waiting(listener) => drop(rustix::net::shutdown(&listener, Shutdown::Both)),
            Control::Serving(handle) => handle.shutdown(),
            Control::Stopped => {}
        }
        self.shared.with(Mux::close);
        let _ = fs::remove_file(&self.path);
    }
}

fn libc_nonblock() -> i32 {
    // EFD_NONBLOCK | EFD_CLOEXEC; the bits always fit the C int that eventfd(2) takes.
    let flags = rustix::event::EventfdFlags::NONBLOCK | rustix::event::EventfdFlags::CLOEXEC;
    i32::try_from(flags.bits()).unwrap_or(0)
}

/// Serves one QEMU, then closes the device.
fn run(
    mut daemon: VhostUserDaemon<Arc<Backend>>,
    listener: UnixListener,
    control: &Mutex<Control>,
    shared: &Shared,
) {
    let mut listener = ControlListener::from(listener);
    let started = daemon.start(&mut listener);
    drop(listener);
    match (started, daemon.shutdown_handle()) {
        (Ok(()), Some(handle)) => {
            let mut control = lock(control);
            if matches!(*control, Control::Stopped) {
                handle.shutdown();
            } else {
                *control = Control::Serving(handle);
            }
        }
        (Err(error), _) => tracing::debug!(%error, "vsock device ends before QEMU came"),
        (Ok(()), None) => {}
    }
    if let Err(error) = daemon.wait() {
        // A QEMU that ends closes the socket in the middle of nothing; that is how a VM stops.
        tracing::debug!(%error, "vsock control connection ended");
    }
    *lock(control) = Control::Stopped;
    shared.with(Mux::close);
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Linux gives the file the mode of the unbound socket: nobody else can connect, not even for a moment.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 1)?;
    Ok(UnixListener::from(socket))
}

struct Backend {
    shared: Arc<Shared>,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    scratch: Mutex<Vec<u8>>,
}

impl Backend {
    fn process(&self, receive: &VringMutex, transmit: &VringMutex) {
        let mut scratch = lock(&self.scratch);
        for _ in 0..TURNS {
            let from_guest = ring::drain(transmit, &self.memory, &self.shared.mux, &mut scratch);
            let to_guest = ring::fill(receive, &self.memory, &self.shared.mux, &mut scratch);
            // Taking answers may have ended a congestion that stopped the guest's packets.
            let unstuck = to_guest.moved && !from_guest.more;
            if !from_guest.more && !to_guest.more && !unstuck {
                return;
            }
        }
        self.shared.poke();
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        (1 << VIRTIO_F_VERSION_1)
            | (1 << VIRTIO_RING_F_EVENT_IDX)
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::CONFIG
    }

    fn set_event_idx(&self, _enabled: bool) {}

    fn update_memory(&self, _memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        // The very object given to the daemon at the start; its content was replaced.
        Ok(())
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        // struct virtio_vsock_config: le64 guest_cid (5.10.4).
        let config = u64::from(GUEST_CID).to_le_bytes();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let size = usize::try_from(size).unwrap_or(0);
        config.iter().copied().skip(offset).take(size).collect()
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC).ok()
    }

    fn reset_device(&self) {
        self.shared.with(Mux::reset_connections);
    }

    fn stop_vring(&self, _queue: u32) -> io::Result<()> {
        self.shared.with(Mux::reset_connections);
        Ok(())
    }

    fn handle_event(&self, event: u16, _: EventSet, vrings: &[VringMutex], _: usize) -> io::Result<()> {
        if event == POKED {
            let _ = self.shared.poke.read();
            self.shared.poked.store(false, Ordering::Release);
        }
        if let [receive, transmit, ..] = vrings {
            self.process(receive, transmit);
        }
        Ok(())
    }
}
