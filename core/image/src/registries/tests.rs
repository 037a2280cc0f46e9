use super::*;

fn sources(conf: &str, name: &str) -> Result<Vec<String>, Error> {
    let found = Registries::parse(conf)?.sources(&Reference::parse(name).unwrap())?;
    Ok(found
        .iter()
        .map(|s| format!("{}{}", if s.plain_http { "http://" } else { "" }, s.reference))
        .collect())
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn the_manuals_example() {
    let conf = r#"
        unqualified-search-registries = ["example.com"]
        [[registry]]
        prefix = "example.com/foo"
        insecure = false
        blocked = false
        location = "internal-registry-for-example.com/bar"
        [[registry.mirror]]
        location = "example-mirror-0.local/mirror-for-foo"
        [[registry.mirror]]
        location = "example-mirror-1.local/mirrors/foo"
        insecure = true
        [[registry]]
        location = "registry.com"
        [[registry.mirror]]
        location = "mirror.registry.com"
    "#;
    assert_eq!(
        sources(conf, "example.com/foo/image:latest").unwrap(),
        [
            "example-mirror-0.local/mirror-for-foo/image:latest",
            "http://example-mirror-1.local/mirrors/foo/image:latest",
            "internal-registry-for-example.com/bar/image:latest"
        ]
    );
    assert_eq!(
        sources(conf, "registry.com/image").unwrap(),
        ["mirror.registry.com/image:latest", "registry.com/image:latest"]
    );
    assert_eq!(sources(conf, "example.com/foo").unwrap()[2], "internal-registry-for-example.com/bar:latest");
    for untouched in
        ["example.com/food/x:1", "other.com/foo/x:1", "sub.registry.com/x:1", "registry.com:5000/x:1"]
    {
        assert_eq!(sources(conf, untouched).unwrap(), [untouched]);
    }
}

#[test]
fn prefixes_end_where_components_end() {
    let conf = "[[registry]]\nprefix='b.com'\nblocked=true\n[[registry]]\nprefix='c.com/x'\nblocked=true\n\
                [[registry]]\nprefix='*.d.com'\nblocked=true\n[[registry]]\nprefix='docker.io/library'\nblocked=true";
    for (name, blocked) in [
        ("b.com/x", true),
        ("B.com/x", true),
        ("a.b.com/x", false),
        ("b.com.evil/x", false),
        ("evil/b.com/x", false),
        ("evil.io/b.com", false),
        ("c.com/x", true),
        ("c.com/x/y@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", true),
        ("c.com/xy", false),
        ("c.com/y/x", false),
        ("d.com/x", false),
        ("a.d.com/x", true),
        ("A.D.com:5000/x", true),
        ("a.b.d.com/x", true),
        ("xd.com/x", false),
        ("a.d.com.evil/x", false),
        ("busybox", true),
        ("user/busybox", false),
    ] {
        let is = matches!(sources(conf, name), Err(Error::Blocked { .. }));
        assert_eq!(is, blocked, "{name}");
    }
    let failure = Failure::from(sources(conf, "busybox").unwrap_err());
    assert_eq!(failure.code, Code::ImagePolicyRejected);
}

#[test]
fn the_longest_prefix_wins() {
    let conf = "[[registry]]\nprefix='*.com'\nlocation='l0.io'\n[[registry]]\nlocation='a.com'\n\
                [[registry]]\nprefix='a.com/b'\nlocation='l2.io/z'\n[[registry]]\nprefix='a.com/b/c'\nlocation='l3.io'\n\
                [[registry]]\nprefix='*.a.com'\ninsecure=true\n[[registry]]\nprefix='x.a.com'\nlocation='l5.io'";
    for (name, expected) in [
        ("q.com/i:1", "l0.io/i:1"),
        ("a.com/i:1", "a.com/i:1"),
        ("a.com/b/i:1", "l2.io/z/i:1"),
        ("a.com/b/c/i:1", "l3.io/i:1"),
        ("y.a.com:5000/i:1", "http://y.a.com:5000/i:1"),
        ("x.a.com/i:1", "l5.io/i:1"),
    ] {
        assert_eq!(sources(conf, name).unwrap(), [expected], "{name}");
    }
    // The whole name is the prefix, and its location has no repository to offer.
    assert!(matches!(sources(conf, "a.com/b/c:1"), Err(Error::Name(_))));
}

#[test]
fn mirrors_serve_what_they_are_for() {
    let conf = "[[registry]]\nlocation='r.io'\n[[registry.mirror]]\nlocation='all.io'\npull-from-mirror='all'\n\
                [[registry.mirror]]\nlocation='d.io'\npull-from-mirror='digest-only'\n\
                [[registry.mirror]]\nlocation='t.io'\npull-from-mirror='tag-only'";
    assert_eq!(sources(conf, "r.io/x:1").unwrap(), ["all.io/x:1", "t.io/x:1", "r.io/x:1"]);
    let by_digest = |host: &str| format!("{host}/x@{DIGEST}");
    assert_eq!(sources(conf, &by_digest("r.io")).unwrap(), ["all.io", "d.io", "r.io"].map(by_digest));
    let only =
        "[[registry]]\nlocation='r.io'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='m.io'";
    assert_eq!(sources(only, "r.io/x:1").unwrap(), ["r.io/x:1"]);
    assert_eq!(sources(only, &by_digest("r.io")).unwrap(), ["m.io", "r.io"].map(by_digest));
    let both = format!("{only}\npull-from-mirror='tag-only'");
    assert!(matches!(Registries::parse(&both), Err(Error::Malformed(_))));
}

#[test]
fn short_names_are_completed_without_guessing() {
    let one =
        Registries::parse("unqualified-search-registries=['q.io']\n[aliases]\napp='r.io/team/app'\ngone=''")
            .unwrap();
    for (text, expected) in [
        ("app", "r.io/team/app:latest"),
        ("app:v1", "r.io/team/app:v1"),
        ("other", "q.io/other:latest"),
        ("gone:1", "q.io/gone:1"),
        ("team/app", "q.io/team/app:latest"),
        ("docker.io/app", "docker.io/library/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
    ] {
        assert_eq!(one.qualify(text).unwrap().to_string(), expected, "{text}");
    }
    let pinned = format!("app:v1@{DIGEST}");
    assert_eq!(one.qualify(&pinned).unwrap().to_string(), format!("r.io/team/{pinned}"));
    let two = Registries::parse("unqualified-search-registries=['q.io','r.io']\nshort-name-mode='disabled'")
        .unwrap();
    assert!(matches!(two.qualify("app"), Err(Error::Name(_))));
    assert_eq!(two.qualify("x.io/app:1").unwrap().to_string(), "x.io/app:1");
    assert_eq!(Registries::default().qualify("app").unwrap().to_string(), "docker.io/library/app:latest");
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (conf, named) in [
        ("credential-helpers = ['x']", "credential-helpers"),
        ("[registries.search]\nregistries = ['x']", "registries"),
        ("[[registry]]\nlocation='a.io'\nunblocked=true", "unblocked"),
        ("[[registry]]\nlocation='a.io'\n[[registry.mirror]]\nlocation='b.io'\nskip=1", "skip"),
        (
            "[[registry]]\nlocation='a.io'\n[[registry.mirror]]\nlocation='b.io'\npull-from-mirror='never'",
            "never",
        ),
        ("short-name-mode='x'", "x"),
        ("[[registry]]\nlocation='https://a.io'", "https://a.io"),
        ("[[registry]]\nlocation='a.io/'", "a.io/"),
        ("[[registry]]\nlocation='mirror'", "mirror"),
        ("[[registry]]\nprefix='a.io/x:tag'", "a.io/x:tag"),
        ("[[registry]]\nprefix='*.a.io/x'", "*.a.io/x"),
        ("[[registry]]\nprefix='*.a.io:5000'", "*.a.io:5000"),
        ("[[registry]]\nprefix='a.*.io'", "a.*.io"),
        ("[[registry]]\nprefix='*'", "*"),
        ("[[registry]]\nblocked=true", "prefix"),
        ("[[registry]]\nlocation='a.io'\n[[registry]]\nprefix='A.io'", "A.io"),
        ("[[registry]]\nlocation='a.io'\n[[registry.mirror]]\ninsecure=true", "location"),
        ("[aliases]\n'a.io/x'='b.io/x'", "a.io/x"),
        ("[aliases]\nx='b'", "b"),
        ("unqualified-search-registries=['a.io/x']", "a.io/x"),
        ("blocked = maybe", "line 1"),
    ] {
        let e = Registries::parse(conf).unwrap_err();
        assert!(matches!(e, Error::Malformed(_)) && e.to_string().contains(named), "{conf}: {e}");
    }
    assert!(Registries::parse(&" ".repeat(MAX_TEXT)).is_ok());
    assert!(Registries::parse(&" ".repeat(MAX_TEXT + 1)).is_err());
    let deep = format!("a={}", "[".repeat(60_000));
    assert!(Registries::parse(&deep).is_err());
    let many =
        format!("[[registry]]\nlocation='a.io'\n{}", "[[registry.mirror]]\nlocation='b.io'\n".repeat(40));
    assert!(Registries::parse(&many).is_err());
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,200}", prefix in "[*a-c./:\\[\\]@-]{0,12}", location in "[a-c./:]{0,12}") {
        let _ = Registries::parse(&text);
        let conf = format!("[[registry]]\nprefix='{prefix}'\nlocation='{location}'");
        if let Ok(parsed) = Registries::parse(&conf) {
            for name in ["a.b/c", "a", "a.b:1/c", "c.c/a/b/c"] {
                if let Ok(found) = parsed.sources(&Reference::parse(name).unwrap()) {
                    for source in found {
                        let text = source.reference.to_string();
                        proptest::prop_assert_eq!(Reference::parse(&text).unwrap(), source.reference);
                    }
                }
            }
        }
    }
}

#[test]
fn a_block_is_not_gone_round_by_a_port() {
    let conf = "[[registry]]\nprefix='b.com'\nblocked=true\n[[registry]]\nprefix='b.com:5000/open'\n\
                [[registry]]\nprefix='c.com:443/x'\nblocked=true\n[[registry]]\nprefix='d.com:5000'\nblocked=true\n\
                [[registry]]\nprefix='docker.io/evil'\nblocked=true\n[[registry]]\nprefix='[::1]'\nblocked=true";
    for (name, blocked) in [
        ("b.com:443/x", true),
        ("B.com:0443/x", true),
        ("b.com:5000/x", true),
        ("b.com:80/x", true),
        ("b.com:5000/open/x", false),
        ("b.com.evil:443/x", false),
        ("c.com/x", true),
        ("c.com:443/x/y", true),
        // The default port is as good as none, and a block without a port is one of them all.
        ("c.com:444/x", true),
        ("d.com:5000/x", true),
        ("d.com/x", false),
        ("docker.io:443/evil/x", true),
        ("registry-1.docker.io/evil/x", true),
        ("registry-1.docker.io:443/evil/x", true),
        ("docker.io:443/good/x", false),
        ("[::1]:5000/x", true),
        ("[::1]/x", true),
    ] {
        let is = matches!(sources(conf, name), Err(Error::Blocked { .. }));
        assert_eq!(is, blocked, "{name}");
    }
    // One registry written twice is one prefix.
    let twice = "[[registry]]\nprefix='b.com'\n[[registry]]\nprefix='b.com:443'\nblocked=true";
    assert!(matches!(Registries::parse(twice), Err(Error::Malformed(_))));
    // A location stays as it is written, and other rules keep to their port.
    let mirror = "[[registry]]\nprefix='b.com'\nlocation='m.io:443'";
    assert_eq!(sources(mirror, "b.com:443/x:1").unwrap(), ["m.io:443/x:1"]);
    assert_eq!(sources(mirror, "b.com:444/x:1").unwrap(), ["b.com:444/x:1"]);
}
