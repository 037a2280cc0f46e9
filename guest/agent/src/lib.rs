//! `cocoon-guest`: PID 1 of the pod VM.
//!
//! Contract: runs *inside* the TEE and trusts nothing that comes from the host. Initdata (bound into the TEE by
//! its digest) holds the plan; containers are built from the plan alone, and the host may only ask, over ttrpc
//! on vsock, for the life-cycle steps that the plan allows. What the host may fill in is the pod's network and
//! resource limits. Failures reach the host as stage and code; reasons go to the guest's console; secrets go to
//! neither. There is no shell, no systemd and no helper program: the same binary, re-executed under another
//! `argv[0]`, is the first process of a container until it becomes the workload.

mod boot;
mod console;
pub mod container;
mod error;
mod events;
mod forward;
mod glue;
mod images;
mod modules;
mod mounts;
mod netlink;
mod network;
mod open;
mod pod;
pub mod prepare;
pub mod reaper;
mod sandbox_service;
mod services;
mod syscalls;
mod sysctls;
mod task_service;
pub mod volumes;
mod vsock;

pub use error::Error;

use std::process::ExitCode;

/// Runs as what `argv[0]` and the process id say: a container's first process, or PID 1 of the VM.
pub fn run() -> ExitCode {
    match std::env::args_os().next() {
        Some(name) if name == container::INIT_NAME => return container::init_main(),
        Some(name) if name == container::HOLDER_NAME => return container::holder_main(),
        _ => {}
    }
    if std::env::args_os().nth(1).is_some_and(|role| role == "services") {
        return services::main();
    }
    if std::process::id() != 1 {
        eprintln!(
            "cocoon-guest is the init program of a Cocoon pod VM; it runs as PID 1 only, or as `services`"
        );
        return ExitCode::from(2);
    }
    boot::run()
}
