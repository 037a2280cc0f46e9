//! The guest's console: a few lines for people, on the serial port. The host can read them, so they never hold
//! a secret.

use cocoon_stage::Failure;

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

/// Prints a failure with its reason.
pub(crate) fn report(failure: &Failure) {
    tracing::error!("{failure}");
}
