//! Upstream's `LocalJson` and `LocalFs` storage: a file with the input, under a name that it may choose.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use cocoon_fuzz::parts;
use cocoon_store::{Imported, Report, import_local_fs, import_local_json};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("json")).expect("a folder");
    std::fs::create_dir_all(folder.path().join("fs/repository")).expect("a folder");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let (json, fs) = (FOLDER.path().join("json"), FOLDER.path().join("fs"));
    std::fs::write(json.join("kbs.json"), bytes).expect("it can be written");
    counted(|each| import_local_json(&json, each).expect("the folder is there"));
    if let [name, content] = parts(bytes, 2).as_slice()
        && let Ok(name) = std::str::from_utf8(name)
        && !name.contains('/')
        && ![".", "..", ""].contains(&name)
    {
        let file = fs.join("repository").join(Path::new(name));
        // Not every name can be written.
        if std::fs::write(&file, content).is_ok() {
            counted(|each| import_local_fs(&fs, each).expect("the folder is there"));
            std::fs::remove_file(&file).expect("it was written");
        }
    }
});

fn counted(import: impl FnOnce(&mut dyn FnMut(Imported) -> Result<(), String>) -> Report) {
    let (mut count, mut length) = (0, 0);
    let report = import(&mut |imported| {
        assert!(!imported.key.contains("..") || imported.key.split('/').all(|part| part != ".."));
        (count, length) = (count + 1, length + imported.value.len() as u64);
        Ok(())
    });
    assert_eq!((report.imported, report.bytes), (count, length));
    assert!(report.problems.len() <= 1000);
}
