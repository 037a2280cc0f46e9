//! The program `containerd-shim-cocoon-v2`.

fn main() -> std::process::ExitCode {
    cocoon_shim::main(std::env::args().skip(1))
}
