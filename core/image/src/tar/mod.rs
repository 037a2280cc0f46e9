//! A tar reader for hostile streams: POSIX ustar, PAX (POSIX.1-2001) and GNU long names.
//!
//! Why not a ready-made one: every byte of metadata must be bounded before it is read into memory, and what a
//! reader cannot represent faithfully (sparse files, multi-volume entries) must be refused, not approximated.

mod header;
mod pax;
mod reader;

pub use reader::{Entry, Kind, Reader, Time};
