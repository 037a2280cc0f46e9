//! The cache folder: damaged, hostile, full, and shared.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cocoon_collateral::{Bounds, Entry, Folder, Offer};
use cocoon_evidence::collateral::{Document, Need};
use support::{
    DAY, Hands, IDENTITY, JUNE, Server, body, chain, chip, folder, identity, identity_reply, one, service,
    vcek,
};

fn entry(from: u64, note: &str) -> Entry {
    let document = Document { body: identity(from, from + 30 * DAY, note), issuer_chain: chain() };
    Entry::new(IDENTITY, document, "a test", from).unwrap()
}

fn only_file(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.pop().unwrap()
}

#[test]
fn a_document_comes_back_and_a_newer_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    assert_eq!(folder.read(&IDENTITY), None);
    let newer = entry(JUNE, "newer");
    assert_eq!(folder.offer(&newer, false).unwrap(), Offer::Stored);
    assert_eq!(folder.read(&IDENTITY), Some(newer.clone()));
    assert_eq!(folder.list(), vec![newer.clone()]);
    assert_eq!(folder.offer(&entry(JUNE - 1, "older"), false).unwrap(), Offer::Kept);
    assert_eq!(folder.read(&IDENTITY), Some(newer.clone()));
    let again = Entry { fetched_unix: JUNE + 5, ..newer.clone() };
    assert_eq!(folder.offer(&again, false).unwrap(), Offer::Stored, "the same, seen later");
    assert_eq!(folder.offer(&newer, false).unwrap(), Offer::Kept);
    assert_eq!(folder.offer(&entry(JUNE - 1, "older"), true).unwrap(), Offer::Stored);
    only_file(dir.path());
    folder.remove(&IDENTITY);
    assert_eq!(folder.read(&IDENTITY), None);
}

#[test]
fn every_changed_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    folder.offer(&entry(JUNE, "x"), false).unwrap();
    let file = only_file(dir.path());
    let bytes = std::fs::read(&file).unwrap();
    let original = folder.read(&IDENTITY).unwrap();
    for at in (0..bytes.len()).step_by(5) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(&file, &changed).unwrap();
        if let Some(read) = folder.read(&IDENTITY) {
            assert_eq!(read.document, original.document, "byte {at}");
            assert_eq!(read.validity, original.validity, "byte {at}");
        }
    }
    for length in (0..bytes.len()).step_by(7) {
        std::fs::write(&file, &bytes[..length]).unwrap();
        assert_eq!(folder.read(&IDENTITY), None, "{length}");
    }
}

#[tokio::test]
async fn what_is_no_document_counts_as_absent_and_is_replaced() {
    let document = identity(JUNE, JUNE + 30 * DAY, "good");
    let good = document.clone();
    let server = Server::start(move |_| identity_reply(good.clone())).await;
    let hands = Hands::at(JUNE);
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    type Spoil = Box<dyn Fn(&Path)>;
    let stores: [(&str, Spoil); 6] = [
        ("garbage", Box::new(|file| std::fs::write(file, "garbage").unwrap())),
        ("empty", Box::new(|file| std::fs::write(file, "").unwrap())),
        ("large", Box::new(|file| std::fs::write(file, vec![b' '; 9 << 20]).unwrap())),
        (
            "of another version",
            Box::new(|file| {
                let text = std::fs::read_to_string(file).unwrap();
                std::fs::write(file, text.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
            }),
        ),
        (
            "a link",
            Box::new(move |file| {
                std::fs::remove_file(file).unwrap();
                std::os::unix::fs::symlink(&secret, file).unwrap();
            }),
        ),
        (
            "a pipe",
            Box::new(|file| {
                std::fs::remove_file(file).unwrap();
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }),
        ),
    ];
    for (count, (what, spoil)) in stores.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        folder.offer(&entry(JUNE, "old"), false).unwrap();
        spoil(&only_file(dir.path()));
        assert_eq!(folder.read(&IDENTITY), None, "{what}");
        assert!(folder.list().is_empty(), "{what}");
        let gathered = one(&service(&server, Some(folder.clone()), &hands), &IDENTITY).await;
        assert_eq!(body(&gathered, &IDENTITY), Some(document.clone()), "{what}");
        assert_eq!(folder.read(&IDENTITY).unwrap().document.body, document, "{what}");
        assert_eq!(server.hits().len(), count + 1);
    }
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
}

#[test]
fn a_file_under_another_documents_name_is_not_that_document() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    let vcek_entry = |need: &Need| {
        Entry::new(need.clone(), Document { body: vcek(need), issuer_chain: String::new() }, "x", 1).unwrap()
    };
    folder.offer(&vcek_entry(&chip(1)), false).unwrap();
    let first = only_file(dir.path());
    let content = std::fs::read(&first).unwrap();
    std::fs::remove_file(&first).unwrap();
    folder.offer(&vcek_entry(&chip(2)), false).unwrap();
    std::fs::write(only_file(dir.path()), content).unwrap();
    assert_eq!(folder.read(&chip(2)), None);
    assert!(folder.list().is_empty());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_costs_only_the_folder() {
    let document = identity(JUNE, JUNE + 30 * DAY, "good");
    let server = Server::start(move |_| identity_reply(document.clone())).await;
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(&dir.path().join("inner"));
    std::fs::remove_dir(dir.path().join("inner")).unwrap();
    let service = service(&server, Some(folder), &Hands::at(JUNE));
    for _ in 0..3 {
        assert!(body(&one(&service, &IDENTITY).await, &IDENTITY).is_some());
    }
    assert_eq!(server.hits().len(), 1);
}

#[test]
fn the_folder_stays_within_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path(), Bounds { files: 4, bytes: 1 << 20 }).unwrap();
    folder.offer(&entry(JUNE, "list"), false).unwrap();
    let offer = |number: u8| {
        let need = chip(number);
        let document = Document { body: vcek(&need), issuer_chain: String::new() };
        folder.offer(&Entry::new(need, document, "x", 1).unwrap(), false).unwrap();
    };
    let age = |path: &Path, seconds: u64| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    };
    for number in 0..3 {
        offer(number);
    }
    for file in std::fs::read_dir(dir.path()).unwrap() {
        age(&file.unwrap().path(), 1000);
    }
    folder.touch(&chip(0));
    offer(3);
    offer(4);
    let present = |number| folder.read(&chip(number)).is_some();
    assert!(folder.read(&IDENTITY).is_some(), "what no evidence names goes last");
    assert_eq!([0, 1, 2, 3, 4].map(present), [true, false, false, true, true], "what was used stays");

    let abandoned = dir.path().join(".1-1-1.tmp");
    std::fs::write(&abandoned, "x").unwrap();
    std::fs::write(dir.path().join("of-somebody-else"), "x").unwrap();
    age(&abandoned, 4000);
    offer(5);
    assert!(!abandoned.exists());
    assert!(dir.path().join("of-somebody-else").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_services_share_a_folder() {
    let server = Server::start(|path| {
        let path = path.split('?').next().unwrap();
        let number = u8::from_str_radix(&path[path.len() - 2..], 16).unwrap();
        support::Reply::Ok(vec![], vcek(&chip(number)))
    })
    .await;
    let hands = Hands::at(JUNE);
    let dir = tempfile::tempdir().unwrap();
    let sources = || {
        use cocoon_collateral::{AmdKds, Endpoint, Pace, Source, Sources};
        let kds = AmdKds::new(&Endpoint::new(server.url.clone()), support::times()).unwrap();
        let pace = Pace { burst: 1000, every: Duration::from_millis(1) };
        Sources::none()
            .with(cocoon_evidence::collateral::Vendor::Amd, Source::remote(std::sync::Arc::new(kds), pace))
    };
    let services: Vec<_> = (0..2)
        .map(|_| {
            let config = support::config(Some(folder(dir.path())), sources(), &hands);
            cocoon_collateral::Service::new(config)
        })
        .collect();
    let needs: Vec<Need> = (0..30).map(chip).collect();
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let (service, needs) = (services[i % 2].clone(), needs.clone());
            tokio::spawn(async move { service.gather(&needs, Duration::from_secs(20)).await })
        })
        .collect();
    for task in tasks {
        let gathered = task.await.unwrap();
        assert_eq!(gathered.collateral.iter().count(), 30, "{:?}", gathered.notes);
    }
    assert!((30..=60).contains(&server.hits().len()));
    assert_eq!(folder(dir.path()).list().len(), 30);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 30, "nothing half-written is left");
}

#[tokio::test]
async fn what_another_process_brings_is_seen() {
    let server = Server::start(|_| identity_reply(identity(JUNE, JUNE + 30 * DAY, "first"))).await;
    let hands = Hands::at(JUNE);
    let dir = tempfile::tempdir().unwrap();
    let service = service(&server, Some(folder(dir.path())), &hands);
    one(&service, &IDENTITY).await;
    let newer = Entry { fetched_unix: JUNE + 30, ..entry(JUNE + 10, "imported") };
    folder(dir.path()).offer(&newer, false).unwrap();
    hands.forward(61);
    support::until(|| async {
        body(&one(&service, &IDENTITY).await, &IDENTITY) == Some(newer.document.body.clone())
    })
    .await;
    assert_eq!(server.hits().len(), 1);
}
