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

#[cfg(test)]
mod tests {
    use super::*;

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
