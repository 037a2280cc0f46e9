//! The one spelling of a request's path that access rules are matched against.

/// Longest path, in bytes.
const MAX_PATH: usize = 4096;

/// Percent-decodes a raw request path, once, and refuses every path that two readers could read differently: empty,
/// `.` and `..` segments, encoded slashes and percent signs, backslashes, control characters, `?` and `#`.
///
/// A single slash at the end is kept. The error says what was wrong.
pub(crate) fn canonical(path: &str) -> Result<String, &'static str> {
    if path.len() > MAX_PATH {
        return Err("the path is too long");
    }
    let decoded = decode(path)?;
    let Some(inner) = decoded.strip_prefix('/') else { return Err("the path does not begin with a slash") };
    if decoded.chars().any(|c| c.is_control() || matches!(c, '\\' | '?' | '#')) {
        return Err("the path has a character that does not belong there");
    }
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    // What is left of "//" is a lone slash or an empty segment.
    let mut segments = inner.split('/');
    if decoded != "/" && segments.any(|segment| matches!(segment, "" | "." | "..")) {
        return Err("the path has an empty or dot segment");
    }
    Ok(decoded)
}

fn decode(path: &str) -> Result<String, &'static str> {
    const BROKEN: &str = "the path has a broken percent escape";
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit().ok_or(BROKEN)?, digit().ok_or(BROKEN)?);
        match u8::try_from(high * 16 + low).map_err(|_| BROKEN)? {
            b'/' => return Err("the path has an encoded slash"),
            // Would be an escape to whoever decodes again.
            b'%' => return Err("the path has an encoded percent sign"),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| "the path is not UTF-8")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_and_escaped_paths_have_one_spelling() {
        for (raw, read) in [
            ("/", "/"),
            ("/kbs/v0/resource/a/b/c", "/kbs/v0/resource/a/b/c"),
            ("/kbs/v0/resource-polic%79", "/kbs/v0/resource-policy"),
            ("/kbs/%c3%A4/", "/kbs/ä/"),
            ("/kbs/a.b/..c/...", "/kbs/a.b/..c/..."),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(read));
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for raw in [
            "",
            "kbs",
            "*",
            "//",
            "//kbs",
            "/kbs//a",
            "/kbs/a//",
            "/.",
            "/kbs/.",
            "/kbs/./a",
            "/kbs/../a",
            "/..",
            "/kbs/%2e%2e/a",
            "/kbs/%2E/a",
            "/kbs/.%2e",
            "/kbs/a%2fb",
            "/kbs/a%2Fb",
            "/kbs/%252f",
            "/kbs/a%00",
            "/kbs/a\0",
            "/kbs/a%0a",
            "/kbs/a%7f",
            "/kbs/a%5cb",
            "/kbs/a\\b",
            "/kbs/a?b",
            "/kbs/a%3fb",
            "/kbs/a#b",
            "/kbs/%",
            "/kbs/%2",
            "/kbs/%zz",
            "/kbs/%+1",
            "/kbs/%ff",
            "/kbs/%c2%85",
            "/kbs/../",
        ] {
            assert!(canonical(raw).is_err(), "{raw:?}");
        }
        assert!(canonical(&format!("/{}", "a".repeat(MAX_PATH))).is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_plain(raw in "(/|[.]|%2e|%2f|%25|%00|%|a|\\PC){0,20}") {
            if let Ok(path) = canonical(&raw) {
                prop_assert!(path.starts_with('/'));
                for bad in ["//", "/./", "/../", "\0", "%", "?", "\\"] {
                    prop_assert!(!path.contains(bad), "{path}");
                }
                prop_assert_eq!(canonical(&path), Ok(path.clone()));
            }
        }
    }
}
