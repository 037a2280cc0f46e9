//! A cluster that runs.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::containerd::{self, Config};
use super::control_plane::{self, API, Place};
use super::credentials::Authority;
use super::further::Further;
use super::kubectl::holds;
use super::worker::{self, NAME};
use super::{Options, Part, Programs, open};
use crate::containerd::{Node, Owner, Process, Version, shim_program};
use crate::{Layout, Registry, missing};

/// Programs without which there is no cluster.
const NEEDED: &[&str] =
    &["busybox", "conntrack", "docker-registry", "etcd", "ip", "iptables", "runc", "skopeo", "umoci"];
/// How long the node may take to be ready.
const LIMIT: Duration = Duration::from_secs(120);

/// The node's folders as an installer finds and changes them, and room for what containerd and kubelet keep.
pub(super) const PLACES: &str = r#"
mkdir -p "$FOLDER/up" "$FOLDER/var-lib"
mount -t tmpfs tmpfs "$FOLDER/up"
for place in etc opt usr/local; do
    mkdir -p "$FOLDER/up/$place" "$FOLDER/up/work/$place"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$FOLDER/up/$place,workdir=$FOLDER/up/work/$place" "/$place"
done
mount --bind "$FOLDER/var-lib" /var/lib
# A kubelet removes the logs of pods that it does not know: those of a cluster beside it.
mkdir -p "$FOLDER/var-log"
mount --bind "$FOLDER/var-log" /var/log
mkdir -p /var/lib/cni
rm -rf /etc/containerd /etc/cocoon
echo 1 >/proc/sys/net/ipv4/ip_forward
# Before a packet to a service is rewritten, there must be a route for it.
ip route replace 10.96.0.0/16 dev cocoon0
# As systemd has it: some pods ask for mounts that are handed on.
mount --make-rshared /
"#;

/// A cluster of one node. Dropping it ends it: nothing of it stays.
pub struct Cluster {
    containerd: Part,
    kubelet: Part,
    // The API server, etcd, controllers, scheduler, proxy, name server.
    others: Vec<Part>,
    programs: Programs,
    kubeconfig: PathBuf,
    registry: Registry,
    image: String,
    owner: Option<Owner>,
    runtime: tokio::runtime::Runtime,
    before: BTreeMap<String, String>,
    options: Options,
    pub(super) authority: Authority,
    pub(super) of_containerd: PathBuf,
    pub(super) more: Vec<Further>,
    // Everything lives in it, so it goes last.
    node: Node,
}

impl Cluster {
    /// Starts one and waits until its node is ready; `None`, and the reason printed, where this machine or this call of the
    /// tests lacks something that is not the cluster's own. The calling thread moves into the node's network, and with it all
    /// that it starts.
    ///
    /// # Errors
    /// Where a part does not come up: with its last words. Where Kubernetes' programs are absent.
    pub fn start(options: Options) -> Result<Option<Self>> {
        let Some(programs) = Programs::find()? else { return Ok(None) };
        if let Some(tool) = missing(NEEDED) {
            println!("skipped: {tool} is not installed");
            return Ok(None);
        }
        if options.runtime && shim_program().is_none() {
            println!("skipped: COCOON_SHIM_BIN does not name what to test (make test does)");
            return Ok(None);
        }
        let Some(of_containerd) = Version::V2.find() else { return Ok(None) };
        let Some(node) = Node::start_with(PLACES)? else { return Ok(None) };
        // While there is a way to Debian's packages.
        let developer = node.folder().join("developer");
        if options.open && !crate::build_developer_image(&developer)? {
            return Ok(None);
        }
        node.enter_network()?;
        let path = search_path(&node, &programs, &of_containerd, options)?;
        let authority = Authority::new(&node.folder().join("credentials"))?;
        let place = Place { node: &node, programs: &programs, authority: &authority, path: &path };
        let mut others = control_plane::start_api(&place, options.open)?;
        let kubeconfig = authority.kubeconfig("admin", "admin", "system:masters", API)?;

        // While the API starts: registry, owner, containerd.
        let registry = Registry::start_on(Node::ADDRESS)?;
        let owner = if options.owner { Owner::start(&registry)? } else { None };
        if options.owner && owner.is_none() {
            return Ok(None);
        }
        let image = Layout::busybox(&["/bin/sleep", "1000000"], &[])?.push(&registry, "work:1")?;
        let class = node.folder().join("class.toml");
        if options.runtime {
            let mut config = owner.as_ref().map(|o| o.class(&node)).unwrap_or_default();
            if options.open {
                config.guest_image = developer;
            }
            (options.class)(&mut config);
            fs::write(&class, config.to_toml())?;
        }
        let config = Config {
            folder: node.folder(),
            registry: &registry.address(),
            pause: &image,
            class: options.runtime.then_some(&class),
            pods: ("10.88.0.2", "fd00:88::2"),
        };
        containerd::write(&node, &config)?;
        let containerd = Part::start(&node, "containerd", containerd::command(&of_containerd), &path)?;
        containerd::wait_for(&node, &containerd)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        if let Some(owner) = &owner {
            runtime.block_on(owner.accept_guests())?;
        }

        control_plane::wait_for_api(&authority, &others)?;
        others.extend(control_plane::start_controllers(&place)?);
        let kubelet = worker::start_kubelet(&place, &worker::FIRST)?;
        others.extend(worker::start_network(&place)?);
        let before = BTreeMap::new();
        let mut cluster = Cluster {
            containerd,
            kubelet,
            others,
            programs,
            kubeconfig,
            registry,
            image,
            owner,
            runtime,
            before,
            options,
            authority,
            of_containerd,
            more: Vec::new(),
            node,
        };
        cluster.apply(&worker::dns_service().to_string())?;
        if options.runtime {
            cluster.apply(&runtime_class("cocoon").to_string())?;
        }
        if options.open {
            for object in open::policy(&cluster.registry.address())? {
                cluster.apply(&object.to_string())?;
            }
        }
        cluster.wait_for(&["nodes"], NAME, LIMIT, |node| holds(node, "Ready"))?;
        // Pods are refused before it is there.
        cluster.wait_for(&["serviceaccounts"], "default", LIMIT, |_| true)?;
        cluster.before = cluster.files();
        Ok(Some(cluster))
    }

    /// The kubeconfig of its administrator. The API is in the node's network.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Kubernetes' programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The registry, which is behind all image names, whatever their own registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// An image with busybox, whose own command sleeps.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The machine that its one node is. Kubernetes calls it `node`.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The workloads' owner.
    ///
    /// # Errors
    /// Where the options have none.
    pub fn owner(&self) -> Result<&Owner> {
        self.owner.as_ref().context("there is no owner")
    }

    /// Runs something asynchronous to its end.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The folder of containerd's drop-ins, which is the node's `/etc/containerd/conf.d`.
    pub fn drop_ins(&self) -> PathBuf {
        containerd::drop_ins(&self.node)
    }

    /// containerd. Its socket, main file and state are at the usual places of the node; whoever ends it restarts it.
    pub fn containerd(&mut self) -> &mut Part {
        &mut self.containerd
    }

    /// kubelet. Whoever ends it restarts it.
    pub fn kubelet(&mut self) -> &mut Part {
        &mut self.kubelet
    }

    /// One of the others: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kube-proxy`, `coredns`.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn part(&mut self, name: &str) -> Result<&mut Part> {
        self.others.iter_mut().find(|p| p.name() == name).with_context(|| format!("there is no {name}"))
    }

    pub(super) fn node_and_parts(&mut self) -> (&Node, &mut [Part]) {
        (&self.node, &mut self.others)
    }

    pub(super) fn stop_worker(&mut self) -> Result<()> {
        self.kubelet.stop(&self.node, Signal::KILL)?;
        self.containerd.stop(&self.node, Signal::KILL)
    }

    pub(super) fn start_worker(&mut self) -> Result<()> {
        self.containerd.start_again(&self.node)?;
        containerd::wait_for(&self.node, &self.containerd)?;
        self.kubelet.start_again(&self.node)
    }

    /// Ends one of those, and waits until it is gone; it stays away.
    ///
    /// # Errors
    /// Where there is none of this name, or it does not end.
    pub fn stop_part(&mut self, name: &str, signal: Signal) -> Result<()> {
        let part = self.others.iter_mut().find(|p| p.name() == name);
        part.with_context(|| format!("there is no {name}"))?.stop(&self.node, signal)
    }

    /// Processes of pods whose arguments hold these words.
    pub fn contained(&self, words: &str) -> Vec<Process> {
        self.node.contained().into_iter().filter(|p| p.arguments.contains(words)).collect()
    }

    /// Ends containerd as a service manager does, and waits until a new one answers.
    ///
    /// # Errors
    /// Where it does not.
    pub fn restart_containerd(&mut self) -> Result<()> {
        self.again(Signal::TERM)
    }

    /// Kills containerd, and waits until a new one answers.
    ///
    /// # Errors
    /// Where it does not.
    pub fn kill_containerd(&mut self) -> Result<()> {
        self.again(Signal::KILL)
    }

    fn again(&mut self, signal: Signal) -> Result<()> {
        self.containerd.stop(&self.node, signal)?;
        self.containerd.start_again(&self.node)?;
        containerd::wait_for(&self.node, &self.containerd)
    }

    /// Kills kubelet, which is started again, and waits until the API has heard of the new one.
    ///
    /// # Errors
    /// Where it does not.
    pub fn kill_kubelet(&mut self) -> Result<()> {
        let beat =
            |node: &Value| node.pointer("/status/conditions/0/lastHeartbeatTime").map(Value::to_string);
        self.kubelet.stop(&self.node, Signal::KILL)?;
        let last = beat(&self.get(&["node", NAME])?);
        self.kubelet.start_again(&self.node)?;
        self.wait_for(&["nodes"], NAME, LIMIT, |node| holds(node, "Ready") && beat(node) != last)?;
        Ok(())
    }

    /// Files below the node's `/etc`, `/opt` and `/usr/local` that are not as they were when the cluster was ready: path and what
    /// became of it (`new`, `changed`, `gone`).
    pub fn changed_files(&self) -> Vec<(String, &'static str)> {
        let now = self.files();
        let mut changed: Vec<_> = now
            .iter()
            .filter_map(|(path, content)| match self.before.get(path) {
                None => Some((path.clone(), "new")),
                Some(before) => (before != content).then(|| (path.clone(), "changed")),
            })
            .collect();
        changed.extend(self.before.keys().filter(|p| !now.contains_key(*p)).map(|p| (p.clone(), "gone")));
        changed
    }

    fn files(&self) -> BTreeMap<String, String> {
        let up = self.node.path(&self.node.folder().join("up").display().to_string());
        let mut found = BTreeMap::new();
        for place in ["etc", "opt", "usr/local"] {
            walk(&up.join(place), &format!("/{place}"), &mut found);
        }
        found
    }

    /// What pods left on the node, if it is still there after `limit`: processes, mounts, network devices and namespaces, cgroups,
    /// folders of pods.
    ///
    /// # Errors
    /// Where this cannot be found out.
    pub fn left(&self, limit: Duration) -> Result<Vec<String>> {
        let began = std::time::Instant::now();
        loop {
            let left = self.remains()?;
            if left.is_empty() || began.elapsed() > limit {
                return Ok(left);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn remains(&self) -> Result<Vec<String>> {
        let shim = |name: &str| name.starts_with("containerd-shim") || name.starts_with("qemu");
        let processes = self.node.processes().into_iter().filter(|p| shim(&p.name));
        let mut left: Vec<String> =
            processes.map(|p| format!("process {}: {}", p.pid, p.arguments)).collect();
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.node.init()))?;
        let of_pods = ["/var/lib/kubelet/pods", "/run/containerd/io", "/run/netns/", "/run/cocoon"];
        let mounts = mounts.lines().filter(|m| of_pods.iter().any(|of| m.contains(of)));
        left.extend(mounts.map(|m| format!("mount {m}")));
        for line in
            self.node.run("ip", ["-o", "link"])?.lines().filter(|l| l.contains("veth") || l.contains("tap"))
        {
            left.push(format!("network device {line}"));
        }
        let folders = fs::read_dir(self.node.path("/var/lib/kubelet/pods")).into_iter().flatten().flatten();
        left.extend(folders.map(|f| format!("folder {}", f.path().display())));
        left.extend(
            super::story::files_below(&self.node.folder().join("s")).into_iter().map(|f| format!("file {f}")),
        );
        Ok(left)
    }

    /// The last words of all its parts.
    pub fn last_words(&self) -> String {
        let words = |part: &Part| part.last_words();
        let mut all: String = self.others.iter().map(words).collect();
        all.extend(self.more.iter().map(Further::last_words));
        all.push_str(&words(&self.containerd));
        all.push_str(&words(&self.kubelet));
        all
    }

    /// What it was started with.
    pub fn options(&self) -> Options {
        self.options
    }
}

/// A RuntimeClass of Cocoon's, whose handler has its name.
pub(super) fn runtime_class(name: &str) -> Value {
    json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name,
        // Emulated VMs: QEMU keeps what it has translated.
        "overhead": {"podFixed": {"memory": "640Mi", "cpu": "100m"}},
    })
}

/// Where the node's programs are looked for; the shim is among them where the options have it.
pub(super) fn search_path(
    node: &Node,
    programs: &Programs,
    of_containerd: &Path,
    options: Options,
) -> Result<std::ffi::OsString> {
    let own = node.folder().join("bin");
    fs::create_dir_all(&own)?;
    if let (true, Some(shim)) = (options.runtime, shim_program()) {
        symlink(fs::canonicalize(shim)?, own.join("containerd-shim-cocoon-v2"))?;
    }
    let others = std::env::var_os("PATH").unwrap_or_default();
    let first = [own, of_containerd.to_owned()];
    let all =
        first.into_iter().chain(programs.folders().iter().cloned()).chain(std::env::split_paths(&others));
    Ok(std::env::join_paths(all.chain(["/usr/sbin".into(), "/sbin".into()]))?)
}

/// Notes what is in a folder: mode and content of files, targets of links, which folders there are.
fn walk(folder: &Path, name: &str, found: &mut BTreeMap<String, String>) {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        let content = if meta.is_dir() {
            walk(&entry.path(), &name, found);
            String::new()
        } else if meta.is_file() {
            fs::read(entry.path()).map(|b| cocoon_image::Digest::sha256(&b).to_string()).unwrap_or_default()
        } else {
            fs::read_link(entry.path()).map(|t| t.display().to_string()).unwrap_or_default()
        };
        found.insert(name, format!("{:o} {content}", meta.permissions().mode()));
    }
}
