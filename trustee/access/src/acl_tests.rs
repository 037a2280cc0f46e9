use proptest::prelude::*;

use super::*;

fn acl(endpoints: &[&str]) -> Result<Acl, Error> {
    let allowed_endpoints = endpoints.iter().map(|e| (*e).to_owned()).collect();
    Acl::new(&[AclRule { role: "tester".into(), allowed_endpoints }])
}

fn allows(endpoint: &str, path: &str) -> bool {
    acl(&[endpoint]).unwrap().check("tester", path).is_ok()
}

#[test]
fn the_whole_path_must_match() {
    assert!(allows("^/kbs/v0/resource/.*$", "/kbs/v0/resource/a/b/c"));
    assert!(!allows("^/kbs/v0/resource/.*$", "/kbs/v0/resource-policy"));
    assert!(!allows("^/kbs/v0/resource$", "/kbs/v0/resource/a"));
    assert!(!allows("^/kbs/v0/resource$", "/x/kbs/v0/resource"));
    assert!(allows("^/kbs/v0/(resource|reference-value)/.*$", "/kbs/v0/reference-value/x"));
    assert!(allows("^/cocoon/v0/workloads$", "/cocoon/v0/workloads"));
    assert!(allows("^/t/blue/.*$", "/t/blue/kbs/v0/resource/a/b/c"));
    assert!(!allows("^/t/blue/.*$", "/t/green/kbs/v0/resource/a/b/c"));
    assert!(allows("^/kbs/a.b$", "/kbs/a%2Eb"));
    assert!(allows("^/kbs.*$", "/kbs"));
}

#[test]
fn an_alternation_cannot_leave_its_anchors() {
    for escape in [
        "^/kbs/a|.*$",
        "^/kbs/a||.*$",
        "^/kbs|$",
        "^/kbs/a$|.*|^/kbs/b$",
        "^/kbs/a)|(?:.*$",
        "^/kbs/(a)|(.*)$",
        "^/kbs/a$|^/kbs/b(?x) #$",
        "^/kbs/(?x)a$|^/kbs/ b$",
    ] {
        assert!(matches!(acl(&[escape]), Err(Error::Endpoint { .. })), "{escape}");
    }
    let both = "^/kbs/a$|^/kbs/b$";
    assert!(allows(both, "/kbs/a") && allows(both, "/kbs/b"));
    assert!(!allows(both, "/kbs/c") && !allows(both, "/kbs/ab"));
    assert!(allows("^/kbs/[|]$", "/kbs/|") && allows(r"^/kbs/\|$", "/kbs/|"));
}

#[test]
fn other_expressions_are_refused() {
    for bad in [
        "",
        "^",
        "$",
        "^$",
        "^/$",
        "/kbs/a$",
        "^/kbs/a",
        "kbs",
        "^/other/.*$",
        "^.*/kbs$",
        r"^/kbs/\$",
        "^/kbs/(a$",
        "^/kbs/[$",
        "^/kbs*/a$",
        "^/kbs?.*$",
        "^/kbs{0}.*$",
        "^/cocoon{0}.*$",
        "^/t/*.*$",
        "^/kbs/(?x) # all$",
        "(?m)^/kbs/a$",
        "^/kbs/(a{1000}){1000}$",
        "^/kbs/(?=a)$",
        r"^/kbs/(a)\1$",
        "^(/kbs/a|.*)$",
    ] {
        assert!(matches!(acl(&[bad]), Err(Error::Endpoint { .. })), "{bad}");
    }
    assert!(acl(&[&format!("^/kbs/{}$", "a".repeat(MAX_REGEX))]).is_err());
    assert!(acl(&[&format!("^/kbs/{}{}$", "(".repeat(40), ")".repeat(40))]).is_err());
    assert!(acl(&vec!["^/kbs/a$"; MAX_ENDPOINTS + 1]).is_err());
    let rule = AclRule { role: String::new(), allowed_endpoints: vec![] };
    assert!(matches!(Acl::new(&[rule]), Err(Error::Setting(_))));
}

#[test]
fn roles_and_paths_are_told_apart() {
    let acl = acl(&["^/kbs/v0/.*$"]).unwrap();
    let denied = acl.check("other", "/kbs/v0/a").unwrap_err();
    assert_eq!(denied.status(), 403);
    assert!(denied.reason().starts_with("Role other not allowed"));
    assert!(acl.check("tester", "/cocoon/v0/a").unwrap_err().reason().starts_with("Role tester not allowed"));
    for path in ["/kbs/v0/../admin", "/kbs/v0//a", "/kbs/v0/%2e%2e/a", "/kbs/v0/a%2fb", "/kbs/v0/a\0"] {
        assert!(acl.check("tester", path).is_err(), "{path:?}");
    }
}

#[test]
fn a_query_never_counts() {
    let acl = acl(&["^/kbs/v0/.*public$"]).unwrap();
    assert!(acl.check("tester", "/kbs/v0/secret?public").is_err());
    assert!(acl.check("tester", "/kbs/v0/secret%3fpublic").is_err());
}

proptest! {
    #[test]
    fn no_expression_reaches_past_its_prefix(
        middle in "([|()\\[\\]*+?.^$a/\\\\{}#:x-]|\\(\\?x\\)|\\(\\?:|\\PC){0,12}",
        path in "/(a|kbs|kbs/a|other|\\PC){0,4}",
    ) {
        if let Ok(acl) = acl(&[&format!("^/kbs/{middle}$")]) {
            if acl.check("tester", &path).is_ok() {
                prop_assert!(path.starts_with("/kbs"));
            }
            prop_assert!(acl.check("tester", "/other").is_err());
        }
    }

    #[test]
    fn hostile_texts_do_not_panic(text in "\\PC{0,60}", path in "\\PC{0,60}") {
        if let Ok(acl) = acl(&[&text]) {
            let _ = acl.check("tester", &path);
        }
    }
}
