//! etcd and the control plane.

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use cocoon_http::{Client, Options, Request, Roots};

use super::credentials::Authority;
use super::{Part, Programs};
use crate::containerd::Node;

/// Where the API is, inside the cluster's network.
pub(super) const API: &str = "https://10.88.0.1:6443";
/// The services' network; its first address is the API's.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// How long the API may take to be ready, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// What they all need.
pub(super) struct Place<'a> {
    pub node: &'a Node,
    pub programs: &'a Programs,
    pub authority: &'a Authority,
    pub path: &'a std::ffi::OsStr,
}

impl Place<'_> {
    /// Starts a program of the cluster with these arguments.
    pub(super) fn part(&self, name: &'static str, arguments: &[String]) -> Result<Part> {
        let program = self.programs.path(name).display().to_string();
        let command = std::iter::once(program).chain(arguments.iter().cloned()).collect();
        Part::start(self.node, name, command, self.path)
    }

    fn file(&self, name: &str) -> String {
        self.authority.file(name).display().to_string()
    }

    /// `--kubeconfig=…` of a user.
    pub(super) fn kubeconfig(&self, user: &str, group: &str) -> Result<String> {
        let file = user.rsplit(':').next().unwrap_or(user);
        Ok(format!("--kubeconfig={}", self.authority.kubeconfig(file, user, group, API)?.display()))
    }
}

/// Starts etcd and the API server; they are not ready yet. `mutating`: with policies that change what is admitted, which are beta.
pub(super) fn start_api(place: &Place, mutating: bool) -> Result<Vec<Part>> {
    let data = place.node.folder().join("etcd").display().to_string();
    let etcd = place.part(
        "etcd",
        &[
            format!("--data-dir={data}"),
            // What a machine that loses power keeps does not matter here.
            "--unsafe-no-fsync".into(),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
        ],
    )?;
    let authority = place.authority;
    authority.server(
        "apiserver",
        &[
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            "10.96.0.1",
            Node::ADDRESS,
        ],
    )?;
    authority.client("kubelet-client", "kube-apiserver", "system:masters")?;
    authority.client("front-proxy", "front-proxy", "front-proxy")?;
    let mut flags = vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        format!("--advertise-address={}", Node::ADDRESS),
        "--secure-port=6443".into(),
        format!("--service-cluster-ip-range={SERVICES}"),
        format!("--client-ca-file={}", place.file("ca.pem")),
        format!("--tls-cert-file={}", place.file("apiserver.pem")),
        format!("--tls-private-key-file={}", place.file("apiserver.key")),
        format!("--kubelet-client-certificate={}", place.file("kubelet-client.pem")),
        format!("--kubelet-client-key={}", place.file("kubelet-client.key")),
        format!("--kubelet-certificate-authority={}", place.file("ca.pem")),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--service-account-key-file={}", place.file("sa.pub")),
        format!("--service-account-signing-key-file={}", place.file("sa.pem")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        format!("--requestheader-client-ca-file={}", place.file("ca.pem")),
        "--requestheader-allowed-names=front-proxy".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        format!("--proxy-client-cert-file={}", place.file("front-proxy.pem")),
        format!("--proxy-client-key-file={}", place.file("front-proxy.key")),
        // Webhooks and aggregated APIs are reached by endpoint, as nothing else here does.
        "--enable-aggregator-routing=true".into(),
    ];
    if mutating {
        flags.push("--feature-gates=MutatingAdmissionPolicy=true".into());
        flags.push("--runtime-config=admissionregistration.k8s.io/v1beta1=true".into());
    }
    let api = place.part("kube-apiserver", &flags)?;
    Ok(vec![etcd, api])
}

/// Waits until the API answers that it is ready. The calling thread must be in the node's network.
pub(super) fn wait_for_api(authority: &Authority, parts: &[Part]) -> Result<()> {
    let options = Options {
        roots: Roots::Pinned(vec![authority.certificate()]),
        connect_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(10),
        ..Options::default()
    };
    let client = Client::new(options)?;
    let url = format!("{API}/readyz");
    let ask = async {
        let began = std::time::Instant::now();
        loop {
            let answer = client.send(Request::get(&url).body(Bytes::new())?).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return anyhow::Ok(true);
            }
            if began.elapsed() > LIMIT {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if !runtime.block_on(ask)? {
        bail!("the API does not answer: {}", parts.iter().map(Part::last_words).collect::<String>());
    }
    Ok(())
}

/// Starts controllers and scheduler. The API must be ready: they give up soon where it is not.
pub(super) fn start_controllers(place: &Place) -> Result<Vec<Part>> {
    let controllers = place.part(
        "kube-controller-manager",
        &[
            place.kubeconfig("system:kube-controller-manager", "system:kube-controller-manager")?,
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
            "--use-service-account-credentials=true".into(),
            format!("--service-account-private-key-file={}", place.file("sa.pem")),
            format!("--root-ca-file={}", place.file("ca.pem")),
            format!("--cluster-signing-cert-file={}", place.file("ca.pem")),
            format!("--cluster-signing-key-file={}", place.file("ca.key")),
        ],
    )?;
    let scheduler = place.part(
        "kube-scheduler",
        &[
            place.kubeconfig("system:kube-scheduler", "system:kube-scheduler")?,
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
        ],
    )?;
    Ok(vec![controllers, scheduler])
}
