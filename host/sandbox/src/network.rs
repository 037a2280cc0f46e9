//! How the pod reaches the network.

use std::sync::Arc;

use cocoon_network::PodNetwork;
use cocoon_sandbox_api::sandbox::{ConfigureRequest, Interface, Route};
use cocoon_vmm::{NetArg, Tap};

/// How the pod reaches the network.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// Through QEMU's user networking, which needs nothing of the host: the pod reaches out, nobody reaches in.
    #[default]
    User,
    /// As its network namespace does, whose taps the VM has. They are taken away with the last of these.
    Pod(Arc<PodNetwork>),
}

impl Network {
    /// The VM's devices.
    pub(crate) fn devices(&self) -> NetArg {
        match self {
            Network::User => NetArg::User,
            Network::Pod(network) => NetArg::Taps(
                network
                    .taps()
                    .iter()
                    .map(|tap| Tap {
                        mac: tap.mac,
                        mtu: tap.mtu,
                        fd: tap.fd.clone().into(),
                        vhost: tap.vhost.clone().map(Into::into),
                    })
                    .collect(),
            ),
        }
    }

    /// Writes the guest's side of it into what is sent to the guest: interfaces, routes and neighbours; with user
    /// networking also its name server, host name and way to the host's loopback.
    pub(crate) fn describe(&self, request: &mut ConfigureRequest) {
        match self {
            Network::Pod(network) => network.describe(request),
            // Fixed addresses (QEMU documentation, "Using the user mode network stack").
            Network::User => {
                request.interfaces = vec![Interface {
                    name: "eth0".into(),
                    addresses: vec!["10.0.2.15/24".into()],
                    ..Interface::default()
                }];
                request.routes =
                    vec![Route { gateway: "10.0.2.2".into(), device: "eth0".into(), ..Route::default() }];
                request.resolv_conf = "nameserver 10.0.2.3\n".into();
                request.hosts = "127.0.0.1 localhost\n::1 localhost\n".into();
                request.hostname = "cocoon".into();
                request.host_loopback = "10.0.2.2".into();
            }
        }
    }
}
