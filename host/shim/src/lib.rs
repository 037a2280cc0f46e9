//! containerd's runtime v2 shim: one process for each pod, a proxy with a VM attached.
