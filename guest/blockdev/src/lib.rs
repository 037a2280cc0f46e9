//! Block devices of the guest: finding the host's disks, device-mapper (verity, crypt, integrity), file systems.
//!
//! Contract: the host chooses every byte of every disk and may change it at any time.
