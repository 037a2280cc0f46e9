//! Sparse files as GNU tar writes them, and what nobody should.

use std::process::Command;

use super::{Entry, Reader};
use crate::Error;

fn entries(data: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let mut reader = Reader::new(data);
    let mut out = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        loop {
            let piece = reader.data()?;
            let n = piece.len();
            if n == 0 {
                break;
            }
            content.extend_from_slice(piece);
            assert!(content.len() < 64 << 20, "there is no end to it");
            reader.consume(n);
        }
        out.push((entry, content));
    }
    reader.drain()?;
    Ok(out)
}

/// Files with holes at the beginning, between, at the end, nothing but one, and more parts than one header holds.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let mut between = vec![0; 3 << 20];
    between[..5].copy_from_slice(b"first");
    between[1 << 20..(1 << 20) + 6].copy_from_slice(b"second");
    let mut begins = vec![0; 1 << 20];
    begins.extend_from_slice(b"the end");
    let mut many = vec![0; 8 << 20];
    for part in 0..64 {
        many[part * (128 << 10)] = u8::try_from(part).unwrap() + 1;
    }
    vec![
        ("between", between),
        ("begins", begins),
        ("hole", vec![0; 1 << 20]),
        ("many", many),
        ("whole", b"x".to_vec()),
    ]
}

/// GNU tar's archive of them; `None` where that is another tar.
fn archive(options: &[&str]) -> Option<Vec<u8>> {
    use std::io::{Seek, SeekFrom, Write};
    let version = Command::new("tar").arg("--version").output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains("GNU tar") {
        println!("skipped: tar is not GNU tar");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files() {
        let mut file = std::fs::File::create(dir.path().join(name)).unwrap();
        for (at, page) in (0_u64..).step_by(4096).zip(content.chunks(4096)) {
            if page.iter().any(|b| *b != 0) {
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(page).unwrap();
            }
        }
        file.set_len(u64::try_from(content.len()).unwrap()).unwrap();
    }
    let names = files().into_iter().map(|(name, _)| name);
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--sparse").args(options).arg("-C").arg(dir.path()).args(names);
    let made = tar.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(made.stdout)
}

const FORMS: [&[&str]; 4] = [
    &["--format=gnu"],
    &["--format=pax", "--sparse-version=0.0"],
    &["--format=pax", "--sparse-version=0.1"],
    &["--format=pax", "--sparse-version=1.0"],
];

#[test]
fn gnu_tars_forms_are_read() {
    for form in FORMS {
        let Some(archive) = archive(form) else { return };
        assert!(archive.len() < 1 << 20, "{form:?}: the archive is not sparse");
        let read = entries(&archive).unwrap_or_else(|e| panic!("{form:?}: {e}"));
        assert_eq!(read.len(), files().len(), "{form:?}");
        for ((entry, content), (name, wanted)) in read.iter().zip(files()) {
            assert_eq!(entry.path, name.as_bytes(), "{form:?}");
            assert_eq!(entry.size, u64::try_from(wanted.len()).unwrap(), "{form:?} {name}");
            assert!(*content == wanted, "{form:?} {name}");
        }
    }
}

#[test]
fn truncation_and_damage_are_errors_or_shorter_archives() {
    for form in FORMS {
        let Some(archive) = archive(form) else { return };
        for cut in (0..archive.len()).step_by(archive.len() / 24 + 1) {
            if let Ok(read) = entries(&archive[..cut]) {
                for ((_, content), (name, wanted)) in read.iter().zip(files()) {
                    assert!(*content == wanted, "{form:?} {name} cut at {cut}");
                }
            }
        }
        for at in (0..archive.len().min(20_000)).step_by(811) {
            let mut damaged = archive.clone();
            damaged[at] ^= 0x11;
            let _ = entries(&damaged);
        }
    }
}

/// An entry with PAX records and this content.
fn pax(records: &[(&str, &str)], content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions(records.iter().map(|(k, v)| (*k, v.as_bytes()))).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(content.len()).unwrap());
    builder.append_data(&mut header, "stored", content).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn maps_that_lie_are_refused() {
    let good = [("GNU.sparse.size", "10"), ("GNU.sparse.map", "2,3,7,1"), ("GNU.sparse.name", "real")];
    let (entry, content) = entries(&pax(&good, b"abcd")).unwrap().remove(0);
    assert_eq!((entry.path.as_slice(), content.as_slice()), (&b"real"[..], &b"\0\0abc\0\0d\0\0"[..]));
    let map = |size: &'static str, map: &'static str| {
        entries(&pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)], b"abcd"))
    };
    for (size, bad) in [
        ("10", "2,3"),
        ("10", "2,3,7"),
        ("10", "2,3,4,1"),
        ("10", "7,1,2,3"),
        ("7", "2,3,7,1"),
        ("10", "18446744073709551615,4"),
        ("10", "2,18446744073709551615"),
        ("10", "2,4,x,0"),
        ("-1", "0,4"),
    ] {
        assert!(map(size, bad).is_err(), "{size} {bad}");
    }
    let many = "0,0,".repeat(20_000);
    assert!(entries(&pax(&[("GNU.sparse.size", "10"), ("GNU.sparse.map", &many)], b"")).is_err());
    for records in [
        &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")][..],
        &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1")],
        &[("GNU.sparse.numbytes", "1")],
        &[("GNU.sparse.offset", "1"), ("GNU.sparse.offset", "1")],
        &[("GNU.sparse.name", "")],
    ] {
        assert!(entries(&pax(records, b"a")).is_err(), "{records:?}");
    }
    let inner = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1")];
    for content in ["99999999\n", "1\n0\n", "999999999999999999999999\n", "x\n", ""] {
        assert!(entries(&pax(&inner, content.as_bytes())).is_err(), "{content:?}");
    }
}

#[test]
fn a_claimed_terabyte_is_seen_by_its_claim() {
    let bomb = pax(&[("GNU.sparse.size", "1099511627776"), ("GNU.sparse.map", "0,1")], b"a");
    let mut reader = Reader::new(bomb.as_slice());
    // Whoever reads it decides by this, before any content.
    assert_eq!(reader.next_entry().unwrap().unwrap().size, 1 << 40);
}
