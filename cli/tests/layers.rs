//! `cocoon layers`: what an operator of a node does with the cache.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod support;

use std::os::unix::fs::PermissionsExt;

use cocoon_erofs::verity;
use serde_json::Value;
use support::Home;

/// A layer as the cache keeps it; its root hash.
fn plant(home: &Home, byte: u8) -> String {
    let file = home.path("new");
    std::fs::write(&file, vec![byte; 3 * 4096]).unwrap();
    let open = std::fs::File::options().read(true).write(true).open(&file).unwrap();
    let root = verity::append(&open, 3).unwrap().root_hex();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();
    std::fs::rename(&file, home.path("data/cocoon/layers/layers").join(&root)).unwrap();
    root
}

#[test]
fn layers_are_listed_checked_and_removed() {
    let home = Home::new();
    let said = home.run(&["layers", "list"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), ""), "{}", said.stderr);
    assert!(said.stderr.contains("0 layers have 0 B of 20 GiB"), "{}", said.stderr);

    let roots = [1, 2, 3].map(|byte| plant(&home, byte));
    let said = home.run(&["layers", "list", "--json", "--limit", "1T"]);
    let list: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(list["layers"].as_array().unwrap().len(), 3);
    assert_eq!((&list["bytes"], &list["limit"]), (&(3 * 16384).into(), &(1_u64 << 40).into()));
    assert_eq!(list["layers"][0]["blocks"], 3);
    assert_eq!(list["layers"][0]["in_use"], false);
    let said = home.run(&["layers", "list"]);
    assert!(roots.iter().all(|r| said.stdout.contains(r)), "{}", said.stdout);

    let said = home.run(&["layers", "verify"]);
    assert_eq!((said.status, said.stdout.matches("ok ").count()), (Some(0), 3), "{}", said.stderr);
    let path = home.path("data/cocoon/layers/layers").join(&roots[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let said = home.run(&["layers", "verify", "--json"]);
    assert_eq!(said.status, Some(125));
    assert!(said.stderr.contains("IMAGE-LAYER-TAMPERED"), "{}", said.stderr);
    let verdicts: Value = serde_json::from_str(&said.stdout).unwrap();
    let bad: Vec<&Value> = verdicts.as_array().unwrap().iter().filter(|v| v["good"] == false).collect();
    assert_eq!((bad.len(), bad[0]["root"].as_str()), (1, Some(roots[0].as_str())));
    assert_eq!(bad[0]["removed"], true);
    assert!(!path.exists());
    // One that a pod uses stays for now.
    plant(&home, 1);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[5000] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, damaged).unwrap();
    let pod = std::fs::File::open(&path).unwrap();
    pod.lock_shared().unwrap();
    let said = home.run(&["layers", "list"]);
    assert!(said.stdout.lines().any(|l| l.starts_with(&roots[0]) && l.contains("in use")), "{}", said.stdout);
    let said = home.run(&["layers", "verify"]);
    assert_eq!(
        (said.status, said.stdout.matches("; not removed").count()),
        (Some(125), 1),
        "{}",
        said.stdout
    );
    let said = home.run(&["layers", "remove", &roots[0]]);
    assert_eq!(said.status, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("in use by a pod"), "{}", said.stderr);
    drop(pod);
    let said = home.run(&["layers", "verify", &roots[0]]);
    assert_eq!((said.status, said.stdout.matches("; removed").count()), (Some(125), 1), "{}", said.stdout);
    assert!(!path.exists());

    // By a beginning, where that says which.
    plant(&home, 1);
    let said = home.run(&["layers", "remove", &roots[0][..12]]);
    assert_eq!((said.status, said.stdout.trim()), (Some(0), roots[0].as_str()), "{}", said.stderr);
    for nothing in [&roots[0], "x", ""] {
        let said = home.run(&["layers", "remove", nothing]);
        assert_eq!(said.status, Some(2), "{nothing}: {}", said.stderr);
    }
    let said = home.run(&["layers", "prune", "--to", "16K", "--json"]);
    let removed: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(removed["removed"].as_array().unwrap().len(), 1);
    let said = home.run(&["layers", "prune"]);
    assert_eq!((said.status, said.stdout.lines().count()), (Some(0), 1), "{}", said.stderr);
    assert_eq!(std::fs::read_dir(home.path("data/cocoon/layers/layers")).unwrap().count(), 0);
}

#[test]
fn a_folder_that_others_can_change_is_refused() {
    let mut home = Home::new();
    let shared = home.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
    home.env("COCOON_LAYERS_DIR", &shared.display().to_string());
    let said = home.run(&["layers", "list", "--json"]);
    assert_eq!(said.status, Some(125));
    assert!(
        said.stderr.contains("IMAGE-CACHE-FAILED") && said.stderr.contains("others may write"),
        "{}",
        said.stderr
    );
}
