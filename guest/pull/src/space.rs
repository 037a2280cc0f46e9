//! The room that layers take: a budget, reserved by what tar headers claim before a byte of content is written.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_image::Error;

/// The file system is asked again after this many newly claimed bytes …
const ASK_EVERY: u64 = 1 << 20;
/// … and this much of it is left free.
const KEEP_FREE: u64 = 4 << 20;

/// Frees what nobody uses any more; gives whether anything was freed.
type MakeRoom = Box<dyn Fn() -> bool + Send + Sync>;

/// The budget of one store.
pub(crate) struct Space {
    budget: u64,
    /// The store's folder, for the file system's own word on free space.
    folder: OwnedFd,
    state: Mutex<State>,
    make_room: MakeRoom,
}

#[derive(Default)]
struct State {
    /// Bytes reserved by layers, finished or not.
    used: u64,
    /// Bytes claimed but perhaps not written yet, over all unfinished layers.
    unwritten: u64,
    /// Bytes claimed since the file system was asked.
    since_asked: u64,
}

impl Space {
    pub(crate) fn new(budget: u64, folder: OwnedFd, make_room: MakeRoom) -> Arc<Self> {
        Arc::new(Space { budget, folder, state: Mutex::default(), make_room })
    }

    /// Bytes reserved.
    pub(crate) fn used(&self) -> u64 {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves, with what nobody uses thrown out first where that helps.
    fn take(&self, bytes: u64) -> Result<(), Error> {
        loop {
            let short = match self.try_take(bytes) {
                Ok(()) => return Ok(()),
                Err(short) => short,
            };
            // Not under the lock: what is freed returns its reservation.
            if !(self.make_room)() {
                return Err(short);
            }
        }
    }

    fn try_take(&self, bytes: u64) -> Result<(), Error> {
        let mut state = self.lock();
        let used = state.used.saturating_add(bytes);
        if used > self.budget {
            return Err(Error::TooLarge(format!(
                "{} of {} bytes for images are in use; {bytes} more are needed",
                state.used, self.budget
            )));
        }
        let since_asked = state.since_asked.saturating_add(bytes);
        if since_asked >= ASK_EVERY {
            let free = self.free();
            // Part of `unwritten` may be on disk by now: that errs on the side of refusing, by one file a layer.
            let wanted = state.unwritten.saturating_add(bytes).saturating_add(KEEP_FREE);
            if free < wanted {
                return Err(Error::TooLarge(format!(
                    "the file system for images has {free} bytes free; {wanted} are needed"
                )));
            }
            state.since_asked = 0;
        } else {
            state.since_asked = since_asked;
        }
        state.used = used;
        Ok(())
    }

    /// What the file system has free; where it does not say, that is no reason to refuse.
    fn free(&self) -> u64 {
        rustix::fs::fstatvfs(&self.folder).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
    }
}

/// What one layer takes. Returned when dropped.
pub(crate) struct Reservation {
    space: Arc<Space>,
    bytes: u64,
    claimed: u64,
}

impl Reservation {
    pub(crate) fn new(space: Arc<Space>) -> Self {
        Reservation { space, bytes: 0, claimed: 0 }
    }

    /// Reserves for the next entry; the entry before it is written.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), Error> {
        self.written();
        self.space.take(bytes)?;
        self.bytes = self.bytes.saturating_add(bytes);
        self.claimed = bytes;
        let mut state = self.space.lock();
        state.unwritten = state.unwritten.saturating_add(bytes);
        Ok(())
    }

    /// Nothing is claimed that is not written.
    pub(crate) fn written(&mut self) {
        let claimed = std::mem::take(&mut self.claimed);
        let mut state = self.space.lock();
        state.unwritten = state.unwritten.saturating_sub(claimed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.written();
        let mut state = self.space.lock();
        state.used = state.used.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(budget: u64) -> Arc<Space> {
        Space::new(budget, std::fs::File::open("/tmp").unwrap().into(), Box::new(|| false))
    }

    #[test]
    fn what_is_reserved_is_returned() {
        let space = space(100);
        let mut one = Reservation::new(space.clone());
        one.take(60).unwrap();
        let mut two = Reservation::new(space.clone());
        two.take(40).unwrap();
        assert!(matches!(two.take(1), Err(Error::TooLarge(_))));
        assert_eq!(space.used(), 100);
        drop(one);
        assert_eq!(space.used(), 40);
        two.take(60).unwrap();
        drop(two);
        assert_eq!((space.used(), space.lock().unwritten), (0, 0));
    }

    #[test]
    fn the_file_system_has_its_say() {
        let space = space(u64::MAX);
        let e = Reservation::new(space.clone()).take(1 << 60).unwrap_err();
        assert!(e.to_string().contains("the file system"), "{e}");
        assert_eq!(space.used(), 0);
    }
}
