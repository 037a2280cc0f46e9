//! Cocoon's resources in a Kubernetes cluster, group `cocoon.dev`.
//!
//! | kind | scope | written by | says |
//! |---|---|---|---|
//! | [`CocoonRuntime`] | cluster | the cluster's administrator | which nodes shall run confidential pods, and how |
//! | [`CocoonNode`] | cluster | operator (`spec`), that node's process (`status`) | what one node shall have installed, and has |
//! | [`Trustee`] | namespace | a workload's owner | a Trustee that the cluster runs |
//! | [`TrusteeReferenceValues`], [`TrusteeReleaseRule`], [`TrusteeSecret`] | namespace | the same | what such a Trustee knows |
//!
//! Contract: types, schema and names alone; no client, no clock. A resource that the schema takes is not yet a sensible one:
//! what only a node can know is said in conditions.
//!
//! Trust: the control plane. Nothing that a resource says is believed by a guest or by Trustee.
//!
//! Versions: `v1alpha1` is served and stored. Fields are only added to it, each with a default, so that an older operator and a
//! newer one read the same object; a change of meaning makes a `v1beta1` beside it, which needs no webhook as long as both have
//! one schema.

mod condition;
mod containerd;
mod entry;
mod guests;
mod names;
mod node;
mod reference_values;
mod release_rule;
mod runtime;
mod status;
mod trustee;
mod trustee_secret;
mod update;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use condition::{ConditionKind, condition, set_condition};
pub use containerd::{Containerd, Paths, Restart};
pub use entry::{ENTRY_FINALIZER, EntryStatus};
pub use guests::{Acceleration, GuestImage, Guests};
pub use names::*;
pub use node::{CocoonNode, CocoonNodeSpec, CocoonNodeStatus, NodeSettings, Phase, WantedState};
pub use reference_values::{TrusteeReferenceValues, TrusteeReferenceValuesSpec};
pub use release_rule::{LeastStatus, TrusteeReleaseRule, TrusteeReleaseRuleSpec};
pub use runtime::{
    CocoonRuntime, CocoonRuntimeSpec, Overhead, Platform, PullPolicy, RuntimeClasses, Uninstall,
    UninstallPolicy,
};
pub use status::{CocoonRuntimeStatus, Failing, NodeCounts, Revisions};
pub use trustee::{
    Backup, DatabaseReference, DeletionPolicy, Exposure, SecretKey, TlsSource, Trustee, TrusteeSpec,
    TrusteeState, TrusteeStatus, Volume,
};
pub use trustee_secret::{SecretEntry, TrusteeSecret, TrusteeSecretSpec};
pub use update::{Canary, OnFailure, Update, UpdateStrategy};

/// The definitions of all kinds, as `cocoon operator crds` prints them.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    [
        CocoonRuntime::crd(),
        CocoonNode::crd(),
        Trustee::crd(),
        TrusteeReferenceValues::crd(),
        TrusteeReleaseRule::crd(),
        TrusteeSecret::crd(),
    ]
    .map(names::finished)
    .into()
}
