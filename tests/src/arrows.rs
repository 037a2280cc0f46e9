//! Which trust domain may use which: arrows point one way.
//!
//! | crates in | may depend on |
//! |---|---|
//! | `core/` | `core/` |
//! | `net/` | `core/`, `net/` |
//! | `guest/` | `core/`, `net/`, `guest/` |
//! | `host/` | `core/`, `net/`, `host/` |
//! | `trustee/` | `core/`, `net/`, `trustee/` |
//! | `guest-image/` | `core/` |
//! | `cli/`, `cluster/`, `tests/`, `benches/` | anything |
//!
//! Dependencies of a crate's own tests count as well, save for [`TEST_EXCEPTIONS`].

use anyhow::{Context, Result};
use serde::Deserialize;

/// Dependencies that a crate's tests may have against the rule: `(crate, what it may use)`. Each needs a reason.
pub const TEST_EXCEPTIONS: &[(&str, &str)] = &[
    // Trustee's verification is tested with reports of the simulated secure processor.
    ("cocoon-attestation", "cocoon-sim"),
    ("cocoon-trustee", "cocoon-sim"),
    // The enrolment of a TPM's key is tested with the guest's own part of it, over a real TPM.
    ("cocoon-trustee", "cocoon-attest"),
];

/// A dependency of one workspace crate on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The crate that depends.
    pub from: String,
    /// The folder of its trust domain.
    pub from_domain: String,
    /// The crate that it depends on.
    pub to: String,
    /// That crate's domain.
    pub to_domain: String,
    /// Whether only its tests do.
    pub test_only: bool,
}

/// Whether crates in the folder `from` may use crates in the folder `to`. A folder that the rule does not
/// know may use nothing, and only the top may use it.
pub fn allowed(from: &str, to: &str) -> bool {
    match from {
        "core" => to == "core",
        "net" => matches!(to, "core" | "net"),
        "guest" | "host" | "trustee" => matches!(to, "core" | "net") || to == from,
        "guest-image" => to == "core",
        "cli" | "cluster" | "tests" | "benches" => true,
        _ => false,
    }
}

/// The edges that break the rule; `exceptions` as [`TEST_EXCEPTIONS`].
pub fn violations(edges: &[Edge], exceptions: &[(&str, &str)]) -> Vec<Edge> {
    let excepted = |e: &Edge| e.test_only && exceptions.contains(&(e.from.as_str(), e.to.as_str()));
    edges.iter().filter(|e| !allowed(&e.from_domain, &e.to_domain) && !excepted(e)).cloned().collect()
}

/// The part of `cargo metadata`'s output, format version 1, that is looked at.
#[derive(Deserialize)]
struct Metadata {
    workspace_root: String,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

/// The edges between the crates of a workspace, from what `cargo metadata --no-deps` prints.
///
/// # Errors
/// Where that is not as cargo's documentation of format version 1 says.
pub fn edges(metadata: &[u8]) -> Result<Vec<Edge>> {
    let metadata: Metadata = serde_json::from_slice(metadata)?;
    let domain = |folder: &str| -> Option<String> {
        let inside = folder.strip_prefix(&metadata.workspace_root)?.strip_prefix('/')?;
        Some(inside.split('/').next().unwrap_or_default().to_owned())
    };
    let outside = |name: &str| format!("{name} lies outside the workspace");
    let mut edges = Vec::new();
    for package in &metadata.packages {
        let from_domain = domain(&package.manifest_path).with_context(|| outside(&package.name))?;
        for dependency in &package.dependencies {
            let Some(path) = &dependency.path else { continue };
            edges.push(Edge {
                from: package.name.clone(),
                from_domain: from_domain.clone(),
                to: dependency.name.clone(),
                to_domain: domain(path).with_context(|| outside(&dependency.name))?,
                test_only: dependency.kind.as_deref() == Some("dev"),
            });
        }
    }
    Ok(edges)
}
