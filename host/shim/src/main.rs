//! `containerd-shim-cocoon-v2`.

fn main() {}
