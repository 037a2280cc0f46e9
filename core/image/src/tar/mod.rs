//! A tar reader for hostile streams: POSIX ustar, PAX (POSIX.1-2001), GNU long names and sparse files.
//!
//! Why not a ready-made one: every byte of metadata must be bounded before it is read into memory, and what a
//! reader cannot represent faithfully (multi-volume entries) must be refused, not approximated.

mod header;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod sparse_tests;

pub use reader::{Entry, Kind, Reader, Time};
