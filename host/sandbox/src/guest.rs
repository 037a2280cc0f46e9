//! The guest's services and streams, for who speaks containerd's Task service himself: the shim.

use cocoon_sandbox_api::sandbox_ttrpc::SandboxClient;
use cocoon_sandbox_api::stdio_uri;
use cocoon_stage::Failure;
use cocoon_vsock::{Listener, Stream};
use containerd_shim_protos::shim_async::TaskClient;

use crate::Pod;
use crate::container::next_port;

/// A standard stream that the guest is going to open.
pub struct GuestStream {
    /// What the request names it by.
    pub uri: String,
    listener: Listener,
}

impl GuestStream {
    /// Waits for the guest to open it; `None` once the VM has ended.
    pub async fn open(mut self) -> Option<Stream> {
        self.listener.accept().await
    }
}

impl Pod {
    /// The guest's Task service.
    pub fn task(&self) -> &TaskClient {
        &self.task
    }

    /// The guest's Sandbox service.
    pub fn sandbox(&self) -> &SandboxClient {
        &self.sandbox
    }

    /// A stream for a process that is about to be made.
    ///
    /// # Errors
    /// Where the VM has ended.
    pub fn stream(&self) -> Result<GuestStream, Failure> {
        let port = next_port();
        Ok(GuestStream { uri: stdio_uri(port), listener: self.vsock.listen(port)? })
    }

    /// Connects to a port of the guest.
    ///
    /// # Errors
    /// `SERVE-FAILED` where nobody listens there or the VM has ended.
    pub async fn connect(&self, port: u32) -> Result<Stream, Failure> {
        Ok(self.vsock.connect(port).await?)
    }
}
