//! Upstream's files, good and bad.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;

use super::*;

type Found = BTreeMap<(String, String), Vec<u8>>;
type Import = fn(&Path, &mut Each<'_>) -> Result<Report, Error>;

fn import(with: Import, folder: &Path) -> (Found, Report) {
    let mut found = Found::new();
    let report = with(folder, &mut |i| {
        let earlier = found.insert((i.namespace, i.key), i.value.to_vec());
        assert_eq!(earlier, None);
        Ok(())
    })
    .unwrap();
    (found, report)
}

fn entry(ns: &str, key: &str, value: &[u8]) -> ((String, String), Vec<u8>) {
    ((ns.to_owned(), key.to_owned()), value.to_vec())
}

fn places(report: &Report) -> Vec<&str> {
    let mut places: Vec<_> = report.problems.iter().map(|p| p.place.as_str()).collect();
    places.sort_unstable();
    places
}

#[test]
fn local_fs_gives_every_file_and_names_the_unusable_ones() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("repository/sub")).unwrap();
    std::fs::create_dir(at("attestation-service_policy")).unwrap();
    std::fs::create_dir(at(".hidden")).unwrap();
    std::fs::write(at(r"repository/one\x2Ftwo\x2Fthree"), b"secret\0").unwrap();
    std::fs::write(at("repository/empty"), b"").unwrap();
    std::fs::write(at("attestation-service_policy/default.rego"), b"package policy").unwrap();
    std::fs::write(at("stray"), b"").unwrap();
    for bad in [r"..\x2F..\x2Fetc", r"\x2Fabsolute", r"a\x2F\x2Fb", "new\nline"] {
        std::fs::write(at("repository").join(bad), b"x").unwrap();
    }
    std::fs::File::create(at("repository/large")).unwrap().set_len((16 << 20) + 1).unwrap();
    symlink(at("stray"), at("repository/link")).unwrap();
    symlink(at("repository"), at("linked_namespace")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("repository/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();

    let (found, report) = import(import_local_fs, folder.path());
    let expected = [
        entry("repository", "one/two/three", b"secret\0"),
        entry("repository", "empty", b""),
        entry("attestation-service_policy", "default.rego", b"package policy"),
    ];
    assert_eq!(found, Found::from(expected));
    assert_eq!((report.imported, report.bytes, report.unlisted), (3, 21, 0));
    assert_eq!(
        places(&report),
        [
            ".hidden",
            "linked_namespace",
            r"repository/..\x2F..\x2Fetc",
            r"repository/\x2Fabsolute",
            r"repository/a\x2F\x2Fb",
            "repository/large",
            "repository/link",
            r"repository/new\nline",
            "repository/pipe",
            "repository/sub",
            "stray",
        ]
    );
    assert!(import_local_fs(&at("absent"), &mut |_| Ok(())).is_err());
}

#[test]
fn local_json_gives_every_entry_and_names_the_unusable_ones() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(
        at("repository.json"),
        r#"{"a/b":"_-8=","pad/less":"_-8","empty":"","number":7,"std":"+/8=","../x":"AAAA","a/b":"AAAA",
            "deep":[{"a":1}],"last":"AA=="}"#,
    )
    .unwrap();
    std::fs::write(at("broken.json"), r#"{"good":"AAAA","bad":"topsecret"#).unwrap();
    std::fs::write(at("list.json"), r#"["topsecret"]"#).unwrap();
    std::fs::write(at("more.json"), r#"{} {}"#).unwrap();
    std::fs::write(at("readme.txt"), b"").unwrap();
    symlink(at("repository.json"), at("link.json")).unwrap();

    let (found, report) = import(import_local_json, folder.path());
    let expected = [
        entry("repository", "a/b", &[0xff, 0xef]),
        entry("repository", "pad/less", &[0xff, 0xef]),
        entry("repository", "empty", b""),
        entry("repository", "last", b"\0"),
        entry("broken", "good", &[0, 0, 0]),
    ];
    assert_eq!(found, Found::from(expected));
    assert_eq!(
        places(&report),
        [
            "broken.json",
            "link.json",
            "list.json",
            "more.json",
            "readme.txt",
            "repository.json: ../x",
            "repository.json: a/b",
            "repository.json: deep",
            "repository.json: number",
            "repository.json: std",
        ]
    );
    assert!(!format!("{report:?}").contains("topsecret"));
}

#[test]
fn what_the_caller_refuses_is_listed_and_the_list_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let entries: Vec<_> = (0..1500).map(|i| format!("\"{i}\":\"AAAA\"")).collect();
    std::fs::write(folder.path().join("n.json"), format!("{{{}}}", entries.join(","))).unwrap();
    let report = import_local_json(folder.path(), &mut |_| Err("not wanted".into())).unwrap();
    assert_eq!((report.imported, report.problems.len(), report.unlisted), (0, 1000, 500));
    assert!(report.problems.iter().all(|p| p.reason == "not wanted"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_json_panics_and_every_key_given_is_valid(text in "[{]?(\"[a./\\\\]{0,4}\":[\"\\[1A]{0,3}=?\"?,?){0,5}[}]?") {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("n.json"), text).unwrap();
        let (found, _) = import(import_local_json, folder.path());
        for (_, key) in found.keys() {
            prop_assert!(is_key(key));
        }
    }

    #[test]
    fn every_key_that_upstream_can_store_as_a_file_comes_back(key in "[a-z0-9._-]{1,5}(/[a-z0-9_-]{1,5}){0,3}", value: Vec<u8>) {
        prop_assume!(is_key(&key));
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ns")).unwrap();
        std::fs::write(folder.path().join("ns").join(key.replace('/', r"\x2F")), &value).unwrap();
        let (found, report) = import(import_local_fs, folder.path());
        prop_assert_eq!(found, Found::from([entry("ns", &key, &value)]));
        prop_assert_eq!(report.problems, []);
    }
}
