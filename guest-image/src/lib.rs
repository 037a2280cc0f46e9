//! The measured guest: builds kernel + initrd + command line + firmware, and opens what was built.
//!
//! Contract: the output is a function of its inputs only (kernel package, guest program, CA bundle,
//! firmware): no time stamp, host name, user id or path enters it, so whoever has the same inputs gets
//! the same bytes and hence the same launch measurement. [`GuestImage::open`] never hands out a file that
//! differs from the manifest. Nothing is installed on the machine and nothing runs as part of a package
//! (packages are unpacked, their scripts are not executed).
//!
//! Side of the trust boundary: building happens on the owner's machine and is trusted, like a compiler;
//! the result runs inside the TEE. Untrusted hosts may hold the image: a change of it changes the launch
//! measurement.
//!
//! Layout of an image folder: `vmlinuz`, `initrd.img`, `firmware.bin`, `reference-values.json`,
//! `manifest.json` (see [`Manifest`]).

#[cfg(test)]
mod build_tests;
mod builder;
mod cmdline;
mod cpio;
mod error;
mod image;
mod initrd;
mod kernel;
mod modinfo;
mod modules;
mod reference;
mod tool;

pub use builder::{BuildOptions, DEFAULT_CA_BUNDLE, DEFAULT_FIRMWARE, build};
pub use cmdline::CMDLINE;
pub use cpio::Archive;
pub use error::Error;
pub use image::{FileRecord, GuestImage, Manifest, PackageRecord};
pub use reference::MAX_VCPUS;
