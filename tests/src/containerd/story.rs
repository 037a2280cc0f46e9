//! A test's own machine: node, registry, containerd and, for pods of Cocoon, an owner with Trustee.

use std::time::Duration;

use anyhow::{Context, Result};
use cocoon_plan::Plan;
use cocoon_runtime::RuntimeConfig;

use super::daemon::shim_program;
use super::{ContainerWish, Containerd, Node, Owner, Pod, PodWish, Setup, Snapshotter, Version};
use crate::{Layout, Registry, missing};

/// Programs without which there are no pods.
const NEEDED: &[&str] = &["busybox", "docker-registry", "ip", "runc", "skopeo", "umoci"];

/// What a story runs on.
pub struct Machine {
    /// containerd.
    pub containerd: Containerd,
    /// The registry.
    pub registry: Registry,
    /// The owner, in stories of Cocoon's pods.
    pub owner: Option<Owner>,
    /// Cocoon's snapshotter, in stories that have it.
    pub snapshotter: Option<Snapshotter>,
    /// An image with busybox, whose own command sleeps.
    pub image: String,
    /// Everything lives in it, so it goes last.
    pub node: Node,
}

/// What a story is about.
#[derive(Clone, Copy, Debug)]
pub enum Story {
    /// Pods of runc, which show that what fails elsewhere is not the test's fault.
    Runc,
    /// Pods of Cocoon, with these changes to the runtime class.
    Cocoon(fn(&mut RuntimeConfig)),
    /// The same on a node where Cocoon's snapshotter keeps all images, so that no pod of runc can run.
    Snapshotter(fn(&mut RuntimeConfig)),
}

impl Story {
    /// Tells a story on a machine of its own, then looks whether anything is left that should be gone. It is passed over,
    /// and the reason printed, where this machine or this call of the tests lacks something.
    ///
    /// # Panics
    /// Where the story fails, or something is left.
    #[allow(clippy::unwrap_used, clippy::panic)] // a test's frame
    pub fn tell<F>(self, version: Version, story: impl FnOnce(Machine) -> F + Send)
    where
        F: Future<Output = Machine>,
    {
        // A thread moves into the node's network, and with it all that it starts.
        let told = std::thread::scope(|scope| scope.spawn(|| self.on_node(version, story)).join());
        if let Err(panic) = told.map(Result::unwrap) {
            std::panic::resume_unwind(panic);
        }
    }

    fn on_node<F>(self, version: Version, story: impl FnOnce(Machine) -> F) -> Result<()>
    where
        F: Future<Output = Machine>,
    {
        if let Some(tool) = missing(NEEDED) {
            println!("skipped: {tool} is not installed");
            return Ok(());
        }
        let of_runc = matches!(self, Story::Runc);
        if !of_runc && shim_program().is_none() {
            println!("skipped: COCOON_SHIM_BIN does not name what to test (make test does)");
            return Ok(());
        }
        let _turn = if of_runc { None } else { Some(crate::job::turn()?) };
        let Some(node) = Node::start()? else { return Ok(()) };
        node.enter_network()?;
        let registry = Registry::start_on(Node::ADDRESS)?;
        let image = Layout::busybox(&["/bin/sleep", "1000000"], &[])?.push(&registry, "work:1")?;
        let owner = if of_runc { None } else { Owner::start(&registry)? };
        if !of_runc && owner.is_none() {
            return Ok(());
        }
        let mut class = owner.as_ref().map(|o| o.class(&node)).unwrap_or_default();
        if let Story::Cocoon(change) | Story::Snapshotter(change) = self {
            change(&mut class);
        }
        let snapshotter = match self {
            Story::Snapshotter(_) => Some(Snapshotter::start(&node)?),
            _ => None,
        };
        if let Some(None) = snapshotter {
            return Ok(());
        }
        let (snapshotter, socket) = (snapshotter.flatten(), Snapshotter::socket(&node));
        let setup = Setup {
            version,
            registry: &registry.address(),
            pause: &image,
            class: &class,
            snapshotter: snapshotter.as_ref().map(|_| socket.as_path()),
        };
        let Some(containerd) = Containerd::start(&node, &setup)? else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let machine = runtime.block_on(async {
            if let Some(owner) = &owner {
                owner.accept_guests().await?;
            }
            anyhow::Ok(story(Machine { node, containerd, registry, owner, snapshotter, image }).await)
        })?;
        let left = machine.left(Duration::from_secs(20))?;
        assert_eq!(
            left,
            Vec::<String>::new(),
            "left behind; containerd's log:\n{}",
            machine.containerd.log()
        );
        Ok(())
    }
}

impl Machine {
    /// The owner.
    ///
    /// # Errors
    /// In stories of runc's pods.
    pub fn owner(&self) -> Result<&Owner> {
        self.owner.as_ref().context("there is no owner")
    }

    /// What pods left behind, if it is still there after `limit`.
    ///
    /// # Errors
    /// Where this cannot be found out.
    pub fn left(&self, limit: Duration) -> Result<Vec<String>> {
        let mut left = self.node.left(&["containerd", "cocoon"], limit)?;
        // The state folder of Cocoon's pods.
        let state = self.node.folder().join("s");
        left.extend(files_below(&state).into_iter().map(|f| format!("file {f}")));
        Ok(left)
    }

    /// Runs a pod.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn pod(&self, wish: PodWish) -> Result<Pod> {
        Pod::run(&self.containerd, &self.node, wish).await
    }

    /// Plans a pod of Cocoon with these containers, lets `change` alter the plan, registers it with these secrets (by path,
    /// such as `default/secret/token`) and runs the pod. The containers are planned only, not made.
    ///
    /// # Errors
    /// Where the plan is not valid; containerd's refusal.
    pub async fn planned(
        &self,
        mut wish: PodWish,
        containers: &[&ContainerWish],
        secrets: &[(&str, &str)],
        change: impl FnOnce(&mut Plan),
    ) -> Result<Pod> {
        let owner = self.owner()?;
        let planned = containers.iter().map(|c| owner.container(c)).collect::<Result<Vec<_>>>()?;
        let mut plan = owner.plan(&wish.name, planned)?;
        change(&mut plan);
        wish.annotations.insert(super::ANNOTATION.into(), owner.register(&plan, secrets).await?);
        self.pod(wish).await
    }

    /// Removes a pod.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn remove(&self, pod: Pod) -> Result<()> {
        pod.remove().await
    }
}

/// Paths below a folder, folders of pods that are empty included.
fn files_below(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // Empty folders are the shape of the place: of sockets, of pods.
    let below = |path: std::path::PathBuf| match path.is_dir() {
        true => files_below(&path),
        false => vec![path.display().to_string()],
    };
    entries.flat_map(|entry| below(entry.path())).collect()
}
