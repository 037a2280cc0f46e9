//! A minimal rtnetlink (rtnetlink(7)): list links, name them and bring them up, add addresses, routes and neighbours.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

mod links;

pub(crate) use links::Link;
use links::read;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

// linux/rtnetlink.h, linux/netlink.h, linux/if_link.h, linux/if_addr.h, linux/neighbour.h.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RTNH_F_ONLINK: u32 = 4;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const IFF_UP: u32 = 1;
/// No duplicate address detection: an IPv6 address is usable at once.
const IFA_F_NODAD: u32 = 2;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
pub(crate) const RTN_UNICAST: u8 = 1;
pub(crate) const RTN_BLACKHOLE: u8 = 6;
pub(crate) const RTN_UNREACHABLE: u8 = 7;
pub(crate) const RTN_PROHIBIT: u8 = 8;
pub(crate) const RT_SCOPE_UNIVERSE: u8 = 0;
pub(crate) const RT_SCOPE_LINK: u8 = 253;
pub(crate) const RT_SCOPE_HOST: u8 = 254;
/// Bytes of `nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of an answer: the kernel fills no more with one datagram of a list.
const ANSWER: usize = 32 * 1024;
/// Most devices of a guest.
const MAX_LINKS: usize = 1024;

/// An address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

/// One request, ready to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        // Sequence number and port: one request at a time needs neither.
        bytes.extend([0; 8]);
        bytes.extend(body);
        Request(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // Values are addresses and numbers: a few bytes.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Self {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if let Some(field) = self.0.get_mut(..4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self
    }

    /// Brings a link up, with another MTU where given.
    pub(crate) fn link_up(index: u32, mtu: Option<u32>) -> Self {
        let mut request = Request::link(index, IFF_UP);
        if let Some(mtu) = mtu {
            request = request.attribute(IFLA_MTU, &mtu.to_ne_bytes());
        }
        request.finish()
    }

    /// Takes a link down.
    pub(crate) fn link_down(index: u32) -> Self {
        Request::link(index, 0).finish()
    }

    /// Gives a link that is down another name.
    pub(crate) fn rename(index: u32, name: &str) -> Self {
        let mut request = Request::new(RTM_NEWLINK, 0, &[0; 4]);
        request.0.extend(index.to_ne_bytes());
        request.0.extend([0; 8]);
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        request.attribute(IFLA_IFNAME, &value).finish()
    }

    fn link(index: u32, flags: u32) -> Self {
        // ifinfomsg: family, pad, type, index, flags, change.
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        Request::new(RTM_NEWLINK, 0, &body)
    }

    /// Adds an address to a link, with a route to its network or without.
    pub(crate) fn address(index: u32, cidr: Cidr, prefix_route: bool) -> Self {
        let (family, bytes) = family_and_bytes(cidr.address);
        let mut flags = if cidr.address.is_ipv6() { IFA_F_NODAD } else { 0 };
        flags |= if prefix_route { 0 } else { IFA_F_NOPREFIXROUTE };
        // ifaddrmsg: family, prefix length, flags (all are in the attribute), scope, index.
        let mut body = vec![family, cidr.prefix, 0, RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attribute(IFA_LOCAL, &bytes)
            .attribute(IFA_ADDRESS, &bytes)
            .attribute(IFA_FLAGS, &flags.to_ne_bytes())
            .finish()
    }

    /// Adds a route. Others to the same destination stay, as those to link-local networks must.
    pub(crate) fn route(route: &RouteRequest) -> Self {
        let (family, destination) = family_and_bytes(route.destination.address);
        // rtmsg: family, destination and source length, tos, table, protocol, scope, type, flags.
        let kinds = [RT_TABLE_MAIN, RTPROT_BOOT, route.scope, route.kind];
        let mut body = vec![family, route.destination.prefix, 0, 0];
        body.extend(kinds);
        body.extend(if route.on_link { RTNH_F_ONLINK } else { 0 }.to_ne_bytes());
        let mut request = Request::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, &body);
        if route.destination.prefix > 0 {
            request = request.attribute(RTA_DST, &destination);
        }
        if let Some(gateway) = route.gateway {
            let (of, bytes) = family_and_bytes(gateway);
            request = if of == family {
                request.attribute(RTA_GATEWAY, &bytes)
            } else {
                // rtvia: family, address.
                let via = [&u16::from(of).to_ne_bytes()[..], &bytes].concat();
                request.attribute(RTA_VIA, &via)
            };
        }
        if let Some(source) = route.source {
            request = request.attribute(RTA_PREFSRC, &family_and_bytes(source).1);
        }
        if route.metric != 0 {
            request = request.attribute(RTA_PRIORITY, &route.metric.to_ne_bytes());
        }
        let mut metrics = Request(Vec::new());
        for (kind, value) in [(RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)] {
            if value != 0 {
                metrics = metrics.attribute(kind, &value.to_ne_bytes());
            }
        }
        if !metrics.0.is_empty() {
            request = request.attribute(RTA_METRICS, &metrics.0);
        }
        match route.index {
            Some(index) => request.attribute(RTA_OIF, &index.to_ne_bytes()).finish(),
            None => request.finish(),
        }
    }

    /// Adds a neighbour that is never asked for.
    pub(crate) fn neighbour(index: u32, address: IpAddr, hardware: [u8; 6]) -> Self {
        let (family, bytes) = family_and_bytes(address);
        // ndmsg: family, pad, index, state, flags, type.
        let mut body = vec![family, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(NUD_PERMANENT.to_ne_bytes());
        body.extend([0, 0]);
        Request::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attribute(NDA_DST, &bytes)
            .attribute(NDA_LLADDR, &hardware)
            .finish()
    }

    fn list_links() -> Self {
        Request::new(RTM_GETLINK, NLM_F_DUMP, &[0; 16]).finish()
    }
}

/// A route to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteRequest {
    /// The network; its host bits are 0.
    pub(crate) destination: Cidr,
    pub(crate) gateway: Option<IpAddr>,
    /// The link; none for a `kind` that leads nowhere.
    pub(crate) index: Option<u32>,
    /// 0: the kernel's choice.
    pub(crate) metric: u32,
    pub(crate) source: Option<IpAddr>,
    pub(crate) scope: u8,
    pub(crate) kind: u8,
    pub(crate) on_link: bool,
    /// 0: the link's.
    pub(crate) mtu: u32,
    /// 0: by MTU.
    pub(crate) advmss: u32,
}

fn family_and_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (2, v4.octets().to_vec()),
        IpAddr::V6(v6) => (10, v6.octets().to_vec()),
    }
}

/// A conversation with the kernel.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn open() -> io::Result<Self> {
        let kind = (AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC);
        Ok(Netlink(socket_with(kind.0, kind.1, kind.2, None)?))
    }

    /// The number of the link of this name.
    ///
    /// # Errors
    /// `ENODEV` where there is none.
    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.0, name)?)
    }

    /// All links.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn links(&self) -> io::Result<Vec<Link>> {
        sendto(&self.0, &Request::list_links().0, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let (mut links, mut answer) = (Vec::new(), vec![0; ANSWER]);
        loop {
            let (got, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
            if read(answer.get(..got).unwrap_or_default(), &mut links)? {
                return Ok(links);
            }
            if links.len() > MAX_LINKS {
                return Err(io::Error::other("too many network devices"));
            }
        }
    }

    /// Sends a request and waits for its acknowledgement.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn send(&self, request: &Request) -> io::Result<()> {
        sendto(&self.0, &request.0, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0; 1024];
        let (got, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        acknowledged(answer.get(..got).unwrap_or_default())
    }
}

/// Reads an `nlmsgerr`: 0 is success.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "not an acknowledgement");
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(HEADER..HEADER + 4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        _ => Err(odd()),
    }
}

#[cfg(test)]
mod tests;
