//! Block devices of the guest: finding the host's disks, device-mapper (verity, crypt, integrity), file systems.
//!
//! Contract: runs inside the TEE, as root, before and while containers run. The host chooses every byte of every disk
//! and may change it at any time; so nothing read from a disk is used unless dm-verity's root hash (which the plan
//! holds) or an authentication key of this guest vouches for it. What fails the check is an I/O error, never data.
//! No external program, no udev: ioctls on `/dev/mapper/control`, nodes from devtmpfs, modules from the initrd.
//!
//! | what | how | whose word counts |
//! |---|---|---|
//! | shared layer | [`find_disk`], [`open_verity`], [`mount_erofs`] | the plan's root hash |
//! | encrypted shared layer | the same with [`open_crypt`] above verity | the plan's root hash, Trustee's key |
//! | scratch | [`find_disk`], [`open_scratch`], [`make_ext4`], [`mount_ext4`] | random keys that end with the VM |
//! | encrypted volume | [`open_encrypted`], [`mount_lasting_ext4`] | the owner's key, from Trustee |
//! | volume with a limit | [`make_volume`] on scratch | as scratch |
//! | container root | [`mount_overlay`] over layers and scratch (or memory) | the above |
//!
//! Handles undo what they stand for when dropped ([`Mounted`] unmounts, [`Mapped`] removes the mapping, at once or when
//! its last user is gone). Calls block; on an asynchronous runtime they belong on a thread that may.

mod disk;
pub mod dm;
mod error;
mod ext4;
pub mod luks;
mod mapped;
mod modules;
mod mount;
mod scratch;
mod sys;
mod volume;
mod watch;

pub use disk::{Disk, find_disk, look_for_disk};
pub use error::Error;
pub use ext4::make_ext4;
pub use luks::{Encrypted, Protection, open_encrypted};
pub use mapped::{Mapped, open_crypt, open_verity};
pub use modules::{ModuleSet, insert_module, load_modules};
pub use mount::{
    MAX_LOWERS, Mounted, OverlayOptions, mount_erofs, mount_ext4, mount_lasting_ext4, mount_overlay,
};
pub use scratch::open_scratch;
pub use volume::{MIN_VOLUME, make_volume, volume_root};
pub use watch::{Watch, watch_verity};
