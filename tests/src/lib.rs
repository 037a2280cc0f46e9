//! What the whole-system tests in `tests/` share: real peers, started, used and taken down.
//!
//! Contract: everything here runs on loopback with ephemeral ports and in temporary folders, and is gone when
//! its value is dropped, also when the test's process is killed. Nothing waits a fixed time: readiness is what
//! the peer says. Where a program is not installed the fixture is an error that names it; a story test then
//! says "skipped" through [`missing`].
//!
//! - [`Registry`]: Debian's `docker-registry`.
//! - [`Layout`]: an OCI layout made of busybox with `umoci`; pushed with `skopeo`, encrypted with Cocoon's own
//!   ocicrypt code.
//! - [`cocoon_program`], [`guest_image`]: what `make test` built, named by `COCOON_BIN` and
//!   `COCOON_GUEST_IMAGE`.
//! - [`TrusteeHome`], [`Served`], [`Admin`], [`Guest`]: Trustee served by the program, and who speaks to it.
//! - [`Postgres`]: a database server.
//! - [`Home`], [`Job`], [`Outcome`]: `cocoon` with folders of its own, run to its end within limits.
//! - [`containerd`]: containerd and pods in namespaces of their own.
//! - [`kubernetes`]: a cluster of one node.
//! - [`arrows`]: the rule which folder may use which.

pub mod arrows;
pub mod containerd;
mod guest;
mod home;
mod job;
pub mod kubernetes;
mod layout;
mod postgres;
mod registry;
mod tool;
mod trustee;

pub use guest::{Answer, Attester, Guest, token};
pub use home::{Home, wait_until};
pub use job::{Job, Outcome, Refusal, VM_LIMIT};
pub use layout::Layout;
pub use postgres::Postgres;
pub use registry::Registry;
pub use tool::{cocoon_program, guest_image, missing, run};
pub use trustee::{Admin, Reply, Served, TrusteeHome};

/// Pushes a busybox image that runs `cmd` as `name` (e.g. `demo:plain`) to the registry; gives its reference.
///
/// # Errors
/// A program that is missing or fails, with its words.
pub fn make_busybox_image(registry: &Registry, name: &str, cmd: &[&str]) -> anyhow::Result<String> {
    let layout = Layout::busybox(cmd, &[])?;
    layout.push(registry, name)
}
