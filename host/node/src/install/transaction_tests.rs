use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

/// Every file below `dir` with mode and content, and every folder.
fn picture(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let mode = fs::symlink_metadata(&path).unwrap().mode();
            if path.is_dir() {
                todo.push(path.clone());
                all.insert(path, (mode, Vec::new()));
            } else {
                let content = fs::read(&path).unwrap();
                all.insert(path, (mode, content));
            }
        }
    }
    all
}

fn change(path: PathBuf, text: &str) -> Change {
    let content = Content::Bytes(text.into());
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let print = Print { sha256: content.sha256().unwrap(), mode: 0o644, uid, gid };
    Change { path, after: Some((content, print)) }
}

fn changes(node: &Path) -> Vec<Change> {
    vec![
        change(node.join("etc/cocoon/a.toml"), "a"),
        change(node.join("etc/main.toml"), "changed"),
        Change { path: node.join("etc/gone.toml"), after: None },
        change(node.join("opt/x/y/z"), "z"),
    ]
}

fn node() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("node/etc")).unwrap();
    fs::write(dir.path().join("node/etc/main.toml"), "original").unwrap();
    fs::set_permissions(dir.path().join("node/etc/main.toml"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(dir.path().join("node/etc/gone.toml"), "gone").unwrap();
    dir
}

#[test]
fn a_crash_after_any_step_is_undone_by_the_next_run() {
    for steps in 0..=4 {
        let dir = node();
        let (node, state) = (dir.path().join("node"), dir.path().join("state"));
        let before = picture(&node);
        {
            let store = Store::lock(&state).unwrap();
            let mut transaction = Transaction::prepare(&store, changes(&node)).unwrap();
            for _ in 0..steps {
                assert!(transaction.advance().unwrap());
            }
            assert_eq!(picture(&node) == before, steps == 0);
            // Here the process is killed: neither commit nor undo.
        }
        // A write that was cut short leaves its beginning beside the file.
        if steps == 1 {
            fs::write(disk::waiting(&node.join("etc/main.toml")), "chan").unwrap();
        }
        let store = Store::lock(&state).unwrap();
        assert_eq!(recover(&store).unwrap().unwrap().restored.len(), steps);
        assert_eq!(picture(&node), before, "after {steps} steps");
        assert_eq!(recover(&store).unwrap(), None);
    }
}

#[test]
fn a_crash_during_the_undoing_is_undone_too() {
    let dir = node();
    let (node, state) = (dir.path().join("node"), dir.path().join("state"));
    let before = picture(&node);
    let store = Store::lock(&state).unwrap();
    let mut transaction = Transaction::prepare(&store, changes(&node)).unwrap();
    while transaction.advance().unwrap() {}
    // The first half of an undoing, as a killed process leaves it.
    fs::remove_file(node.join("opt/x/y/z")).unwrap();
    fs::write(node.join("etc/gone.toml"), "gone").unwrap();
    recover(&store).unwrap().unwrap();
    assert_eq!(picture(&node), before);
}

#[test]
fn what_is_committed_stays_and_what_failed_is_as_before() {
    let dir = node();
    let (node, state) = (dir.path().join("node"), dir.path().join("state"));
    let store = Store::lock(&state).unwrap();
    let before = picture(&node);
    // A folder stands where the last file should be.
    fs::create_dir_all(node.join("opt/x/y")).unwrap();
    let with_folder = picture(&node);
    let mut blocked = changes(&node);
    blocked.push(change(node.join("opt/x/y/z/below"), "a file is in the way"));
    let mut transaction = Transaction::prepare(&store, blocked).unwrap();
    let error = loop {
        match transaction.advance() {
            Ok(true) => {}
            Ok(false) => panic!("it cannot succeed"),
            Err(e) => break e,
        }
    };
    assert_eq!(error.code.as_str(), "NODE-INSTALL-FAILED");
    transaction.undo().unwrap();
    assert_eq!(picture(&node), with_folder);
    fs::remove_dir_all(node.join("opt")).unwrap();
    assert_eq!(picture(&node), before);

    let mut transaction = Transaction::prepare(&store, changes(&node)).unwrap();
    while transaction.advance().unwrap() {}
    transaction.commit().unwrap();
    assert_eq!(recover(&store).unwrap(), None);
    assert_eq!(fs::read(node.join("etc/main.toml")).unwrap(), b"changed");
    assert!(!node.join("etc/gone.toml").exists());
}

#[test]
fn a_file_that_someone_changed_meanwhile_is_left() {
    let dir = node();
    let (node, state) = (dir.path().join("node"), dir.path().join("state"));
    let store = Store::lock(&state).unwrap();
    let mut transaction = Transaction::prepare(&store, changes(&node)).unwrap();
    while transaction.advance().unwrap() {}
    fs::write(node.join("etc/main.toml"), "a person's").unwrap();
    let undone = transaction.undo().unwrap();
    assert_eq!(undone.left, [node.join("etc/main.toml")]);
    assert_eq!(fs::read(node.join("etc/main.toml")).unwrap(), b"a person's");
    assert!(!node.join("opt").exists());
}

#[test]
fn two_at_once_are_refused_and_a_damaged_journal_is_named() {
    let dir = node();
    let state = dir.path().join("cocoon/node");
    let store = Store::lock(&state).unwrap();
    let error = Store::lock(&state).unwrap_err();
    assert_eq!(error.code.as_str(), "NODE-BUSY");
    fs::write(state.join("journal.json"), "{").unwrap();
    assert!(recover(&store).unwrap_err().reason.contains("journal.json"));
    store.vanish();
    assert!(!dir.path().join("cocoon").exists());
    Store::lock(&state).unwrap();
}
