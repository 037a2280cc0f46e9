//! The program of the pod VM: PID 1, and (re-executed) the first process of each container.

use std::process::ExitCode;

fn main() -> ExitCode {
    cocoon_guest::run()
}
