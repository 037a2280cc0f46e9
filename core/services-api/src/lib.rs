//! CoCo's services inside a guest, as ttrpc over Unix sockets: the attestation agent's and the confidential data hub's.
//!
//! Contract: generated types and names only. The interfaces are CoCo's, so that programs of its guests (kata-agent) find here
//! what they expect; of the data hub those services that this guest offers.

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
    pub mod attestation_agent {
        include!(concat!(env!("OUT_DIR"), "/attestation_agent.rs"));
    }
    pub mod attestation_agent_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/attestation_agent_ttrpc.rs"));
    }
    pub mod api {
        include!(concat!(env!("OUT_DIR"), "/api.rs"));
    }
    pub mod api_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/api_ttrpc.rs"));
    }
    pub mod keyprovider {
        include!(concat!(env!("OUT_DIR"), "/keyprovider.rs"));
    }
    pub mod keyprovider_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/keyprovider_ttrpc.rs"));
    }
}

pub use generated::{
    api, api_ttrpc, attestation_agent, attestation_agent_ttrpc, keyprovider, keyprovider_ttrpc,
};

/// Where programs of CoCo's guests look for the attestation agent.
pub const AGENT_SOCKET: &str = "/run/confidential-containers/attestation-agent/attestation-agent.sock";
/// Where they look for the data hub.
pub const HUB_SOCKET: &str = "/run/confidential-containers/cdh.sock";
