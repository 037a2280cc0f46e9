//! The pod's network, as the host describes it: checked, then applied.
//!
//! The host decides where packets go anyway, so none of this is trusted with more than reachability; but what it
//! sends must be well-formed and bounded, and must leave loopback (where secrets are served) alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use cocoon_sandbox_api::sandbox::ConfigureRequest;

use crate::Error;
use crate::netlink::{Cidr, Netlink, Request, RouteRequest};

mod check;
mod names;

const MAX_INTERFACES: usize = 16;
const MAX_ROUTES: usize = 256;
const MAX_NEIGHBOURS: usize = 256;

/// A checked configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Network {
    interfaces: Vec<Interface>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
    resolv_conf: String,
    hosts: String,
    pub(crate) hostname: String,
    /// Where services on the host's loopback are found.
    pub(crate) host_loopback: Option<IpAddr>,
}

#[derive(Debug, PartialEq, Eq)]
struct Interface {
    name: String,
    addresses: Vec<Cidr>,
    mtu: Option<u32>,
    hardware: Option<[u8; 6]>,
    prefix_routes: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Route {
    destination: Cidr,
    gateway: Option<IpAddr>,
    /// None where it leads nowhere.
    device: Option<String>,
    metric: u32,
    source: Option<IpAddr>,
    scope: u8,
    kind: u8,
    on_link: bool,
    mtu: u32,
    advmss: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct Neighbour {
    address: IpAddr,
    hardware: [u8; 6],
    device: String,
}

impl Network {
    /// Checks what the host sent.
    ///
    /// # Errors
    /// [`Error::Refused`] with what is wrong.
    pub(crate) fn check(request: &ConfigureRequest) -> Result<Self, Error> {
        let bounded = request.interfaces.len() <= MAX_INTERFACES
            && request.routes.len() <= MAX_ROUTES
            && request.neighbours.len() <= MAX_NEIGHBOURS;
        if !bounded {
            return Err(Error::Refused("too many interfaces, routes or neighbours".into()));
        }
        let network = Network {
            interfaces: request.interfaces.iter().map(check::interface).collect::<Result<_, _>>()?,
            routes: request.routes.iter().map(check::route).collect::<Result<_, _>>()?,
            neighbours: request.neighbours.iter().map(check::neighbour).collect::<Result<_, _>>()?,
            resolv_conf: check::text("resolv_conf", &request.resolv_conf)?,
            hosts: check::text("hosts", &request.hosts)?,
            hostname: check::hostname(&request.hostname)?,
            host_loopback: match request.host_loopback.as_str() {
                "" => None,
                ip => Some(check::address(ip)?),
            },
        };
        network.check_agreement()?;
        Ok(network)
    }

    /// That the parts speak of the same devices and addresses.
    fn check_agreement(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Refused(reason));
        let (mut names, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for interface in &self.interfaces {
            let twice = interface.hardware.is_some_and(|h| !seen.insert(h));
            if !names.insert(interface.name.as_str()) || twice {
                return refuse(format!("{} or its device is named twice", interface.name));
            }
        }
        let addresses: BTreeSet<IpAddr> =
            self.interfaces.iter().flat_map(|i| &i.addresses).map(|c| c.address).collect();
        for route in &self.routes {
            if let Some(device) = route.device.as_deref().filter(|d| !names.contains(d)) {
                return refuse(format!("route through {device:?}, which is not configured"));
            }
            if let Some(source) = route.source.filter(|s| !addresses.contains(s)) {
                return refuse(format!("route from {source}, which is no address of the pod"));
            }
        }
        match self.neighbours.iter().find(|n| !names.contains(n.device.as_str())) {
            Some(neighbour) => {
                refuse(format!("neighbour on {:?}, which is not configured", neighbour.device))
            }
            None => Ok(()),
        }
    }

    /// Applies it to the guest's network namespace.
    ///
    /// # Errors
    /// [`Error::Refused`] where a device is not there, [`Error::Boot`] with the step that failed.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        let netlink = Netlink::open().map_err(Error::boot("open netlink"))?;
        let indexes = self.name_devices(&netlink)?;
        let index = |name: &str| {
            let found = indexes.iter().find(|(_, n)| *n == name).map(|(index, _)| *index);
            found.ok_or_else(|| Error::Refused(format!("there is no network device {name}")))
        };
        for interface in &self.interfaces {
            let name = &interface.name;
            let index = index(name)?;
            interface.quieten().map_err(Error::boot(format!("set {name} up for IPv6")))?;
            let up = Request::link_up(index, interface.mtu);
            netlink.send(&up).map_err(Error::boot(format!("bring {name} up")))?;
            for cidr in &interface.addresses {
                let add = Request::address(index, *cidr, interface.prefix_routes);
                netlink.send(&add).map_err(Error::boot(format!("give {name} {}", cidr.address)))?;
            }
        }
        for neighbour in &self.neighbours {
            let add = Request::neighbour(index(&neighbour.device)?, neighbour.address, neighbour.hardware);
            netlink.send(&add).map_err(Error::boot(format!("add the neighbour {}", neighbour.address)))?;
        }
        // Routes to gateways' networks come before routes through the gateways.
        let (direct, through): (Vec<_>, Vec<_>) = self.routes.iter().partition(|r| r.gateway.is_none());
        for route in direct.into_iter().chain(through) {
            let index = route.device.as_deref().map(index).transpose()?;
            match netlink.send(&Request::route(&route.request(index))) {
                // The kernel's own to an address's network, or one that the host names twice.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                added => {
                    let Cidr { address, prefix } = route.destination;
                    added.map_err(Error::boot(format!("add a route to {address}/{prefix}")))?;
                }
            }
        }
        Ok(())
    }

    /// Finds each interface's device and gives it its name. Returns their numbers and names.
    fn name_devices(&self, netlink: &Netlink) -> Result<Vec<(u32, &str)>, Error> {
        let links = netlink.links().map_err(Error::boot("list network devices"))?;
        let mut named = Vec::new();
        for interface in &self.interfaces {
            let index = names::find(&links, &interface.name, interface.hardware)?;
            if named.iter().any(|(other, _)| *other == index) {
                return Err(Error::Refused(format!("the device of {} has a name already", interface.name)));
            }
            named.push((index, interface.name.as_str()));
        }
        for (index, name) in names::renamings(&links, &named) {
            let step = || format!("name a network device {name}");
            netlink.send(&Request::link_down(index)).map_err(Error::boot(step()))?;
            netlink.send(&Request::rename(index, &name)).map_err(Error::boot(step()))?;
        }
        Ok(named)
    }

    /// Writes the name resolution files to `etc` (containers mount them) and `own` (the guest's `/etc`).
    ///
    /// # Errors
    /// [`Error::Boot`].
    pub(crate) fn write_files(&self, etc: &Path, own: &Path) -> Result<(), Error> {
        let name = if self.hostname.is_empty() { "localhost" } else { &self.hostname };
        let hosts = if self.hosts.is_empty() {
            format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 {name}\n")
        } else {
            self.hosts.clone()
        };
        let files =
            [("resolv.conf", &self.resolv_conf), ("hosts", &hosts), ("hostname", &format!("{name}\n"))];
        for folder in [etc, own] {
            fs::create_dir_all(folder).map_err(Error::boot(format!("make {}", folder.display())))?;
            for (file, content) in files {
                fs::write(folder.join(file), content).map_err(Error::boot(format!("write {file}")))?;
            }
        }
        if !self.hostname.is_empty() {
            rustix::system::sethostname(self.hostname.as_bytes())
                .map_err(Error::boot("set the host name"))?;
        }
        Ok(())
    }
}

/// Brings loopback up.
///
/// # Errors
/// [`Error::Boot`].
pub(crate) fn loopback_up() -> Result<(), Error> {
    let up = || {
        let netlink = Netlink::open()?;
        netlink.send(&Request::link_up(netlink.index("lo")?, None))
    };
    up().map_err(Error::boot("bring loopback up"))
}

impl Interface {
    /// Before it is up: no address has to prove itself unique (the host's network has seen to that), and the link-local
    /// address is the one that the host names, if it does.
    fn quieten(&self) -> io::Result<()> {
        let folder = Path::new("/proc/sys/net/ipv6/conf").join(&self.name);
        if !folder.exists() {
            // No IPv6; an address of it will say so.
            return Ok(());
        }
        fs::write(folder.join("accept_dad"), "0")?;
        let link_local =
            |c: &Cidr| matches!(c.address, IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6));
        if self.addresses.iter().any(link_local) {
            fs::write(folder.join("addr_gen_mode"), "1")?;
        }
        Ok(())
    }
}

impl Route {
    fn request(&self, index: Option<u32>) -> RouteRequest {
        RouteRequest {
            destination: self.destination,
            gateway: self.gateway,
            index,
            metric: self.metric,
            source: self.source,
            scope: self.scope,
            kind: self.kind,
            on_link: self.on_link,
            mtu: self.mtu,
            advmss: self.advmss,
        }
    }
}

#[cfg(test)]
mod tests;
