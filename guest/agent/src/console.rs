//! The guest's console: a few lines for people, on the serial port. The host can read them, so they never hold
//! a secret.

use cocoon_stage::{Failure, Stage};

/// Sends warnings and errors to standard error, which the kernel opened as `/dev/console`.
pub(crate) fn init() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(std::io::stderr)
        .finish();
    // Fails only where one is set already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Prints a failure. The reason only where the guest itself could not be set up, which tells nothing of the
/// workload; the owner learns the others' through Trustee.
pub(crate) fn report(failure: &Failure) {
    if failure.code.stage() == Stage::Boot {
        tracing::error!("{failure}");
    } else {
        tracing::error!("{} at {}", failure.code, failure.stage);
    }
}
