//! What a cluster is started with.

use cocoon_runtime::RuntimeConfig;

/// What a cluster is started with.
#[derive(Clone, Copy)]
pub struct Options {
    /// Whether there is an owner with a Trustee, at the node's address, that accepts the guests of this test's image.
    pub owner: bool,
    /// Whether containerd knows the runtime `cocoon` and the cluster a RuntimeClass of that name, without any installer.
    pub runtime: bool,
    /// Changes to what that class boots.
    pub class: fn(&mut RuntimeConfig),
    /// Whether every pod that names no RuntimeClass gets that class, in a developer's guest that needs no plan: what Kubernetes' own
    /// suite is run on.
    pub open: bool,
}

impl Options {
    /// A cluster that has never heard of Cocoon: what an installer finds.
    pub fn plain() -> Self {
        Options { owner: false, runtime: false, class: |_| {}, open: false }
    }

    /// A cluster that runs pods of Cocoon on the simulated platform, and an owner.
    pub fn cocoon() -> Self {
        Options { owner: true, runtime: true, class: |_| {}, open: false }
    }

    /// A cluster where all pods are Cocoon's, without plans.
    pub fn open() -> Self {
        Options { open: true, class: |class| class.console = true, ..Options::cocoon() }
    }

    /// A cluster without Cocoon, and an owner.
    pub fn plain_with_owner() -> Self {
        Options { owner: true, ..Options::plain() }
    }
}
