//! A pod's network on the host: its namespace, taps, redirects, and what the guest must know of it.
//!
//! Contract: [`PodNetwork::attach`] reads what a CNI result made of the pod's network namespace and connects each of its
//! devices to a tap for the VM; the guest then takes over the device's addresses, so that the pod is reached as if its
//! processes ran in that namespace. [`forward`] brings connections to the pod's loopback into the guest. Only the
//! pod's namespace is ever changed, by threads that live no longer than the change; nothing is left in it once the
//! [`PodNetwork`] is dropped, or after [`PodNetwork::clean`] where its process was killed.
//!
//! Trust: host side. The guest checks all of it again and trusts none of it with more than reachability.

mod describe;
mod error;
pub mod forward;
mod kernel;
mod namespace;
mod pod;
mod redirect;
mod tap;

pub use error::Error;
pub use namespace::is_host_netns;
pub use pod::PodNetwork;
pub use tap::Tap;
