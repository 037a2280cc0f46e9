//! The pod's network, as the host describes it: checked, then applied.
//!
//! The host decides where packets go anyway, so none of this is trusted with more than reachability; but what it
//! sends must be well-formed and bounded, and must leave loopback (where secrets are served) alone.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use cocoon_sandbox_api::sandbox::ConfigureRequest;

use crate::Error;
use crate::netlink::{Cidr, Netlink, Request};

const MAX_INTERFACES: usize = 16;
const MAX_ADDRESSES: usize = 32;
const MAX_ROUTES: usize = 256;
/// Longest resolv.conf or hosts file, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// A checked configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Network {
    interfaces: Vec<Interface>,
    routes: Vec<Route>,
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
}

#[derive(Debug, PartialEq, Eq)]
struct Route {
    destination: Option<Cidr>,
    gateway: Option<IpAddr>,
    device: String,
}

impl Network {
    /// Checks what the host sent.
    ///
    /// # Errors
    /// [`Error::Refused`] with what is wrong.
    pub(crate) fn check(request: &ConfigureRequest) -> Result<Self, Error> {
        let bounded = request.interfaces.len() <= MAX_INTERFACES && request.routes.len() <= MAX_ROUTES;
        if !bounded {
            return Err(Error::Refused("too many interfaces or routes".into()));
        }
        let interfaces: Vec<Interface> =
            request.interfaces.iter().map(interface).collect::<Result<_, _>>()?;
        let names: BTreeSet<&str> = interfaces.iter().map(|i| i.name.as_str()).collect();
        if names.len() != interfaces.len() {
            return Err(Error::Refused("an interface is named twice".into()));
        }
        let routes: Vec<Route> = request.routes.iter().map(route).collect::<Result<_, _>>()?;
        if let Some(route) = routes.iter().find(|r| !names.contains(r.device.as_str())) {
            return Err(Error::Refused(format!("route through {:?}, which is not configured", route.device)));
        }
        Ok(Network {
            interfaces,
            routes,
            resolv_conf: text("resolv_conf", &request.resolv_conf)?,
            hosts: text("hosts", &request.hosts)?,
            hostname: hostname(&request.hostname)?,
            host_loopback: match request.host_loopback.as_str() {
                "" => None,
                ip => Some(address(ip)?),
            },
        })
    }

    /// Applies it to the guest's network namespace.
    ///
    /// # Errors
    /// [`Error::Boot`] with the step that failed.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        let netlink = Netlink::open().map_err(Error::boot("open netlink"))?;
        for interface in &self.interfaces {
            let name = &interface.name;
            let index = netlink.index(name).map_err(Error::boot(format!("find {name}")))?;
            let up = Request::link_up(index, interface.mtu, interface.hardware);
            netlink.send(&up).map_err(Error::boot(format!("bring {name} up")))?;
            for cidr in &interface.addresses {
                let add = Request::address(index, *cidr);
                netlink.send(&add).map_err(Error::boot(format!("give {name} {}", cidr.address)))?;
            }
        }
        // Routes to gateways' networks come before routes through the gateways.
        let (direct, through): (Vec<_>, Vec<_>) = self.routes.iter().partition(|r| r.gateway.is_none());
        for route in direct.into_iter().chain(through) {
            let step = || format!("add a route through {}", route.device);
            let index = netlink.index(&route.device).map_err(Error::boot(step()))?;
            let add = Request::route(index, route.destination, route.gateway);
            netlink.send(&add).map_err(Error::boot(step()))?;
        }
        Ok(())
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
        netlink.send(&Request::link_up(netlink.index("lo")?, None, None))
    };
    up().map_err(Error::boot("bring loopback up"))
}

fn interface(sent: &cocoon_sandbox_api::sandbox::Interface) -> Result<Interface, Error> {
    let name = device(&sent.name)?;
    if sent.addresses.len() > MAX_ADDRESSES {
        return Err(Error::Refused(format!("too many addresses on {name}")));
    }
    let mtu = match sent.mtu {
        0 => None,
        // The least that IPv4 takes, and the most of a 16-bit length.
        mtu @ 68..=65_535 => Some(mtu),
        mtu => return Err(Error::Refused(format!("{mtu} is not an MTU"))),
    };
    let hardware = match sent.hw_addr.as_str() {
        "" => None,
        text => Some(hardware(text)?),
    };
    let addresses = sent.addresses.iter().map(|a| cidr(a)).collect::<Result<Vec<_>, _>>()?;
    if let Some(bad) = addresses.iter().find(|c| c.address.is_loopback() || c.address.is_unspecified()) {
        return Err(Error::Refused(format!("{} is not an address for {name}", bad.address)));
    }
    Ok(Interface { name, addresses, mtu, hardware })
}

fn route(sent: &cocoon_sandbox_api::sandbox::Route) -> Result<Route, Error> {
    let destination = match sent.destination.as_str() {
        "" | "default" => None,
        text => Some(cidr(text)?),
    };
    let gateway = match sent.gateway.as_str() {
        "" => None,
        text => Some(address(text)?),
    };
    if destination.is_some_and(|d| d.address.is_loopback()) {
        return Err(Error::Refused("a route must not take loopback away".into()));
    }
    if let (Some(d), Some(g)) = (destination, gateway)
        && d.address.is_ipv4() != g.is_ipv4()
    {
        return Err(Error::Refused(format!("route to {} through {g}", d.address)));
    }
    Ok(Route { destination, gateway, device: device(&sent.device)? })
}

/// A network device's name: not loopback, at most 15 characters (`IFNAMSIZ`).
fn device(name: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ok = (1..=15).contains(&name.len()) && name.chars().all(plain) && !matches!(name, "lo" | "." | "..");
    if ok { Ok(name.to_owned()) } else { Err(Error::Refused(format!("{name:?} is not a network device"))) }
}

fn address(text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| Error::Refused(format!("{text:?} is not an IP address")))
}

fn cidr(text: &str) -> Result<Cidr, Error> {
    let bad = || Error::Refused(format!("{text:?} is not ADDRESS/PREFIX"));
    let (ip, prefix) = text.split_once('/').ok_or_else(bad)?;
    let address = address(ip)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.parse().ok().filter(|p| *p <= longest).ok_or_else(bad)?;
    Ok(Cidr { address, prefix })
}

fn hardware(text: &str) -> Result<[u8; 6], Error> {
    let bad = || Error::Refused(format!("{text:?} is not a hardware address"));
    let bytes = hex::decode(text.replace(':', "")).map_err(|_| bad())?;
    let bytes: [u8; 6] = bytes.try_into().map_err(|_| bad())?;
    // The lowest bit of the first byte marks groups.
    if bytes[0] & 1 == 0 { Ok(bytes) } else { Err(bad()) }
}

fn hostname(name: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let ok = name.len() <= 64 && name.chars().all(plain) && !name.starts_with(['-', '.']);
    if ok { Ok(name.to_owned()) } else { Err(Error::Refused("not a host name".into())) }
}

fn text(field: &str, content: &str) -> Result<String, Error> {
    let printable = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    if content.len() <= MAX_TEXT && content.chars().all(printable) {
        Ok(content.to_owned())
    } else {
        Err(Error::Refused(format!("{field} is too long or not text")))
    }
}

#[cfg(test)]
mod tests {
    use cocoon_sandbox_api::sandbox;
    use cocoon_stage::{Code, Failure};

    use super::*;

    fn sample() -> ConfigureRequest {
        let interface = sandbox::Interface {
            name: "eth0".into(),
            addresses: vec!["10.0.2.15/24".into(), "fd00::15/64".into()],
            mtu: 1500,
            hw_addr: "52:54:00:12:34:56".into(),
            ..Default::default()
        };
        let route =
            sandbox::Route { gateway: "10.0.2.2".into(), device: "eth0".into(), ..Default::default() };
        ConfigureRequest {
            interfaces: vec![interface],
            routes: vec![route],
            resolv_conf: "nameserver 10.0.2.3\n".into(),
            hostname: "demo".into(),
            host_loopback: "10.0.2.2".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_good_configuration_is_read() {
        let network = Network::check(&sample()).unwrap();
        assert_eq!(network.host_loopback, Some("10.0.2.2".parse().unwrap()));
        assert_eq!(network.interfaces[0].addresses[0].prefix, 24);
        assert_eq!(network.interfaces[0].hardware, Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        assert!(Network::check(&ConfigureRequest::default()).is_ok(), "a pod without network");
    }

    #[test]
    fn hostile_configurations_are_refused_with_the_code() {
        type Spoil = fn(&mut ConfigureRequest);
        let spoils: &[Spoil] = &[
            |r| r.interfaces[0].name = "lo".into(),
            |r| r.interfaces[0].name = "../../etc".into(),
            |r| r.interfaces[0].name = "a".repeat(16),
            |r| r.interfaces[0].addresses = vec!["127.0.0.1/8".into()],
            |r| r.interfaces[0].addresses = vec!["10.0.0.1/33".into()],
            |r| r.interfaces[0].addresses = vec!["10.0.0.1".into()],
            |r| r.interfaces[0].addresses = vec!["10.0.0.1/8".into(); 33],
            |r| r.interfaces[0].mtu = 67,
            |r| r.interfaces[0].hw_addr = "01:00:5e:00:00:01".into(),
            |r| r.interfaces = vec![r.interfaces[0].clone(); 2],
            |r| r.interfaces = vec![sandbox::Interface::default(); 17],
            |r| r.routes[0].device = "eth1".into(),
            |r| r.routes[0].destination = "127.0.0.0/8".into(),
            |r| r.routes[0].destination = "fd00::/8".into(),
            |r| r.routes[0].gateway = "gateway".into(),
            |r| r.routes = vec![r.routes[0].clone(); 257],
            |r| r.resolv_conf = "x".repeat(MAX_TEXT + 1),
            |r| r.hosts = "a\0b".into(),
            |r| r.hostname = "-x".into(),
            |r| r.hostname = "a b".into(),
            |r| r.host_loopback = "here".into(),
        ];
        for (number, spoil) in spoils.iter().enumerate() {
            let mut request = sample();
            spoil(&mut request);
            let failure = Failure::from(Network::check(&request).expect_err(&number.to_string()));
            assert_eq!(failure.code, Code::PlanRequestRefused, "{number}");
        }
    }
}
