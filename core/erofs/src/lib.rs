//! Layers as read-only block devices: an EROFS image of a layer's tar, made deterministically, and the dm-verity hash
//! tree over it.
//!
//! Contract: no network and no clock; everything that comes in was chosen by an untrusted registry.
