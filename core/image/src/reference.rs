//! Image names (`[REGISTRY/]NAME[:TAG][@DIGEST]`) by the grammar and the normalisation of distribution/reference.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, Error};

/// The longest `registry/repository` accepted, in bytes (distribution/reference NameTotalLengthMax).
pub const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;
const MAX_TEXT: usize = 1024;

/// A normalised image name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Registry host, in lower case, with optional port, e.g. `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// Repository path, e.g. `library/busybox`.
    pub repository: String,
    /// The tag. A name given with neither tag nor digest gets `latest`.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises: `busybox` is `docker.io/library/busybox:latest`; `index.docker.io` is `docker.io`. Hosts are
    /// the same in either case, and are kept in lower case: what a policy or a signature says of one holds for all
    /// spellings. A host that only its capitals tell from a path (`Registry/app`) is refused.
    ///
    /// # Errors
    /// [`Error::Reference`] naming the rule broken.
    pub fn parse(text: &str) -> Result<Reference, Error> {
        let refuse = |reason| Error::Reference { text: text.chars().take(200).collect(), reason };
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(refuse("it is empty or too long"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(digest.parse().map_err(|_| refuse("its digest is not sha256: or sha512: and hex"))?),
            ),
            None => (text, None),
        };
        let last_slash = rest.rfind('/').map_or(0, |i| i + 1);
        let last = rest.get(last_slash..).unwrap_or_default();
        // A colon in the last component is a tag's, unless the whole text is only `host:port`, which no name is.
        let (name, tag) = match last.rfind(':') {
            Some(colon) if !last.starts_with('[') => {
                let (name, tag) = rest.split_at_checked(last_slash + colon).unwrap_or((rest, ""));
                (name, Some(tag.trim_start_matches(':')))
            }
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(refuse("its tag is not 1 to 128 of letters, digits, '_', '.', '-'"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if is_host_like(host) => (host.to_ascii_lowercase(), path.to_owned()),
            _ => ("docker.io".to_owned(), name.to_owned()),
        };
        if !is_host_like(&registry) {
            return Err(refuse("its registry is told by capital letters alone; give it a domain or a port"));
        }
        let registry = if registry == "index.docker.io" { "docker.io".to_owned() } else { registry };
        let repository = if registry == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        if !is_host(&registry) {
            return Err(refuse("its registry is not a host name with an optional port"));
        }
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(refuse("its name is longer than 255 bytes"));
        }
        if !repository.split('/').all(is_path_component) {
            return Err(refuse(
                "its name is not lower-case letters and digits, separated by '/', '.', '_', '-'",
            ));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Reference { registry, repository, tag, digest })
    }

    /// The registry's host without port, without brackets.
    pub fn host(&self) -> &str {
        split_port(&self.registry).0.trim_start_matches('[').trim_end_matches(']')
    }

    /// The `host[:port]` that serves the registry's API; Docker Hub's is not its name.
    pub fn api_authority(&self) -> &str {
        if self.registry == "docker.io" { "registry-1.docker.io" } else { &self.registry }
    }

    /// Whether the registry is on the machine's own loopback, where plain HTTP is what people expect.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// `registry/repository` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository, by digest only.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository, by tag only.
    #[must_use]
    pub fn with_tag(&self, tag: impl Into<String>) -> Reference {
        Reference { tag: Some(tag.into()), digest: None, ..self.clone() }
    }
}

fn split_port(registry: &str) -> (&str, Option<&str>) {
    match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    }
}

/// The first component is a registry if it could not be a path component of Docker Hub.
fn is_host_like(text: &str) -> bool {
    text.contains(['.', ':', '[']) || text == "localhost" || text.chars().any(|c| c.is_ascii_uppercase())
}

fn is_host(registry: &str) -> bool {
    let (host, port) = split_port(registry);
    if port
        .is_some_and(|p| p.len() > 5 || !p.bytes().all(|b| b.is_ascii_digit()) || p.parse::<u16>().is_err())
    {
        return false;
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().copied().is_some_and(is_word) || !bytes.last().copied().is_some_and(is_word) {
        return false;
    }
    bytes.split(|b| is_word(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Reference::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_docker_does() {
        let d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (given, expected) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/app", "localhost:5000/app:latest".to_owned()),
            ("127.0.0.1:5000/a/b__c:x", "127.0.0.1:5000/a/b__c:x".to_owned()),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned()),
            ("LocalHost/app", "localhost/app:latest".to_owned()),
            ("Registry:5000/app:V1", "registry:5000/app:V1".to_owned()),
            ("GHCR.io/x/y", "ghcr.io/x/y:latest".to_owned()),
            ("Index.Docker.IO/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("[FE80::A]:5000/a", "[fe80::a]:5000/a:latest".to_owned()),
            (&format!("ghcr.io/x/y@{d}"), format!("ghcr.io/x/y@{d}")),
            (&format!("ghcr.io/x/y:t@{d}"), format!("ghcr.io/x/y:t@{d}")),
        ] {
            assert_eq!(Reference::parse(given).unwrap().to_string(), expected, "{given}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_name() {
        let long = "a".repeat(256);
        for bad in [
            "",
            " ",
            "UPPER",
            "Registry/app",
            "a b",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a@",
            "-a",
            "a..b",
            "a___b",
            "https://ghcr.io/x",
            "host:99999/a",
            "host:x/a",
            "[::g]/a",
            "a.-b.c/x",
            "x/../y",
            "localhost:5000",
            "a\n",
            &long,
        ] {
            // `localhost:5000` alone is the image `localhost` with tag 5000, as with Docker.
            if bad == "localhost:5000" {
                assert_eq!(Reference::parse(bad).unwrap().to_string(), "docker.io/library/localhost:5000");
                continue;
            }
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
        let tag = format!("a:{}", "t".repeat(129));
        assert!(Reference::parse(&tag).is_err());
    }

    #[test]
    fn knows_loopback() {
        for (name, expected) in [
            ("localhost:5000/a", true),
            ("127.0.0.2/a", true),
            ("[::1]/a", true),
            ("localhost.evil.com/a", false),
            ("127.0.0.1.evil.com/a", false),
            ("busybox", false),
        ] {
            assert_eq!(Reference::parse(name).unwrap().is_loopback(), expected, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn printing_and_parsing_agree(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,80}") {
            if let Ok(r) = Reference::parse(&text) {
                proptest::prop_assert_eq!(Reference::parse(&r.to_string()).unwrap(), r);
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,300}") {
            let _ = Reference::parse(&text);
        }
    }
}
