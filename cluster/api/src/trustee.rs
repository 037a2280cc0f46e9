//! A Trustee that the cluster runs.
#![allow(clippy::duplicated_attributes)] // columns of one type each say so

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PullPolicy;
use crate::runtime::IMAGE;

const NAME: &str = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$";

/// A Trustee in the cluster. Whoever controls the cluster controls it: only for a cluster that the workloads' owner trusts, or
/// for trying out.
#[derive(Clone, CustomResource, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "cocoon.dev",
    version = "v1alpha1",
    kind = "Trustee",
    plural = "trustees",
    shortname = "trst",
    category = "cocoon",
    namespaced,
    status = "TrusteeStatus",
    derive = "PartialEq",
    doc = "A Trustee that this cluster runs. Whoever controls the cluster controls it: for a cluster that the workloads' owner trusts, or for trying out.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.replicas <= 1 || has(self.state.postgres)", "message": "more than one replica needs state.postgres: an embedded store has one writer"},
    {"rule": "!self.acceptSimulated || size(self.simulatedRoots) > 0", "message": "acceptSimulated needs simulatedRoots: whose simulated TEEs"},
    {"rule": "has(self.state.postgres) == has(oldSelf.state.postgres)", "message": "state cannot move between a volume and PostgreSQL; make another Trustee and restore a backup into it"}
]))]
pub struct TrusteeSpec {
    /// Processes.
    #[schemars(range(min = 0, max = 16))]
    pub replicas: u32,
    /// Image; the operator's own where it is not given.
    #[schemars(length(min = 1, max = 512), regex(pattern = IMAGE))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When it is pulled.
    pub image_pull_policy: PullPolicy,
    /// Where state is kept. Immutable but for the size of a volume.
    pub state: TrusteeState,
    /// The server's certificate.
    pub tls: TlsSource,
    /// The Service.
    pub service: Exposure,
    /// Whether evidence of the simulated TEE is accepted: for trying out, since anybody can make it.
    pub accept_simulated: bool,
    /// Whose simulated TEEs: of each node two certificates, PEM, `ark` before `ask`, as in the folder `sim` of its data.
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 8192), regex(pattern = "^-----BEGIN CERTIFICATE-----"))
    )]
    pub simulated_roots: Vec<String>,
    /// What becomes of volume and sealing key when the Trustee is deleted.
    pub deletion_policy: DeletionPolicy,
    /// Copies of the state, made while it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// Labels that a node must have.
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
}

impl Default for TrusteeSpec {
    fn default() -> Self {
        TrusteeSpec {
            replicas: 1,
            image: None,
            image_pull_policy: PullPolicy::default(),
            state: TrusteeState::default(),
            tls: TlsSource::default(),
            service: Exposure::default(),
            accept_simulated: false,
            simulated_roots: Vec::new(),
            deletion_policy: DeletionPolicy::default(),
            backup: None,
            node_selector: BTreeMap::new(),
        }
    }
}

/// What becomes of volume and sealing key when a Trustee is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay, since what is sealed cannot be made again; a person removes them.
    #[default]
    Retain,
    /// They go with it, and with them every secret.
    Delete,
}

/// Copies of a Trustee's state. Secrets in them stay sealed: the Secret with the sealing key is to be kept elsewhere.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// When, as cron writes it, in UTC: `30 2 * * *`.
    #[schemars(length(min = 9, max = 128), regex(pattern = "^[-0-9A-Za-z*/,@ ]+$"))]
    pub schedule: String,
    /// The claim of the volume on which they are kept, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub claim: String,
    /// How many are kept.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "seven")]
    pub keep: u32,
}

fn seven() -> u32 {
    7
}

/// Where state is kept: one of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(has(self.volume) && has(self.postgres))", "message": "give volume or postgres, not both"}
]))]
pub struct TrusteeState {
    /// An embedded store on a volume; the default, with 1Gi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<DatabaseReference>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Its size.
    #[schemars(length(min = 1, max = 32), regex(pattern = "^[0-9]+(Mi|Gi|Ti)$"))]
    pub size: String,
    /// Its storage class; the cluster's default where it is not given.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// No volume but a folder of the pod, lost with it: for trying out.
    pub ephemeral: bool,
}

impl Default for Volume {
    fn default() -> Self {
        Volume { size: "1Gi".into(), storage_class: None, ephemeral: false }
    }
}

/// PostgreSQL.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReference {
    /// The Secret's entry that holds the connection URL. Where the server's certificate is of a private CA, put that into the entry
    /// `ca.crt` of the same Secret and `sslrootcert=/etc/trustee/database/ca.crt` into the URL.
    pub url_from: SecretKey,
}

/// An entry of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// The entry.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Where the server's certificate comes from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsSource {
    /// A Secret of type kubernetes.io/tls, cert-manager's for one; else the operator makes a CA and a certificate.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Names, beside the Service's, for which the operator's certificate holds.
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
}

/// The Service.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.type in ['ClusterIP', 'NodePort', 'LoadBalancer']", "message": "type is ClusterIP, NodePort or LoadBalancer"}
]))]
pub struct Exposure {
    /// ClusterIP, NodePort or LoadBalancer.
    #[serde(rename = "type")]
    #[schemars(length(max = 16))]
    pub kind: String,
    /// Its port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u32,
}

impl Default for Exposure {
    fn default() -> Self {
        Exposure { kind: "ClusterIP".into(), port: 8080 }
    }
}

/// How far a Trustee is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrusteeStatus {
    /// The generation that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Replicas that answer.
    pub ready_replicas: u32,
    /// Where workloads reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Certificates to trust, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The Secret with the administrator's token (entry `token`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_secret: Option<String>,
    /// `Ready`: at least one replica answers. `Progressing`: replicas are being made or replaced. `Degraded`: fewer answer than asked
    /// for.
    pub conditions: Vec<Condition>,
}
