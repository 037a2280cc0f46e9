//! An admission webhook that saves people words, and tells them early what a guest would refuse.
//!
//! In namespaces with the label `cocoon.dev/runtime: CLASS` a new pod that names no runtime class gets that one, its containers
//! requests where they have none, and whoever makes it is warned of host namespaces, host paths and privilege.
//!
//! Contract: it never refuses anything, and nothing relies on it. A cluster in which it does not answer, or was removed, takes the
//! same pods without; what a guest does is decided by its plan. It reads what the API server sends, and nothing else.
//!
//! Its certificate, and the CA to which the cluster's configuration points, are the operator's own and made anew in time.

mod identity;
mod review;
mod serve;

pub use identity::keep;
pub use serve::serve;

/// Name of the Service and of the Secret with the certificate.
pub const NAME: &str = "cocoon-operator-webhook";
/// Name of the cluster's webhook configuration.
pub const CONFIGURATION: &str = "cocoon-operator";
/// The port in the pod.
pub const PORT: u16 = 9443;
/// Classes that a namespace may be labelled with.
pub const CLASSES: [&str; 5] = ["cocoon", "cocoon-snp", "cocoon-tdx", "cocoon-tpm", "cocoon-sim"];

/// The webhook's name for a class; Kubernetes wants three parts.
pub fn of_class(class: &str) -> String {
    format!("{class}.pods.cocoon.dev")
}

/// The name under which the API server calls.
pub fn host(namespace: &str) -> String {
    format!("{NAME}.{namespace}.svc")
}
