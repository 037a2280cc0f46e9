//! The proxy snapshotter: containerd asks it for root file systems that only the guest sees.
