//! Which hosts are reached without a proxy, as curl and Go read `NO_PROXY`.

use std::net::IpAddr;

use crate::Error;
use crate::resolve::is_loopback;

const MAX_ENTRIES: usize = 4096;

/// A parsed `no_proxy` list.
#[derive(Clone, Debug, Default)]
pub(crate) struct NoProxy {
    everything: bool,
    entries: Vec<(Rule, Option<u16>)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    /// The host itself and everything below it.
    Domain(String),
    /// Only what is below the domain.
    Below(String),
    Network(IpAddr, u8),
}

impl NoProxy {
    /// Entries are separated by commas or blanks: `host` (with everything below it), `.domain` and `*.domain` (what is
    /// below it), an address, a network `address/bits`; each but a network with `:port` where wanted; `*` is all.
    pub(crate) fn parse(text: &str) -> Result<NoProxy, Error> {
        let mut list = NoProxy::default();
        for entry in text.split([',', ' ', '\t', '\n']).map(str::trim).filter(|e| !e.is_empty()) {
            if entry == "*" {
                list.everything = true;
                continue;
            }
            let rule = Rule::parse(&entry.to_ascii_lowercase());
            list.entries.push(rule.ok_or_else(|| {
                Error::Proxy(format!(
                    "{:?} in no_proxy is not understood",
                    entry.chars().take(100).collect::<String>()
                ))
            })?);
            if list.entries.len() > MAX_ENTRIES {
                return Err(Error::Proxy(format!("no_proxy has more than {MAX_ENTRIES} entries")));
            }
        }
        Ok(list)
    }

    /// Whether the host (as in a URL) is reached directly. Loopback always is.
    pub(crate) fn covers(&self, host: &str, port: u16) -> bool {
        if self.everything || is_loopback(host) {
            return true;
        }
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        self.entries.iter().any(|(rule, only)| {
            only.is_none_or(|p| p == port)
                && match (rule, ip) {
                    (Rule::Network(network, bits), Some(ip)) => is_within(ip, *network, *bits),
                    (Rule::Domain(name), None) => host == *name || is_below(&host, name),
                    (Rule::Below(name), None) => is_below(&host, name),
                    _ => false,
                }
        })
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<(Rule, Option<u16>)> {
        if let Some((address, bits)) = entry.split_once('/') {
            let ip: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            return (bits <= width(ip)).then_some((Rule::Network(ip, bits), None));
        }
        if let Ok(ip) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some((Rule::Network(ip.to_canonical(), width(ip.to_canonical())), None));
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some((Rule::Network(ip.to_canonical(), width(ip.to_canonical())), port));
        }
        let below = name.strip_prefix("*.").or_else(|| name.strip_prefix('.'));
        let domain = below.unwrap_or(name).trim_end_matches('.');
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if domain.is_empty() || domain.starts_with('.') || !domain.chars().all(ok) {
            return None;
        }
        let domain = domain.to_owned();
        Some((if below.is_some() { Rule::Below(domain) } else { Rule::Domain(domain) }, port))
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(u32::from(32 - bits.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(u32::from(128 - bits.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_curl_and_go_understand_it() {
        let list = NoProxy::parse(
            "intra, .corp.example *.dev.example,10.0.0.0/8,192.0.2.7:8080, fd00::/8,[2001:db8::1],r.io:5000,Upper.IO",
        )
        .unwrap();
        for (host, port, direct) in [
            ("intra", 443, true),
            ("a.intra", 443, true),
            ("xintra", 443, false),
            ("corp.example", 443, false),
            ("a.corp.example", 443, true),
            ("b.a.dev.example", 443, true),
            ("dev.example", 443, false),
            ("evil-dev.example", 443, false),
            ("10.255.0.1", 443, true),
            ("[::ffff:10.1.2.3]", 443, true),
            ("11.0.0.1", 443, false),
            ("192.0.2.7", 8080, true),
            ("192.0.2.7", 443, false),
            ("[fd12::1]", 443, true),
            ("[fe80::1]", 443, false),
            ("[2001:db8::1]", 443, true),
            ("r.io", 5000, true),
            ("r.io", 443, false),
            ("UPPER.io.", 443, true),
            ("10.0.0.1.evil.io", 443, false),
            ("localhost", 1, true),
            ("127.9.9.9", 1, true),
            ("[::1]", 1, true),
        ] {
            assert_eq!(list.covers(host, port), direct, "{host}:{port}");
        }
        assert!(NoProxy::parse("*").unwrap().covers("any.io", 1));
        assert!(!NoProxy::parse("").unwrap().covers("any.io", 1));
        assert!(NoProxy::parse("0.0.0.0/0").unwrap().covers("8.8.8.8", 1));
        for bad in ["10.0.0.0/33", "x/8", "a:99999", "http://x", "..x", "a*b", "::/129"] {
            assert!(matches!(NoProxy::parse(bad), Err(Error::Proxy(_))), "{bad}");
        }
    }
}
