//! What the guest must know of the pod's network. Pure: from the kernel's messages to the guest's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cocoon_sandbox_api::sandbox::{Interface, Neighbour, Route};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteMessage;

use crate::{Error, tap};

mod route;

/// What the guest accepts; more is refused here, with a reason that names it.
const MAX_DEVICES: usize = 16;
const MAX_ADDRESSES: usize = 32;
const MAX_ROUTES: usize = 256;
const MAX_NEIGHBOURS: usize = 256;

/// A device of the pod that a tap stands in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    pub mtu: u32,
}

impl Device {
    /// Those of a namespace, by number.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of one that cannot be taken over.
    pub fn of_pod(links: &[LinkMessage], addresses: &[AddressMessage]) -> Result<Vec<Device>, Error> {
        let mut devices = Vec::new();
        for link in links {
            let flags = link.header.flags;
            let addressed = addresses.iter().any(|a| a.header.index == link.header.index);
            if flags.contains(LinkFlags::Loopback) || !flags.contains(LinkFlags::Up) && !addressed {
                continue;
            }
            devices.push(Device::new(link)?);
        }
        devices.sort_by_key(|d| d.index);
        if devices.len() > MAX_DEVICES {
            return Err(Error::unsupported(
                "the pod",
                format!("has more than {MAX_DEVICES} network devices"),
            ));
        }
        let mut seen = BTreeSet::new();
        match devices.iter().find(|d| !seen.insert(d.mac)) {
            Some(twice) => Err(Error::unsupported(&*twice.name, "has another device's hardware address")),
            None => Ok(devices),
        }
    }

    fn new(link: &LinkMessage) -> Result<Device, Error> {
        let (mut name, mut mac, mut mtu, mut info) = ("", None, 0, &[][..]);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name = value,
                LinkAttribute::Address(value) => mac = <[u8; 6]>::try_from(value.as_slice()).ok(),
                LinkAttribute::Mtu(value) => mtu = *value,
                LinkAttribute::LinkInfo(value) => info = value,
                _ => {}
            }
        }
        let refuse = |reason: &str| Err(Error::unsupported(format!("network device {name}"), reason));
        if tap::is_ours(name) {
            return refuse("is another VM's: the pod has one already");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !(1..=15).contains(&name.len()) || !name.chars().all(plain) {
            return refuse("has a name that the guest does not take");
        }
        let kind = info.iter().find_map(|i| if let LinkInfo::Kind(kind) = i { Some(kind) } else { None });
        let layer3 = info.iter().any(|i| {
            let LinkInfo::Data(InfoData::IpVlan(data)) = i else { return false };
            data.iter().any(|d| matches!(d, InfoIpVlan::Mode(mode) if *mode != IpVlanMode::L2))
        });
        match kind {
            Some(InfoKind::Veth | InfoKind::MacVlan | InfoKind::Vlan) => {}
            Some(InfoKind::IpVlan) if !layer3 => {}
            Some(InfoKind::IpVlan) => return refuse("is an ipvlan that is not in L2 mode"),
            Some(other) => return refuse(&format!("is of kind {other}, which a VM cannot take over")),
            None => return refuse("is hardware, which a VM cannot take over"),
        }
        if !link.header.flags.contains(LinkFlags::Up) {
            return refuse("has an address, but is down");
        }
        let (LinkLayerType::Ether, Some(mac)) = (link.header.link_layer_type, mac) else {
            return refuse("is not Ethernet");
        };
        if !(68..=65_535).contains(&mtu) {
            return refuse(&format!("has an MTU of {mtu}"));
        }
        Ok(Device { index: link.header.index, name: name.to_owned(), mac, mtu })
    }
}

/// The parts of a ConfigureRequest that come from the namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Description {
    pub interfaces: Vec<Interface>,
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
}

impl Description {
    /// # Errors
    /// [`Error::Unsupported`] for what the guest could not do as the namespace does.
    pub fn new(
        devices: &[Device],
        addresses: &[AddressMessage],
        routes: &[RouteMessage],
        neighbours: &[NeighbourMessage],
    ) -> Result<Self, Error> {
        let interfaces: Vec<Interface> = devices.iter().map(|d| interface(d, addresses)).collect();
        if let Some(many) = interfaces.iter().find(|i| i.addresses.len() > MAX_ADDRESSES) {
            return Err(Error::unsupported(&*many.name, format!("has more than {MAX_ADDRESSES} addresses")));
        }
        let mut described = Vec::new();
        for message in routes {
            described.extend(route::route(devices, message)?);
        }
        // Those that lead to gateways come before those through gateways.
        described.sort_by_key(|r| !r.gateway.is_empty());
        let neighbours: Vec<Neighbour> = neighbours.iter().filter_map(|n| neighbour(devices, n)).collect();
        if described.len() > MAX_ROUTES || neighbours.len() > MAX_NEIGHBOURS {
            let reason =
                format!("has more than {MAX_ROUTES} routes or {MAX_NEIGHBOURS} permanent neighbours");
            return Err(Error::unsupported("the pod", reason));
        }
        Ok(Description { interfaces, routes: described, neighbours })
    }
}

fn interface(device: &Device, addresses: &[AddressMessage]) -> Interface {
    let own = addresses.iter().filter(|a| a.header.index == device.index);
    Interface {
        name: device.name.clone(),
        addresses: own.filter_map(address).collect(),
        mtu: device.mtu,
        hw_addr: hardware(&device.mac),
        no_prefix_routes: true,
        ..Interface::default()
    }
}

/// `ADDRESS/PREFIX`; nothing for those that the kernel makes up for a time (RFC 8981) and those another host has.
fn address(message: &AddressMessage) -> Option<String> {
    let (mut local, mut any) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => any = Some(*ip),
            AddressAttribute::Flags(more) => flags |= *more,
            _ => {}
        }
    }
    // With a peer, `Address` is the peer's.
    let ip: IpAddr = local.or(any)?;
    let temporary = ip.is_ipv6() && flags.contains(AddressFlags::Secondary);
    let unusable = temporary || flags.contains(AddressFlags::Dadfailed);
    (!unusable).then(|| format!("{ip}/{}", message.header.prefix_len))
}

fn neighbour(devices: &[Device], message: &NeighbourMessage) -> Option<Neighbour> {
    let device = devices.iter().find(|d| d.index == message.header.ifindex)?;
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    Some(Neighbour {
        address: ip?.to_string(),
        hw_addr: hardware(&mac?),
        device: device.name.clone(),
        ..Neighbour::default()
    })
}

fn hardware(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
