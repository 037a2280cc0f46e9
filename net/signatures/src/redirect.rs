//! Where a look-aside place may send its reader: sites keep signatures on content networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Most redirects of one signature.
pub(crate) const MAX_REDIRECTS: usize = 4;

/// The URL that `location` means in an answer of `from`. Never from https to http, and never to this machine, its link or
/// its private networks, unless `from` is on the same host or on loopback itself: the answer's author is not to choose what is asked there. Names
/// that *resolve* to such addresses are not told apart; what they answer must still be a signature.
///
/// # Errors
/// Why it is not followed.
pub(crate) fn target(from: &str, location: &str) -> Result<String, String> {
    let refuse =
        |why: &str| format!("a redirect to {:?}: {why}", location.chars().take(200).collect::<String>());
    let from: Uri = from.parse().map_err(|_| refuse("from no URL"))?;
    let authority = from.authority().map(|a| a.as_str()).unwrap_or_default();
    let scheme = from.scheme_str().unwrap_or_default();
    let text = if location.starts_with('/') && !location.starts_with("//") {
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let to: Uri = text.parse().map_err(|_| refuse("it is no URL"))?;
    match (scheme, to.scheme_str()) {
        ("https", Some("https")) | ("http", Some("http" | "https")) => {}
        _ => return Err(refuse("it is not https, or http after http")),
    }
    let host = to.host().filter(|h| !h.is_empty()).ok_or_else(|| refuse("it names no host"))?;
    if is_near(host) && from.host() != Some(host) && !from.host().is_some_and(is_loopback) {
        return Err(refuse("it leads to an address that is not public"));
    }
    Ok(text)
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn is_loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || address(host).is_some_and(|ip| ip.is_loopback())
}

fn is_near(host: &str) -> bool {
    let v4 = |ip: Ipv4Addr| ip.is_private() || ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast();
    let v6 = |ip: Ipv6Addr| ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified();
    is_loopback(host)
        || match address(host) {
            Some(IpAddr::V4(ip)) => v4(ip),
            Some(IpAddr::V6(ip)) => v6(ip),
            // Numbers that resolvers take for addresses: 127.1, 0x7f000001.
            None => {
                host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()))
            }
        }
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn redirects_lead_only_outwards() {
        let from = "https://a.example/x";
        for (location, expected) in [
            ("/y?z", "https://a.example/y?z"),
            ("https://cdn.example/y", "https://cdn.example/y"),
            ("https://8.8.8.8/y", "https://8.8.8.8/y"),
        ] {
            assert_eq!(target(from, location).as_deref(), Ok(expected));
        }
        for location in [
            "http://a.example/y",
            "//cdn.example/y",
            "y",
            "",
            "file:///etc/passwd",
            "https://localhost/y",
            "https://LOCALHOST./y",
            "https://127.0.0.1/y",
            "https://127.1/y",
            "https://0x7f000001/y",
            "https://[::1]/y",
            "https://[::ffff:127.0.0.1]/y",
            "https://169.254.169.254/y",
            "https://10.0.0.1/y",
            "https://[fd00::1]/y",
            "https://0.0.0.0/y",
        ] {
            assert!(target(from, location).is_err(), "{location}");
        }
        assert!(target("http://127.0.0.1:1/x", "http://127.0.0.1:2/y").is_ok());
    }
}
