//! The host's words, one by one: each becomes a checked value, or a refusal that names it.

use std::net::IpAddr;

use cocoon_sandbox_api::sandbox;

use super::{Interface, Neighbour, Route};
use crate::Error;
use crate::netlink::{
    Cidr, RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RTN_BLACKHOLE, RTN_PROHIBIT, RTN_UNICAST,
    RTN_UNREACHABLE,
};

const MAX_ADDRESSES: usize = 32;
/// Longest resolv.conf or hosts file, in bytes.
pub(super) const MAX_TEXT: usize = 64 * 1024;

pub(super) fn interface(sent: &sandbox::Interface) -> Result<Interface, Error> {
    let name = device(&sent.name)?;
    if sent.addresses.len() > MAX_ADDRESSES {
        return Err(Error::Refused(format!("too many addresses on {name}")));
    }
    let mtu = match sent.mtu {
        0 => None,
        mtu => Some(self::mtu(mtu)?),
    };
    let hardware = match sent.hw_addr.as_str() {
        "" => None,
        text => Some(hardware(text)?),
    };
    let addresses = sent.addresses.iter().map(|a| cidr(a)).collect::<Result<Vec<_>, _>>()?;
    if let Some(bad) = addresses.iter().find(|c| !is_hosts(c.address)) {
        return Err(Error::Refused(format!("{} is not an address for {name}", bad.address)));
    }
    Ok(Interface { name, addresses, mtu, hardware, prefix_routes: !sent.no_prefix_routes })
}

pub(super) fn route(sent: &sandbox::Route) -> Result<Route, Error> {
    let gateway = optional(&sent.gateway)?;
    let destination = match sent.destination.as_str() {
        "" | "default" => {
            let any = if gateway.is_some_and(|g| g.is_ipv6()) { "::/0" } else { "0.0.0.0/0" };
            cidr(any)?
        }
        text => network(cidr(text)?),
    };
    let to = destination.address;
    if is_loopback(to) {
        return Err(Error::Refused("a route must not take loopback away".into()));
    }
    // An IPv4 network may be behind an IPv6 gateway (RFC 5549), not the other way round.
    if let Some(gateway) = gateway
        && (!is_hosts(gateway) || to.is_ipv6() && gateway.is_ipv4())
    {
        return Err(Error::Refused(format!("route to {to} through {gateway}")));
    }
    let source = optional(&sent.source)?;
    if let Some(source) = source
        && source.is_ipv4() != to.is_ipv4()
    {
        return Err(Error::Refused(format!("route to {to} from {source}")));
    }
    let kind = match sent.kind.as_str() {
        "" => RTN_UNICAST,
        "blackhole" => RTN_BLACKHOLE,
        "unreachable" => RTN_UNREACHABLE,
        "prohibit" => RTN_PROHIBIT,
        other => return Err(Error::Refused(format!("{other:?} is not a kind of route"))),
    };
    let nowhere = kind != RTN_UNICAST;
    let scope = match sent.scope.as_str() {
        "" if to.is_ipv6() || gateway.is_some() || nowhere => RT_SCOPE_UNIVERSE,
        "" | "link" => RT_SCOPE_LINK,
        "global" => RT_SCOPE_UNIVERSE,
        "host" => RT_SCOPE_HOST,
        other => return Err(Error::Refused(format!("{other:?} is not a scope"))),
    };
    if nowhere && (gateway.is_some() || !sent.device.is_empty()) {
        return Err(Error::Refused(format!("the route to {to} leads nowhere, yet somewhere")));
    }
    if sent.advmss > 65_535 {
        return Err(Error::Refused(format!("{} is not a segment's size", sent.advmss)));
    }
    Ok(Route {
        destination,
        gateway,
        device: if nowhere { None } else { Some(device(&sent.device)?) },
        metric: sent.metric,
        source,
        scope,
        kind,
        on_link: sent.on_link,
        mtu: if sent.mtu == 0 { 0 } else { mtu(sent.mtu)? },
        advmss: sent.advmss,
    })
}

pub(super) fn neighbour(sent: &sandbox::Neighbour) -> Result<Neighbour, Error> {
    let address = address(&sent.address)?;
    if !is_hosts(address) {
        return Err(Error::Refused(format!("{address} is no neighbour")));
    }
    Ok(Neighbour { address, hardware: hardware(&sent.hw_addr)?, device: device(&sent.device)? })
}

/// A network device's name: not loopback, at most 15 characters (`IFNAMSIZ`), and none of those that stand for all
/// devices in `/proc/sys/net`.
fn device(name: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let special = matches!(name, "lo" | "." | ".." | "all" | "default");
    let ok = (1..=15).contains(&name.len()) && name.chars().all(plain) && !special;
    if ok { Ok(name.to_owned()) } else { Err(Error::Refused(format!("{name:?} is not a network device"))) }
}

/// The least that IPv4 takes, and the most of a 16-bit length.
fn mtu(mtu: u32) -> Result<u32, Error> {
    if (68..=65_535).contains(&mtu) { Ok(mtu) } else { Err(Error::Refused(format!("{mtu} is not an MTU"))) }
}

pub(super) fn address(text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| Error::Refused(format!("{text:?} is not an IP address")))
}

fn optional(text: &str) -> Result<Option<IpAddr>, Error> {
    if text.is_empty() { Ok(None) } else { address(text).map(Some) }
}

fn cidr(text: &str) -> Result<Cidr, Error> {
    let bad = || Error::Refused(format!("{text:?} is not ADDRESS/PREFIX"));
    let (ip, prefix) = text.split_once('/').ok_or_else(bad)?;
    let address = address(ip)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.parse().ok().filter(|p| *p <= longest).ok_or_else(bad)?;
    Ok(Cidr { address, prefix })
}

/// The same without host bits.
fn network(cidr: Cidr) -> Cidr {
    let host = |bits: u32| bits.saturating_sub(u32::from(cidr.prefix));
    let address = match cidr.address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host(32)).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host(128)).unwrap_or(0)).into()),
    };
    Cidr { address, ..cidr }
}

/// Whether a single host other than this one's loopback can have it.
fn is_hosts(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(is_loopback(address) || address.is_unspecified() || address.is_multicast() || broadcast)
}

fn is_loopback(address: IpAddr) -> bool {
    // An IPv4 address in IPv6's clothes is it too.
    address.to_canonical().is_loopback()
}

fn hardware(text: &str) -> Result<[u8; 6], Error> {
    let bad = || Error::Refused(format!("{text:?} is not a hardware address"));
    let bytes = hex::decode(text.replace(':', "")).map_err(|_| bad())?;
    let bytes: [u8; 6] = bytes.try_into().map_err(|_| bad())?;
    // The lowest bit of the first byte marks groups.
    if bytes[0] & 1 == 0 && bytes != [0; 6] { Ok(bytes) } else { Err(bad()) }
}

pub(super) fn hostname(name: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let ok = name.len() <= 64 && name.chars().all(plain) && !name.starts_with(['-', '.']);
    if ok { Ok(name.to_owned()) } else { Err(Error::Refused("not a host name".into())) }
}

pub(super) fn text(field: &str, content: &str) -> Result<String, Error> {
    let printable = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    if content.len() <= MAX_TEXT && content.chars().all(printable) {
        Ok(content.to_owned())
    } else {
        Err(Error::Refused(format!("{field} is too long or not text")))
    }
}
