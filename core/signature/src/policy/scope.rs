//! The scopes that cover an image, the most specific first.

use cocoon_image::Reference;

/// `name:tag@digest`, `name@digest`, `name:tag`, then the repository and each namespace above it up to the registry,
/// then `*.` and each domain above its host, then the empty scope.
pub(super) fn of(reference: &Reference) -> Vec<String> {
    let name = reference.name();
    let mut scopes = Vec::new();
    if let (Some(tag), Some(digest)) = (&reference.tag, &reference.digest) {
        scopes.push(format!("{name}:{tag}@{digest}"));
    }
    if let Some(digest) = &reference.digest {
        scopes.push(format!("{name}@{digest}"));
    }
    if let Some(tag) = &reference.tag {
        scopes.push(format!("{name}:{tag}"));
    }
    let mut parent = name.as_str();
    loop {
        scopes.push(parent.to_owned());
        match parent.rsplit_once('/') {
            Some((above, _)) => parent = above,
            None => break,
        }
    }
    let mut domain = reference.host();
    while let Some((_, above)) = domain.split_once('.') {
        scopes.push(format!("*.{above}"));
        domain = above;
    }
    scopes.push(String::new());
    scopes
}

/// Whether an image can be under the scope at all, so that a scope with a slip of the pen is not silently idle.
pub(super) fn is_possible(scope: &str) -> bool {
    if scope.is_empty() {
        return true;
    }
    if let Some(domain) = scope.strip_prefix("*.") {
        return !domain.contains([':', '/', '@', '*', '['])
            && Reference::parse(&format!("a.{domain}/x")).is_ok();
    }
    // A registry or namespace; else a repository or an image. Both must already be in the expanded form.
    let below = Reference::parse(&format!("{scope}/x")).is_ok_and(|r| r.name() == format!("{scope}/x"));
    let whole = Reference::parse(scope).is_ok_and(|r| of(&r).iter().any(|s| s == scope));
    below || whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_most_specific_to_the_least() {
        let digest = cocoon_image::Digest::sha256(b"");
        let scopes = of(&Reference::parse(&format!("a.b.io:5000/n/m/x:1@{digest}")).unwrap());
        let expected = [
            format!("a.b.io:5000/n/m/x:1@{digest}"),
            format!("a.b.io:5000/n/m/x@{digest}"),
            "a.b.io:5000/n/m/x:1".into(),
            "a.b.io:5000/n/m/x".into(),
            "a.b.io:5000/n/m".into(),
            "a.b.io:5000/n".into(),
            "a.b.io:5000".into(),
            "*.b.io".into(),
            "*.io".into(),
            String::new(),
        ];
        assert_eq!(scopes, expected);
        assert_eq!(
            of(&Reference::parse("busybox").unwrap()),
            [
                "docker.io/library/busybox:latest",
                "docker.io/library/busybox",
                "docker.io/library",
                "docker.io",
                "*.io",
                ""
            ]
        );
        assert_eq!(
            of(&Reference::parse("[::1]:5000/x").unwrap()),
            ["[::1]:5000/x:latest", "[::1]:5000/x", "[::1]:5000", ""]
        );
    }

    #[test]
    fn impossible_scopes_are_seen() {
        let digest = cocoon_image::Digest::sha256(b"");
        for good in [
            "",
            "a.io",
            "a.io:5000",
            "localhost:5000",
            "a.io/n",
            "a.io/n/x:1",
            "*.io",
            "*.com",
            "[::1]:5000/x",
            "docker.io/library/busybox:latest",
            "docker.io/openshift",
            &format!("a.io/x@{digest}"),
            "example.com/playground",
        ] {
            assert!(is_possible(good), "{good}");
        }
        for bad in [
            "busybox",
            "example*.*.com",
            "*",
            "*.a.io/x",
            "*.a.io:5000",
            "a.io/",
            "a.io/X",
            "https://a.io",
            "index.docker.io/library",
            "docker.io/busybox:1",
            "a.io/x@sha256:00",
        ] {
            assert!(!is_possible(bad), "{bad}");
        }
    }
}
