//! Archives of all kinds, cut and damaged.

use super::*;

fn entries(data: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let mut r = Reader::new(data);
    let mut out = Vec::new();
    while let Some(e) = r.next_entry()? {
        let mut content = Vec::new();
        loop {
            let piece = r.data()?;
            let n = piece.len();
            if n == 0 {
                break;
            }
            content.extend_from_slice(piece);
            r.consume(n);
        }
        out.push((e, content));
    }
    r.drain()?;
    Ok(out)
}

fn archive() -> Vec<u8> {
    let mut b = ::tar::Builder::new(Vec::new());
    let mut h = ::tar::Header::new_gnu();
    h.set_size(5);
    h.set_mode(0o104_755);
    h.set_uid(1000);
    h.set_gid(3_000_000_000);
    h.set_mtime(77);
    b.append_data(&mut h, "a".repeat(300), &b"hello"[..]).unwrap();
    let mut h = ::tar::Header::new_ustar();
    h.set_entry_type(::tar::EntryType::Symlink);
    h.set_size(0);
    b.append_link(&mut h, "link", "/etc/target").unwrap();
    b.append_pax_extensions([("SCHILY.xattr.user.k", &b"v"[..]), ("path", b"from/pax")]).unwrap();
    let mut h = ::tar::Header::new_ustar();
    h.set_size(0);
    b.append_data(&mut h, "short", &b""[..]).unwrap();
    b.into_inner().unwrap()
}

#[test]
fn reads_gnu_ustar_and_pax() {
    let all = entries(&archive()).unwrap();
    assert_eq!(all.len(), 3);
    let (e, content) = &all[0];
    assert_eq!(e.path, "a".repeat(300).as_bytes());
    assert_eq!(
        (e.mode, e.uid, e.gid, e.mtime.seconds, e.kind),
        (0o4755, 1000, 3_000_000_000, 77, Kind::File)
    );
    assert_eq!(content, b"hello");
    assert_eq!((&all[1].0.link[..], all[1].0.kind), (&b"/etc/target"[..], Kind::Symlink));
    assert_eq!(all[2].0.path, b"from/pax");
    assert_eq!(all[2].0.xattrs, [(b"user.k".to_vec(), b"v".to_vec())]);
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_archive() {
    let whole = archive();
    let (content_end, unpadded) = (whole.len() - 1024, unpadded());
    for cut in 0..content_end {
        if let Ok(all) = entries(&whole[..cut]) {
            let behind_content = cut == unpadded;
            assert!(all.len() < 3 && (cut % BLOCK == 0 || behind_content), "{cut}");
        }
    }
}

#[test]
fn the_last_files_padding_may_be_missing_as_a_whole() {
    let all = entries(&archive()[..unpadded()]).unwrap();
    assert_eq!((all.len(), all[0].1.as_slice()), (1, &b"hello"[..]));
    for cut in [unpadded() - 1, unpadded() + 1] {
        assert!(entries(&archive()[..cut]).is_err(), "{cut}");
    }
}

/// Where the content of the archive's first file ends.
fn unpadded() -> usize {
    archive().windows(5).position(|w| w == b"hello").unwrap() + 5
}

#[test]
fn huge_metadata_is_refused_before_it_is_read() {
    let mut h = ::tar::Header::new_gnu();
    h.set_entry_type(::tar::EntryType::GNULongName);
    h.set_size(10 << 30);
    h.set_cksum();
    let endless = io::Read::chain(&h.as_bytes()[..], io::repeat(b'a'));
    let mut r = Reader::new(io::BufReader::new(endless));
    assert!(matches!(r.next_entry(), Err(Error::Corrupt(_))));
}

#[test]
fn trailing_data_has_an_end() {
    let mut r = Reader::new(io::BufReader::new(io::repeat(0)));
    assert!(r.next_entry().unwrap().is_none());
    assert!(matches!(r.drain(), Err(Error::TooLarge(_))));
}

#[test]
fn unknown_types_are_refused() {
    for kind in [b'M', b'V', b'D', 200] {
        let mut h = ::tar::Header::new_gnu();
        h.set_entry_type(::tar::EntryType::new(kind));
        h.set_size(0);
        h.set_cksum();
        assert!(entries(h.as_bytes()).is_err(), "{kind}");
    }
}

proptest::proptest! {
    #[test]
    fn damage_never_panics(at in 0_usize..3000, byte in proptest::prelude::any::<u8>()) {
        let mut data = archive();
        let at = at % data.len();
        data[at] = byte;
        let _ = entries(&data);
    }
}
