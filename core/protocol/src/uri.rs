//! Resource URIs: `kbs[+plugin]://[host[:port]]/segment/segment/…[?query]`.
//!
//! The host is ignored: which Trustee is asked is the guest's measured configuration, never the URI's choice. What is
//! accepted here can be put into a request path as it is: segments hold no separators, escapes or dot-dots.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The longest URI that is read, in bytes.
pub const MAX_URI: usize = 2048;

const RESOURCE: &str = "resource";

/// Where a resource is found at the Trustee.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceUri {
    /// The plugin that serves it; `resource` where the URI names none.
    pub plugin: String,
    /// The first segment; never empty.
    pub repository: String,
    /// The second segment; empty only for other plugins than `resource`.
    pub type_: String,
    /// The third segment; for other plugins than `resource` all further ones, joined by `/`, perhaps none.
    pub tag: String,
    /// What follows `?`, verbatim.
    pub query: Option<String>,
}

impl ResourceUri {
    /// The segments joined by `/`, without a leading one: `repository/type/tag`.
    pub fn path(&self) -> String {
        let segments = [&self.repository, &self.type_, &self.tag];
        segments.into_iter().map(String::as_str).filter(|s| !s.is_empty()).collect::<Vec<_>>().join("/")
    }
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kbs")?;
        if self.plugin != RESOURCE {
            write!(f, "+{}", self.plugin)?;
        }
        write!(f, ":///{}", self.path())?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

fn refuse(problem: impl Into<String>) -> Error {
    Error::invalid("resource URI", problem)
}

/// `[a-zA-Z0-9_-]+[a-zA-Z0-9_.-]*` without `..`: neither empty nor a way out of its folder.
fn is_segment(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && !text.starts_with('.') && !text.contains("..") && text.chars().all(allowed)
}

/// RFC 3986's query characters.
fn is_query(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/?%".contains(c))
}

impl FromStr for ResourceUri {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self, Error> {
        if uri.len() > MAX_URI {
            return Err(Error::TooLarge { what: "resource URI", size: uri.len(), limit: MAX_URI });
        }
        let (scheme, rest) = uri.split_once("://").ok_or_else(|| refuse("no scheme"))?;
        let plugin = match scheme.split_once('+') {
            None if scheme == "kbs" => RESOURCE,
            Some(("kbs", "")) => return Err(refuse("kbs+ requires a plugin name")),
            Some(("kbs", plugin)) if is_segment(plugin) => plugin,
            Some(("kbs", _)) => return Err(refuse("the plugin name holds a character that is not allowed")),
            _ => return Err(refuse("the scheme must be kbs")),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        if query.is_some_and(|query| !is_query(query)) {
            return Err(refuse("the query holds a character that is not allowed"));
        }
        let (host, path) = rest.split_once('/').ok_or_else(|| refuse("no path"))?;
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c)) {
            return Err(refuse("the host holds a character that is not allowed"));
        }
        if !path.split('/').all(is_segment) {
            return Err(refuse("a path segment is empty or holds a character that is not allowed"));
        }
        let mut segments = path.splitn(3, '/').map(str::to_owned);
        let mut next = || segments.next().unwrap_or_default();
        let (repository, type_, tag) = (next(), next(), next());
        if plugin == RESOURCE && (tag.is_empty() || tag.contains('/')) {
            return Err(refuse("a resource has exactly three path segments: repository, type, tag"));
        }
        Ok(ResourceUri { plugin: plugin.to_owned(), repository, type_, tag, query: query.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(uri: &str) -> ResourceUri {
        uri.parse().unwrap_or_else(|e| panic!("{uri}: {e}"))
    }

    #[test]
    fn hosts_and_the_default_plugin_are_normalised_away() {
        for uri in [
            "kbs:///a/b/c",
            "kbs://example.org/a/b/c",
            "kbs://example.org:8080/a/b/c",
            "kbs://[::1]:8080/a/b/c",
            "kbs+resource:///a/b/c",
        ] {
            let parsed = parse(uri);
            assert_eq!(parsed.to_string(), "kbs:///a/b/c");
            assert_eq!(parsed.path(), "a/b/c");
            assert_eq!(parsed.plugin, "resource");
            assert_eq!((&*parsed.repository, &*parsed.type_, &*parsed.tag), ("a", "b", "c"));
            assert_eq!(parsed.query, None);
        }
        assert_eq!(parse("kbs:///-a/_b/1.0-rc.1").path(), "-a/_b/1.0-rc.1");
    }

    #[test]
    fn plugins_and_queries() {
        let uri = parse("kbs+nebula-ca://host/credential?ip%5B0%5D=10.0.0.1&name=x");
        assert_eq!((&*uri.plugin, &*uri.path()), ("nebula-ca", "credential"));
        assert_eq!(uri.query.as_deref(), Some("ip%5B0%5D=10.0.0.1&name=x"));
        assert_eq!(uri.to_string(), "kbs+nebula-ca:///credential?ip%5B0%5D=10.0.0.1&name=x");
        assert_eq!(parse("kbs+p:///a/b/c/d/e").path(), "a/b/c/d/e");
        assert_eq!(parse("kbs+p:///a/b").path(), "a/b");
        assert_eq!(parse("kbs:///a/b/c?v=1").query.as_deref(), Some("v=1"));
        assert_eq!(parse("kbs:///a/b/c?/x/y").path(), "a/b/c");
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            "a/b/c",
            "kbs:/a/b/c",
            "kbs+:///a/b/c",
            "kbs+a b:///a/b/c",
            "kbs+a/b:///a/b/c",
            "kbs+..:///a/b/c",
            "KBS:///a/b/c",
            "http://host/a/b/c",
            "kbss:///a/b/c",
            "xkbs+p:///a/b/c",
            "kbs://",
            "kbs:///",
            "kbs://a/b/c",
            "kbs:///a/b",
            "kbs:///a/b/c/d",
            "kbs:///a/b/c/",
            "kbs:////a/b/c",
            "kbs:///a//c",
            "kbs+p:///a//c",
            "kbs+p:///",
            "kbs:///a/../c",
            "kbs:///a/b/..",
            "kbs:///a/b/.c",
            "kbs:///a/b/c..d",
            "kbs:///a/b/c%2e",
            "kbs:///a/b/c#d",
            "kbs:///a/b/c d",
            "kbs:///a/b/é",
            "kbs:///a/b/c\n",
            "kbs:///a/b/c?x#y",
            "kbs:///a/b/c?x y",
            "kbs:///a/b/c?x\r\ny: z",
            "kbs://user@host/a/b/c",
            "kbs://?/a/b/c",
        ] {
            assert!(bad.parse::<ResourceUri>().is_err(), "{bad:?}");
        }
        let long = format!("kbs:///a/b/{}", "c".repeat(MAX_URI));
        assert!(matches!(long.parse::<ResourceUri>(), Err(Error::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,80}", path in "[a./?%+:]{0,20}") {
            for uri in [text.clone(), format!("kbs://{text}"), format!("kbs+{text}"), format!("kbs:///{path}")] {
                if let Ok(parsed) = uri.parse::<ResourceUri>() {
                    prop_assert_eq!(parsed.to_string().parse::<ResourceUri>().unwrap(), parsed);
                }
            }
        }

        #[test]
        fn round_trip(uri in r"kbs(\+[a-z]{1,8})?://([a-z]{1,5}(:[0-9]{1,4})?)?(/[a-zA-Z0-9_-]{1,6}){3}(\?[a-z=&]{0,9})?") {
            let parsed: ResourceUri = uri.parse().unwrap();
            prop_assert_eq!(parsed.to_string().parse::<ResourceUri>().unwrap(), parsed);
        }
    }
}
