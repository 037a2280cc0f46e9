//! From a network namespace to taps, and back.

use std::path::Path;
use std::sync::Arc;

use cocoon_sandbox_api::sandbox::ConfigureRequest;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::LinkAttribute;

use crate::describe::{Description, Device};
use crate::kernel::Kernel;
use crate::namespace::Namespace;
use crate::{Error, Tap, redirect, tap};

/// A pod's network namespace, connected to taps. Dropping it takes taps and redirects away again.
///
/// Its functions block for the milliseconds that the kernel takes.
#[derive(Debug)]
pub struct PodNetwork {
    namespace: Namespace,
    devices: Vec<Device>,
    taps: Vec<Tap>,
    description: Description,
}

impl PodNetwork {
    /// Reads the namespace and connects each of its devices but loopback to a tap of its own. Devices that are down and
    /// have no address are left alone (the kernel puts some of them into every namespace); without any other the pod has
    /// no network. What a killed process left behind in the namespace is taken away first.
    ///
    /// Devices may be veth, macvlan, vlan, or ipvlan in L2 mode; at most 16, with at most 32 addresses each, 256 routes
    /// and 256 permanent neighbours in all. Of the routes those of the main table count.
    ///
    /// # Errors
    /// [`Error::Namespace`], [`Error::HostNetwork`], [`Error::Unsupported`] with the device's name, or [`Error::Kernel`].
    /// Nothing is changed then.
    pub fn attach(netns: &Path) -> Result<PodNetwork, Error> {
        if netns.as_os_str().is_empty() {
            return Err(Error::HostNetwork);
        }
        let namespace = Namespace::open(netns)?;
        if namespace.is_own()? {
            return Err(Error::HostNetwork);
        }
        let (devices, taps, description) = namespace.run_async(|| async {
            let kernel = Kernel::connect()?;
            let (devices, description) = survey(&kernel).await?;
            match connect(&kernel, &devices).await {
                Ok(taps) => Ok((devices, taps, description)),
                Err(error) => {
                    disconnect(&kernel, &devices).await;
                    Err(error)
                }
            }
        })?;
        Ok(PodNetwork { namespace, devices, taps, description })
    }

    /// The taps, in the order of the devices' numbers.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// Writes interfaces, routes and neighbours into what is sent to the guest.
    pub fn describe(&self, request: &mut ConfigureRequest) {
        request.interfaces.clone_from(&self.description.interfaces);
        request.routes.clone_from(&self.description.routes);
        request.neighbours.clone_from(&self.description.neighbours);
    }

    /// Takes away what a killed process left in the namespace: taps, and redirects to them. Does nothing where there is
    /// nothing, where the namespace is the host's, and where it is gone.
    ///
    /// # Errors
    /// [`Error::Namespace`] where the path exists and is no network namespace, or [`Error::Kernel`].
    pub fn clean(netns: &Path) -> Result<(), Error> {
        if netns.as_os_str().is_empty() || !netns.exists() {
            return Ok(());
        }
        let namespace = Namespace::open(netns)?;
        if namespace.is_own()? {
            return Ok(());
        }
        namespace.run_async(|| async { clean(&Kernel::connect()?).await })
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        // The VM may still have them open: they are removed, not only closed.
        let devices = std::mem::take(&mut self.devices);
        let undone = self.namespace.run_async(|| async {
            let kernel = Kernel::connect()?;
            disconnect(&kernel, &devices).await;
            clean_taps(&kernel).await
        });
        if let Err(error) = undone {
            tracing::warn!(%error, "the pod's network keeps its taps until the VM has ended");
        }
    }
}

async fn survey(kernel: &Kernel) -> Result<(Vec<Device>, Description), Error> {
    let links = kernel.links().await?;
    let addresses = kernel.addresses().await?;
    let devices = Device::of_pod(&links, &addresses)?;
    let mut routes = kernel.routes(AddressFamily::Inet).await?;
    routes.extend(kernel.routes(AddressFamily::Inet6).await?);
    let neighbours = kernel.neighbours().await?;
    let description = Description::new(&devices, &addresses, &routes, &neighbours)?;
    Ok((devices, description))
}

async fn connect(kernel: &Kernel, devices: &[Device]) -> Result<Vec<Tap>, Error> {
    let mut taps = Vec::new();
    for (number, device) in devices.iter().enumerate() {
        let name = tap::name(number);
        let fd = tap::open(&name).map_err(Error::step(format!("make {name}")))?;
        let index = kernel.index(&name).await?;
        kernel.up_quietly(index, device.mtu).await?;
        redirect::redirect(kernel, &name, index, device.index).await?;
        redirect::redirect(kernel, &device.name, device.index, index).await?;
        let vhost = tap::open_vhost().map(Arc::new);
        taps.push(Tap { name, mac: device.mac, mtu: device.mtu, fd: Arc::new(fd), vhost });
    }
    Ok(taps)
}

/// Taps end with their last descriptor, redirects do not.
async fn disconnect(kernel: &Kernel, devices: &[Device]) {
    for device in devices {
        if let Err(error) = redirect::remove(kernel, device.index).await {
            tracing::warn!(%error, device = device.name, "a redirect stays");
        }
    }
}

async fn clean(kernel: &Kernel) -> Result<(), Error> {
    for link in kernel.links().await? {
        redirect::remove(kernel, link.header.index).await?;
    }
    clean_taps(kernel).await
}

async fn clean_taps(kernel: &Kernel) -> Result<(), Error> {
    for link in kernel.links().await? {
        let ours = |a: &LinkAttribute| matches!(a, LinkAttribute::IfName(name) if tap::is_ours(name));
        if link.attributes.iter().any(ours) {
            kernel.delete(link.header.index).await?;
        }
    }
    Ok(())
}
