//! A real Kubernetes of one node, as a person has it who never heard of Cocoon, or with Cocoon's runtime already there.
//!
//! Programs are Kubernetes' own, built by `scripts/kubernetes.sh`; etcd, runc, CNI plugins and containerd are Debian's. All of it
//! lives in a [`Node`](crate::containerd::Node): namespaces of its own for processes, mounts and network, and a temporary folder,
//! and vanishes with it, however the test ends. The control plane's addresses are the usual ones (the API at `10.88.0.1:6443`,
//! services in `10.96.0.0/16`), since the network is the cluster's own.
//!
//! - [`Options`], [`Cluster`]: what a cluster is started with; one that runs.
//! - [`tell`]: a story on a cluster of its own, and the question what is left at the end. A cluster is up in about ten
//!   seconds, so each test function has its own, tells several short stories on it, and shares nothing.
//! - [`Cluster::join`]: a second machine, [`Further`].
//! - [`Installed`]: a cluster with Cocoon's operator in it.
//! - [`Part`]: a program of the cluster that is started again when it ends, as a node's service manager does.
//! - [`ClusterAdmin`]: who installs Cocoon by its operator; [`push`] makes the image of all roles, [`variant`] other guest images.
//! - [`pod`], [`container`], [`Cluster::planned`]: manifests, and plans of them made by hand.
//!
//! Files of the node that an installer changes (`/etc`, `/opt`, `/usr/local`) are overlays: what is written there is the node's own
//! and [`Cluster::changed_files`] lists it. `/run` and `/var/lib` are empty at first.

mod admin;
mod cluster;
mod containerd;
mod control_plane;
mod credentials;
mod further;
mod installed;
mod installer;
mod kubectl;
mod manager;
mod open;
mod options;
mod part;
mod programs;
mod story;
mod variants;
mod worker;
mod workload;

pub use admin::{CONFIG, ClusterAdmin, LONG};
pub use cluster::Cluster;
pub use further::{Further, SECOND};
pub use installed::Installed;
pub use installer::push;
pub use kubectl::{condition, holds};
pub use options::Options;
pub use part::Part;
pub use programs::Programs;
pub use story::tell;
pub use variants::{Variant, variant};
pub use workload::{container, pod};
