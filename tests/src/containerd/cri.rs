//! kubelet's side of the Container Runtime Interface.

use std::path::PathBuf;
use std::time::Duration;

use cocoon_grpc::{Client, Status};
use protobuf::Message;

pub use generated::*;

#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unused,
    nonstandard_style
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/cri.rs"));
}

/// How long a call may take: the creation of a container in an emulated VM, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
/// Largest answer.
const MAX_ANSWER: usize = 32 << 20;

/// A client of containerd's CRI services. Clones share a connection.
#[derive(Clone)]
pub struct Cri(Client);

/// `name: "Method" request => answer;` for calls whose request is one message.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident: $service:literal $method:literal $request:ty => $answer:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// containerd's status.
        pub async fn $name(&self, request: &$request) -> Result<$answer, Status> {
            self.call(concat!("/runtime.v1.", $service, "/", $method), request).await
        }
    )*};
}

impl Cri {
    /// The services on a socket.
    pub fn on(socket: PathBuf) -> Self {
        Cri(Client::unix(socket).with_timeout(LIMIT))
    }

    async fn call<Q: Message, A: Message>(&self, method: &str, request: &Q) -> Result<A, Status> {
        self.0.unary(method, request, MAX_ANSWER).await
    }

    /// What runs, and its version.
    ///
    /// # Errors
    /// containerd's status.
    pub async fn version(&self) -> Result<VersionResponse, Status> {
        self.call("/runtime.v1.RuntimeService/Version", &VersionRequest::new()).await
    }

    calls! {
        /// Whether runtime and network are ready.
        status: "RuntimeService" "Status" StatusRequest => StatusResponse;
        /// Makes and starts a pod.
        run_pod: "RuntimeService" "RunPodSandbox" RunPodSandboxRequest => PodSandboxId;
        /// Ends a pod and gives back its network.
        stop_pod: "RuntimeService" "StopPodSandbox" PodSandboxId => Empty;
        /// Forgets a pod.
        remove_pod: "RuntimeService" "RemovePodSandbox" PodSandboxId => Empty;
        /// How a pod is.
        pod_status: "RuntimeService" "PodSandboxStatus" PodSandboxStatusRequest => PodSandboxStatusResponse;
        /// All pods.
        pods: "RuntimeService" "ListPodSandbox" ListPodSandboxRequest => ListPodSandboxResponse;
        /// Makes a container in a pod.
        create: "RuntimeService" "CreateContainer" CreateContainerRequest => ContainerId;
        /// Starts it.
        start: "RuntimeService" "StartContainer" ContainerId => Empty;
        /// Ends it, with a grace period.
        stop: "RuntimeService" "StopContainer" StopContainerRequest => Empty;
        /// Forgets it.
        remove: "RuntimeService" "RemoveContainer" ContainerId => Empty;
        /// How a container is.
        container_status: "RuntimeService" "ContainerStatus" ContainerStatusRequest => ContainerStatusResponse;
        /// All containers.
        containers: "RuntimeService" "ListContainers" ListContainersRequest => ListContainersResponse;
        /// Changes a container's limits.
        update: "RuntimeService" "UpdateContainerResources" UpdateContainerResourcesRequest => Empty;
        /// Opens a container's log anew, after somebody moved the file.
        reopen_log: "RuntimeService" "ReopenContainerLog" ContainerId => Empty;
        /// Runs a program in a container to its end.
        exec_sync: "RuntimeService" "ExecSync" ExecSyncRequest => ExecSyncResponse;
        /// Where a program in a container can be run with streams.
        exec: "RuntimeService" "Exec" ExecRequest => Url;
        /// Where a container's own streams can be had.
        attach: "RuntimeService" "Attach" AttachRequest => Url;
        /// Where a pod's ports can be reached.
        port_forward: "RuntimeService" "PortForward" PortForwardRequest => Url;
        /// What a container uses.
        container_stats: "RuntimeService" "ContainerStats" ContainerId => ContainerStatsResponse;
        /// What all containers use.
        all_container_stats: "RuntimeService" "ListContainerStats" ListContainerStatsRequest => ListContainerStatsResponse;
        /// What a pod uses.
        pod_stats: "RuntimeService" "PodSandboxStats" PodSandboxId => PodSandboxStatsResponse;
        /// What all pods use.
        all_pod_stats: "RuntimeService" "ListPodSandboxStats" ListPodSandboxStatsRequest => ListPodSandboxStatsResponse;
        /// Fetches an image.
        pull: "ImageService" "PullImage" ImageRequest => PullImageResponse;
        /// What is known of an image; nothing where it is absent.
        image: "ImageService" "ImageStatus" ImageRequest => ImageStatusResponse;
        /// Forgets an image.
        remove_image: "ImageService" "RemoveImage" ImageRequest => Empty;
        /// All images.
        images: "ImageService" "ListImages" ListImagesRequest => ListImagesResponse;
    }
}
