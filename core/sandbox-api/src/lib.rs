//! The interface between host and guest: containerd's own Task service (v3 messages, which are v2's) and
//! Cocoon's small Sandbox service, both ttrpc over vsock port [`GUEST_PORT`].
//!
//! Contract: generated types and names only. The guest treats every request as hostile; the host treats every
//! answer as untrusted text for people.

use cocoon_stage::{Code, HostFailure, Stage};

#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unused,
    nonstandard_style
)]
mod generated {
    pub mod sandbox {
        include!(concat!(env!("OUT_DIR"), "/sandbox.rs"));
    }
    pub mod sandbox_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/sandbox_ttrpc.rs"));
    }
}

pub use generated::{sandbox, sandbox_ttrpc};

/// The vsock port on which the guest serves Task and Sandbox.
pub const GUEST_PORT: u32 = 1024;
/// The host's vsock port for stage events: newline-delimited JSON, guest to host. Its opening says "ready".
pub const EVENTS_PORT: u32 = 1025;
/// The host's vsock port of the simulated secure processor.
pub const SECURE_PROCESSOR_PORT: u32 = 1026;
/// The guest's vsock port for forwarded connections: the host writes a TCP port as decimal digits and a line feed; the
/// guest answers `ok` or a code, and a line feed, and after `ok` passes bytes to that port of its loopback and back.
pub const FORWARD_PORT: u32 = 1027;
/// Type URL of [`sandbox::ContainerOptions`] in a CreateTaskRequest.
pub const CONTAINER_OPTIONS: &str = "cocoon.sandbox.v1.ContainerOptions";
/// First vsock port that the host may use for a stdio stream.
pub const FIRST_STDIO_PORT: u32 = 5000;
/// Longest line of the event stream, in bytes.
pub const MAX_EVENT_LINE: usize = 4096;

/// A line of the event stream that is no stage event: memory ran out in this container, and one of its processes was
/// killed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OutOfMemory {
    /// The container's id, as the host made it up.
    pub oom: String,
}

/// A coded failure as a ttrpc error: what the host may know, as JSON after a fixed prefix.
pub fn to_ttrpc(failure: &HostFailure) -> ttrpc::Error {
    let json = serde_json::to_string(failure).unwrap_or_default();
    ttrpc::Error::RpcStatus(ttrpc::get_status(ttrpc::Code::FAILED_PRECONDITION, format!("{PREFIX}{json}")))
}

/// The coded failure inside a ttrpc error, where there is one.
pub fn from_ttrpc(error: &ttrpc::Error) -> Option<HostFailure> {
    let ttrpc::Error::RpcStatus(status) = error else { return None };
    serde_json::from_str(status.message.strip_prefix(PREFIX)?).ok()
}

const PREFIX: &str = "cocoon:";

/// The stdio URI that names a vsock port of the host, as Create and Exec requests carry it.
pub fn stdio_uri(port: u32) -> String {
    format!("vsock://2:{port}")
}

/// The port in a stdio URI; `None` for an empty one.
///
/// # Errors
/// A coded refusal for anything that is not `vsock://2:PORT` with a port of at least [`FIRST_STDIO_PORT`].
pub fn parse_stdio_uri(uri: &str) -> Result<Option<u32>, cocoon_stage::Failure> {
    if uri.is_empty() {
        return Ok(None);
    }
    uri.strip_prefix("vsock://2:")
        .and_then(|p| p.parse::<u32>().ok())
        .filter(|p| *p >= FIRST_STDIO_PORT)
        .map(Some)
        .ok_or_else(|| {
            cocoon_stage::Failure::new(Code::PlanRequestRefused, "stdio is not a vsock port of the host")
                .at(Stage::Start)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_cross_ttrpc() {
        let f = HostFailure {
            stage: Stage::Pull,
            code: Code::ImageSignatureMissing,
            request_id: None,
            reason: None,
        };
        assert_eq!(from_ttrpc(&to_ttrpc(&f)), Some(f));
        assert_eq!(from_ttrpc(&ttrpc::Error::Others("x".into())), None);
    }

    #[test]
    fn stdio_uris() {
        assert_eq!(parse_stdio_uri(&stdio_uri(5001)).unwrap(), Some(5001));
        assert_eq!(parse_stdio_uri("").unwrap(), None);
        for bad in ["vsock://2:1024", "vsock://3:5000", "/run/fifo", "vsock://2:x"] {
            assert!(parse_stdio_uri(bad).is_err(), "{bad}");
        }
    }
}
