//! Where detached signatures lie: containers-registries.d(5), as far as reading signatures needs it.

mod yaml;

use std::collections::BTreeMap;

use cocoon_image::{Digest, Error, Reference};

/// Most scopes of all documents.
const MAX_SCOPES: usize = 1024;
const MAX_URL: usize = 2048;

/// Look-aside places by scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigstoreD {
    default: Option<Place>,
    scopes: BTreeMap<String, Place>,
}

/// What is said of one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `lookaside` (formerly `sigstore`): the base URL that signatures are read from; `http://`, `https://` or `file://`.
    pub lookaside: Option<String>,
    /// `lookaside-staging` (formerly `sigstore-staging`): where they are written to.
    pub staging: Option<String>,
    /// `use-sigstore-attachments`: whether Sigstore's signatures are looked for in the registry.
    pub attachments: Option<bool>,
}

impl SigstoreD {
    /// Reads one document, at most 64 KiB.
    ///
    /// # Errors
    /// [`Error::Manifest`], naming the line: not the simple YAML of such files, an unknown key, one given twice, a URL of
    /// another kind.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut all = SigstoreD::default();
        all.add("registries.d", text)?;
        Ok(all)
    }

    /// Reads several documents, each with a name for errors. What two of them say of the same scope is an error, however
    /// alike it is: which of them counts would be chance.
    ///
    /// # Errors
    /// As [`SigstoreD::parse`].
    pub fn merge<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Error> {
        let mut all = SigstoreD::default();
        for (name, text) in documents {
            all.add(name, text)?;
        }
        Ok(all)
    }

    fn add(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let fail = |line: usize, why: &str| Error::Manifest(format!("{name}, line {line}: {why}"));
        let root = yaml::parse(text).map_err(|(line, why)| fail(line, why))?;
        for entry in root {
            match (entry.key.as_str(), entry.value) {
                ("default-docker", yaml::Value::Mapping(entries)) => {
                    let place = place(entries).map_err(|(line, why)| fail(line, why))?;
                    if self.default.replace(place).is_some() {
                        return Err(fail(entry.line, "default-docker is given by two documents"));
                    }
                }
                ("docker", yaml::Value::Mapping(scopes)) => {
                    for scope in scopes {
                        let yaml::Value::Mapping(entries) = scope.value else {
                            return Err(fail(scope.line, "a scope must be a mapping"));
                        };
                        let place = place(entries).map_err(|(line, why)| fail(line, why))?;
                        if self.scopes.insert(scope.key, place).is_some() {
                            return Err(fail(scope.line, "the scope is given by two documents"));
                        }
                        if self.scopes.len() > MAX_SCOPES {
                            return Err(fail(scope.line, "too many scopes"));
                        }
                    }
                }
                ("default-docker" | "docker", _) => return Err(fail(entry.line, "must be a mapping")),
                _ => return Err(fail(entry.line, "is neither default-docker nor docker")),
            }
        }
        Ok(())
    }

    /// The base URL that signatures of the image are read from: of the most specific scope that names one (the whole name
    /// with tag or digest, the repository, its parents, the registry, `*.` and a parent domain), else the default.
    pub fn lookaside(&self, reference: &Reference) -> Option<&str> {
        self.find(reference, |place| place.lookaside.as_deref())
    }

    /// Whether Sigstore's signatures are to be looked for in the registry, where a scope or the default says so.
    pub fn attachments(&self, reference: &Reference) -> Option<bool> {
        self.find(reference, |place| place.attachments)
    }

    fn find<'a, T>(&'a self, reference: &Reference, wanted: impl Fn(&'a Place) -> Option<T>) -> Option<T> {
        let scopes = scopes(reference);
        let named = scopes.iter().filter_map(|scope| self.scopes.get(scope));
        named.chain(&self.default).find_map(wanted)
    }

    /// Where the image's signature of this number (from 1 on) is, `<base>/<repository>@<algorithm>=<hex>/signature-<number>`;
    /// `None` where no place is named for it.
    pub fn signature_url(&self, reference: &Reference, digest: &Digest, number: usize) -> Option<String> {
        let base = self.lookaside(reference)?.trim_end_matches('/');
        let digest = digest.to_string().replacen(':', "=", 1);
        Some(format!("{base}/{}@{digest}/signature-{number}", reference.repository))
    }
}

/// Scopes of a name, most specific first.
fn scopes(reference: &Reference) -> Vec<String> {
    let name = reference.name();
    let mut all = Vec::new();
    all.extend(reference.digest.as_ref().map(|digest| format!("{name}@{digest}")));
    all.extend(reference.tag.as_ref().map(|tag| format!("{name}:{tag}")));
    let mut rest = name.as_str();
    all.push(rest.to_owned());
    while let Some((parent, _)) = rest.rsplit_once('/') {
        all.push(parent.to_owned());
        rest = parent;
    }
    let mut domain = reference.registry.as_str();
    while let Some((_, parent)) = domain.split_once('.') {
        all.push(format!("*.{parent}"));
        domain = parent;
    }
    all
}

fn place(entries: Vec<yaml::Entry>) -> Result<Place, (usize, &'static str)> {
    let mut place = Place::default();
    let mut old = Place::default();
    for entry in entries {
        let yaml::Value::Scalar(text) = entry.value else {
            return Err((entry.line, "must be a single value"));
        };
        let target = match entry.key.as_str() {
            "use-sigstore-attachments" => {
                place.attachments = Some(match text.as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err((entry.line, "must be true or false")),
                });
                continue;
            }
            "lookaside" => &mut place.lookaside,
            "sigstore" => &mut old.lookaside,
            "lookaside-staging" => &mut place.staging,
            "sigstore-staging" => &mut old.staging,
            _ => return Err((entry.line, "is not a key of a scope")),
        };
        *target = Some(url(text).ok_or((entry.line, "must be a URL: http, https or file"))?);
    }
    // The new names win over the old ones.
    place.lookaside = place.lookaside.or(old.lookaside);
    place.staging = place.staging.or(old.staging);
    Ok(place)
}

/// A base URL; what would change the meaning of a path added to it is refused.
fn url(text: String) -> Option<String> {
    let rest = ["http://", "https://", "file:///"].iter().find_map(|scheme| text.strip_prefix(scheme))?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\' | '"' | '<' | '>');
    let climbs = rest.split('/').any(|part| part == "..");
    let host = !rest.is_empty() && !rest.starts_with('/') || text.starts_with("file:");
    (host && !climbs && text.len() <= MAX_URL && rest.chars().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(documents: &[&str], image: &str) -> Option<String> {
        let all = SigstoreD::merge(documents.iter().map(|text| ("d", *text))).unwrap();
        all.lookaside(&Reference::parse(image).unwrap()).map(str::to_owned)
    }

    #[test]
    fn the_most_specific_scope_wins() {
        let text = "default-docker:\n  sigstore: file:///d\ndocker:\n  a.example:\n    lookaside: https://h/\n    sigstore: http://old\n  a.example/b:\n    use-sigstore-attachments: true\n  'a.example/b/c':\n    lookaside: \"https://c\"\n  a.example/b/c:1:\n    lookaside: https://c1\n  '*.example':\n    lookaside: https://star\n";
        let check = |image: &str, expected: &str| {
            assert_eq!(base(&[text], image).as_deref(), Some(expected), "{image}");
        };
        check("a.example/b/c:1", "https://c1");
        check("a.example/b/c:2", "https://c");
        check("a.example/b/d", "https://h/");
        check("z.a.example/b", "https://star");
        check("busybox", "file:///d");
        let all = SigstoreD::parse(text).unwrap();
        let digest = Digest::sha256(b"");
        let reference = Reference::parse("a.example/x/y").unwrap();
        let url = all.signature_url(&reference, &digest, 2).unwrap();
        assert_eq!(url, format!("https://h/x/y@sha256={}/signature-2", digest.hex()));
        assert_eq!(all.attachments(&Reference::parse("a.example/b").unwrap()), Some(true));
        assert_eq!(SigstoreD::default().lookaside(&reference), None);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_line() {
        for (text, line) in [
            ("docker:\n  a:\n    lookaside: ftp://x", 3),
            ("docker:\n  a:\n    lookaside: https://x/../y", 3),
            ("docker:\n  a:\n    lookaside: https://x?y", 3),
            ("docker:\n  a:\n    lookaside: https:///x", 3),
            ("docker:\n  a:\n    other: https://x", 3),
            ("docker:\n  a: https://x", 2),
            ("docker: x", 1),
            ("other:\n  a: b", 1),
            ("docker:\n  a:\n    use-sigstore-attachments: yes", 3),
        ] {
            let e = SigstoreD::parse(text).unwrap_err().to_string();
            assert!(e.contains(&format!("line {line}:")), "{text}: {e}");
        }
    }

    #[test]
    fn recorded_documents_merge_as_recorded() {
        let dir = std::env::var("COCOON_VECTORS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
        let read =
            |name: &str| std::fs::read_to_string(format!("{dir}/image/signature/sigstore_config/{name}"));
        if read("get_base_url/res.yaml").is_err() {
            println!("skipped: no vectors in {dir}");
            return;
        }
        let read = |name: &str| read(name).unwrap();
        for case in 1..=3 {
            let (one, two) =
                (read(&format!("test_case_{case}/1.yaml")), read(&format!("test_case_{case}/2.yaml")));
            let merged = SigstoreD::merge([("1", one.as_str()), ("2", two.as_str())]);
            // The first two say something twice.
            match case {
                3 => {
                    let expected = SigstoreD::parse(&read("merged_result/res3.yaml")).unwrap();
                    assert_eq!(merged.unwrap(), expected);
                }
                _ => assert!(merged.unwrap_err().to_string().contains("two documents")),
            }
        }
        let text = read("get_base_url/res.yaml");
        let found = base(&[&text], "example1.com/a/b");
        assert_eq!(found.as_deref(), Some("file:///var/lib/containers/sigstore"));
        assert_eq!(base(&[&text], "example3.com/a").as_deref(), Some("file:///default/sigstore"));
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in "[ a-z:'\"#/\\n-]{0,200}") {
            let _ = SigstoreD::parse(&text);
        }
    }
}
