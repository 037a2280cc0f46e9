//! A minimal rtnetlink (rtnetlink(7)): bring a link up, add an address, add a route. Requests are built here;
//! answers of the kernel are acknowledgements only.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

// linux/rtnetlink.h, linux/netlink.h, linux/if_link.h, linux/if_addr.h.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const IFF_UP: u32 = 1;
/// No duplicate address detection: an IPv6 address is usable at once.
const IFA_F_NODAD: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
/// Bytes of `nlmsghdr`.
const HEADER: usize = 16;

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

    /// Brings a link up, with another MTU or hardware address where given.
    pub(crate) fn link_up(index: u32, mtu: Option<u32>, hardware: Option<[u8; 6]>) -> Self {
        // ifinfomsg: family, pad, type, index, flags, change.
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        let mut request = Request::new(RTM_NEWLINK, 0, &body);
        if let Some(mtu) = mtu {
            request = request.attribute(IFLA_MTU, &mtu.to_ne_bytes());
        }
        if let Some(hardware) = hardware {
            request = request.attribute(IFLA_ADDRESS, &hardware);
        }
        request.finish()
    }

    /// Adds an address to a link.
    pub(crate) fn address(index: u32, cidr: Cidr) -> Self {
        let (family, bytes) = family_and_bytes(cidr.address);
        let flags = if cidr.address.is_ipv6() { IFA_F_NODAD } else { 0 };
        // ifaddrmsg: family, prefix length, flags, scope, index.
        let mut body = vec![family, cidr.prefix, flags, RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attribute(IFA_LOCAL, &bytes)
            .attribute(IFA_ADDRESS, &bytes)
            .finish()
    }

    /// Adds a route through a link; `None` as destination is the default one, as gateway "on link". The
    /// destination's and the gateway's family must agree.
    pub(crate) fn route(index: u32, destination: Option<Cidr>, gateway: Option<IpAddr>) -> Self {
        let any = destination.map(|d| d.address).or(gateway);
        let family = any.map_or(2, |ip| family_and_bytes(ip).0);
        let scope = if gateway.is_some() || family == 10 { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
        let prefix = destination.map_or(0, |d| d.prefix);
        // rtmsg: family, destination and source length, tos, table, protocol, scope, type, flags.
        let body = [family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0, 0, 0, 0];
        let mut request = Request::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body);
        if let Some(destination) = destination.filter(|d| d.prefix > 0) {
            request = request.attribute(RTA_DST, &family_and_bytes(destination.address).1);
        }
        if let Some(gateway) = gateway {
            request = request.attribute(RTA_GATEWAY, &family_and_bytes(gateway).1);
        }
        request.attribute(RTA_OIF, &index.to_ne_bytes()).finish()
    }
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
mod tests {
    use super::*;

    fn cidr(text: &str, prefix: u8) -> Cidr {
        Cidr { address: text.parse().unwrap(), prefix }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn requests_have_the_kernels_bytes() {
        assert_eq!(
            hex::encode(Request::link_up(2, Some(1500), None).0),
            concat!(
                "28000000", "1000", "0500", "00000000", "00000000", "00000000", "02000000", "01000000",
                "01000000", "0800", "0400", "dc050000"
            )
        );
        assert_eq!(
            hex::encode(Request::address(2, cidr("10.0.2.15", 24)).0),
            concat!(
                "28000000", "1400", "0505", "00000000", "00000000", "02180000", "02000000", "0800", "0200",
                "0a00020f", "0800", "0100", "0a00020f"
            )
        );
        let gateway = Some("10.0.2.2".parse().unwrap());
        assert_eq!(
            hex::encode(Request::route(2, None, gateway).0),
            concat!(
                "2c000000", "1800", "0505", "00000000", "00000000", "02000000", "fe030001", "00000000",
                "0800", "0500", "0a000202", "0800", "0400", "02000000"
            )
        );
    }

    #[test]
    fn hardware_addresses_are_padded() {
        let request = Request::link_up(2, None, Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(request.0.len() % 4, 0);
        assert_eq!(request.0[0], u8::try_from(request.0.len()).unwrap());
        assert_eq!(&request.0[32..34], 10_u16.to_ne_bytes());
    }

    #[test]
    fn answers_are_checked() {
        let answer = |kind: u16, error: i32| {
            let mut bytes = vec![36, 0, 0, 0];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(error.to_ne_bytes());
            bytes
        };
        acknowledged(&answer(NLMSG_ERROR, 0)).unwrap();
        assert_eq!(acknowledged(&answer(NLMSG_ERROR, -19)).unwrap_err().raw_os_error(), Some(19));
        assert!(acknowledged(&answer(NLMSG_ERROR, i32::MIN)).is_err());
        assert!(acknowledged(&answer(3, 0)).is_err());
        assert!(acknowledged(&[0; 7]).is_err());
    }

    /// Runs in a network namespace of its own; see the test below.
    #[test]
    #[ignore = "changes the network; run by the test below in its own namespace"]
    fn in_a_namespace() {
        let netlink = Netlink::open().unwrap();
        let index = netlink.index("lo").unwrap();
        netlink.send(&Request::link_up(index, Some(9000), None)).unwrap();
        netlink.send(&Request::address(index, cidr("10.9.8.7", 24))).unwrap();
        netlink.send(&Request::address(index, cidr("fd00::7", 64))).unwrap();
        netlink.send(&Request::route(index, Some(cidr("192.0.2.0", 24)), None)).unwrap();
        netlink.send(&Request::route(index, None, Some("10.9.8.1".parse().unwrap()))).unwrap();
        netlink.send(&Request::route(index, Some(cidr("2001:db8::", 32)), None)).unwrap();
        let routes = std::fs::read_to_string("/proc/self/net/route").unwrap();
        assert!(routes.contains("000200C0"), "{routes}");
        assert!(routes.lines().any(|l| l.starts_with("lo\t00000000\t0108090A")), "{routes}");
        let addresses = std::fs::read_to_string("/proc/self/net/if_inet6").unwrap();
        assert!(addresses.contains("fd000000000000000000000000000007"), "{addresses}");
        std::net::TcpListener::bind("10.9.8.7:0").unwrap();
        assert!(netlink.index("eth9").is_err());
        assert!(netlink.send(&Request::link_up(99, None, None)).is_err());
    }

    #[test]
    fn the_kernel_takes_the_requests() {
        let exe = std::env::current_exe().unwrap();
        let mut command = std::process::Command::new("unshare");
        command.args(["-n", "--"]).arg(exe).args(["--ignored", "--exact", "netlink::tests::in_a_namespace"]);
        match command.output() {
            Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unshare failed") => {
                println!("skipped: network namespaces are not allowed here");
            }
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success() && text.contains("1 passed"), "{text}");
            }
            Err(e) => println!("skipped: unshare(1) does not run: {e}"),
        }
    }
}
