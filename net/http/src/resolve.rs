//! From a URL's host to addresses. Literal addresses and loopback names need no resolver; other names go to a
//! pure-Rust resolver, since a static guest binary cannot use the C library's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_resolver::TokioResolver;

use crate::Error;

/// Whether the host is this machine by name or address.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The addresses of `host`; loopback hosts are found at `loopback` where given.
pub(crate) async fn addresses(host: &str, loopback: Option<IpAddr>) -> Result<Vec<IpAddr>, Error> {
    if is_loopback(host) {
        if let Some(ip) = loopback {
            return Ok(vec![ip]);
        }
        if host.ends_with("localhost") {
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        }
    }
    // `0.0.0.0`, a mapped address or a name that resolves to 127.0.0.1 would reach services of our own, past the
    // name that says so.
    let local = |ip: &IpAddr| {
        let ip = ip.to_canonical();
        ip.is_unspecified() || ip.is_loopback()
    };
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return if local(&ip) && !is_loopback(host) {
            Err(Error::Url(host.to_owned()))
        } else {
            Ok(vec![ip])
        };
    }
    let fail = |problem: String| Error::Resolve { host: host.to_owned(), problem };
    let resolver = TokioResolver::builder_tokio()
        .and_then(hickory_resolver::ResolverBuilder::build)
        .map_err(|e| fail(e.to_string()))?;
    let found = resolver.lookup_ip(host).await.map_err(|e| fail(e.to_string()))?;
    let all: Vec<IpAddr> = found.iter().filter(|ip| !local(ip)).take(16).collect();
    if all.is_empty() { Err(fail("no address".into())) } else { Ok(all) }
}

/// Whether an address reaches the machine itself, its link or its cloud's metadata and platform services. Private
/// networks (10.0.0.0/8, fc00::/7, …) are not among them: registries live there. `loopback` is where the host's own
/// loopback is found from here, and is the host's affair as much as 127.0.0.1 is.
pub(crate) fn is_internal(ip: IpAddr, loopback: Option<IpAddr>) -> bool {
    let ip = ip.to_canonical();
    if loopback.is_some_and(|own| own.to_canonical() == ip) {
        return true;
    }
    match ip {
        IpAddr::V4(ip) => {
            // Metadata and platform services outside of link-local: Alibaba Cloud, Azure, Oracle Cloud.
            const SERVICES: [[u8; 4]; 3] = [[100, 100, 100, 200], [168, 63, 129, 16], [192, 0, 0, 192]];
            let [first, ..] = ip.octets();
            first == 0
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || SERVICES.contains(&ip.octets())
        }
        IpAddr::V6(ip) => {
            let segments = ip.segments();
            let v4 = |high: u16, low: u16| {
                is_internal(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)).into(), loopback)
            };
            match segments {
                // NAT64 (RFC 6052) and the obsolete IPv4-compatible form lead to an IPv4 address, as does 6to4
                // (RFC 3056).
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => v4(high, low),
                [0x2002, high, low, ..] => v4(high, low),
                // A network's own NAT64 (RFC 8215): where in it the IPv4 address is, only that network knows.
                [0x64, 0xff9b, 1, ..] => true,
                // Amazon's and Google's metadata services.
                [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => true,
                _ => ip.is_unicast_link_local() || ip.is_multicast(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_are_known_in_every_disguise() {
        let gateway = Some("10.0.2.2".parse().unwrap());
        for ip in [
            "127.0.0.1",
            "::1",
            "::",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "10.0.2.2",
            "::ffff:10.0.2.2",
            "64:ff9b::a00:202",
            "2002:a00:202::1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(is_internal(ip.parse().unwrap(), gateway), "{ip}");
        }
        for ip in [
            "10.0.0.1",
            "192.168.1.1",
            "169.253.0.1",
            "1.1.1.1",
            "fd00::1",
            "2001:db8::1",
            "64:ff9b::808:808",
            "64:ff9b:2::7f00:1",
            "2002:808:808::1",
            "10.0.2.3",
        ] {
            assert!(!is_internal(ip.parse().unwrap(), gateway), "{ip}");
        }
    }

    #[tokio::test]
    async fn loopback_is_mapped_and_literals_are_kept() {
        let gateway: IpAddr = "10.0.2.2".parse().unwrap();
        for host in ["localhost", "127.0.0.1", "[::1]", "a.localhost"] {
            assert_eq!(addresses(host, Some(gateway)).await.unwrap(), [gateway], "{host}");
        }
        assert_eq!(
            addresses("192.0.2.7", Some(gateway)).await.unwrap(),
            ["192.0.2.7".parse::<IpAddr>().unwrap()]
        );
        assert!(!is_loopback("localhost.example.org"));
        for disguised in ["0.0.0.0", "[::]", "[::ffff:127.0.0.1]"] {
            assert!(matches!(addresses(disguised, None).await, Err(Error::Url(_))), "{disguised}");
        }
    }
}
