//! Tests of initdata: the format, both packings, and what a hostile host may pass.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const TEXT: &str = "version = \"0.1.0\"\nalgorithm = \"sha-384\"\n\n[data]\n\"aa.toml\" = '''\n[x]\ny = 1\n'''\n\"cdh.toml\" = \"\"\n";

fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

fn raw_gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw_disk(length: u64, payload: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), &length.to_le_bytes(), payload].concat()
}

fn vectors() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    std::env::var_os("COCOON_VECTORS").map_or(default, PathBuf::from)
}

#[test]
fn parses_and_keeps_the_text() {
    let initdata = InitData::parse(TEXT).unwrap();
    assert_eq!(initdata.text(), TEXT);
    assert_eq!(initdata.algorithm(), HashAlgorithm::Sha384);
    assert_eq!(initdata.digest(), HashAlgorithm::Sha384.digest(TEXT.as_bytes()));
    assert_eq!(initdata.file("aa.toml"), Some("[x]\ny = 1\n"));
    assert_eq!(initdata.file("cdh.toml"), Some(""));
    assert_eq!(initdata.file("policy.rego"), None);
    // The digest covers the bytes, not the meaning.
    let respelled = InitData::parse(&TEXT.replace("sha-384", "sha384")).unwrap();
    assert_ne!(respelled.digest(), initdata.digest());
}

#[test]
fn other_documents_are_refused() {
    let head = "version = \"0.1.0\"\nalgorithm = \"sha256\"\n";
    let deep = format!("{head}[data]\na = {}1{}", "[".repeat(20_000), "]".repeat(20_000));
    for bad in [
        "",
        "some content",
        "{}",
        head,
        "version = \"0.1.0\"\n[data]\n",
        "algorithm = \"sha256\"\n[data]\n",
        "version = \"0.2.0\"\nalgorithm = \"sha256\"\n[data]\n",
        "version = 1\nalgorithm = \"sha256\"\n[data]\n",
        "version = \"0.1.0\"\nalgorithm = \"sm3\"\n[data]\n",
        "version = \"0.1.0\"\nalgorithm = \"\"\n[data]\n",
        &format!("{head}extra = 1\n[data]\n"),
        &format!("{head}[data]\n[more]\n"),
        &format!("{head}data = \"x\"\n"),
        &format!("{head}[data]\na = 1\n"),
        &format!("{head}[data]\na.b = \"x\"\n"),
        &format!("{head}[data]\na = \"x\"\na = \"y\"\n"),
        &format!("{head}[data]\n[data]\n"),
        &deep,
    ] {
        let error = InitData::parse(bad).unwrap_err();
        assert!(matches!(error, Error::InitData(_)), "{bad:.60}: {error}");
    }
}

#[test]
fn the_size_limit_is_exact() {
    let with = |n: usize| format!("{TEXT}#{}", "x".repeat(n - TEXT.len() - 1));
    assert!(InitData::parse(&with(MAX_TEXT)).is_ok());
    assert!(InitData::parse(&with(MAX_TEXT + 1)).is_err());
    let full = InitData::parse(&with(MAX_TEXT)).unwrap();
    assert_eq!(InitData::from_disk(&*full.to_disk().unwrap()).unwrap(), full);
    let large = InitData::new(HashAlgorithm::Sha256, files(&[("a", &"x".repeat(MAX_TEXT))]));
    assert!(large.to_disk().is_err());
    assert!(large.to_annotation().is_err());
}

#[test]
fn writing_is_stable() {
    let data = files(&[("b\"", "it's\n"), ("aa.toml", "[x]\n"), ("cr", "a\r\nb"), ("quote", "x'")]);
    let initdata = InitData::new(HashAlgorithm::Sha256, data.clone());
    assert_eq!(
        initdata.text(),
        "version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n\"aa.toml\" = '''\n[x]\n'''\n\
         \"b\\\"\" = '''\nit's\n'''\n\"cr\" = \"a\\r\\nb\"\n\"quote\" = \"x'\"\n"
    );
    assert_eq!(InitData::parse(initdata.text()).unwrap(), initdata);
    assert_eq!(InitData::new(HashAlgorithm::Sha256, data).digest(), initdata.digest());
    let empty = InitData::new(HashAlgorithm::Sha512, BTreeMap::new());
    assert_eq!(InitData::parse(empty.text()).unwrap(), empty);
}

#[test]
fn packings_round_trip() {
    let initdata = InitData::parse(TEXT).unwrap();
    let annotation = initdata.to_annotation().unwrap();
    assert_eq!(annotation, initdata.to_annotation().unwrap());
    assert_eq!(InitData::from_annotation(&annotation).unwrap(), initdata);
    let disk = initdata.to_disk().unwrap();
    assert_eq!(disk.len() % SECTOR, 0);
    assert_eq!(&disk[..8], MAGIC);
    assert_eq!(InitData::from_disk(&*disk).unwrap(), initdata);
    // A device may be larger than the image.
    assert_eq!(InitData::from_disk([disk.as_slice(), &[0xff; 4096]].concat().as_slice()).unwrap(), initdata);
    // The gzip header's time (bytes 4..8) is zero.
    assert_eq!(&disk[16 + 4..16 + 8], &[0; 4]);
}

#[test]
fn hostile_disks_are_refused() {
    let gzip = raw_gzip(TEXT.as_bytes());
    let length = gzip.len() as u64;
    let mut flipped = gzip.clone();
    let crc = flipped.len() - 8;
    flipped[crc] ^= 1;
    let trailed = [gzip.as_slice(), b"x"].concat();
    let bomb = raw_gzip(&vec![b'#'; 64 * MAX_TEXT]);
    assert!(bomb.len() < MAX_COMPRESSED);
    let not_text = raw_gzip(&[0xff, 0xfe]);
    for (what, disk) in [
        ("empty", Vec::new()),
        ("header cut", raw_disk(length, &[])[..12].to_vec()),
        ("payload cut", raw_disk(length, &gzip[..gzip.len() - 1])),
        ("other magic", [b"Initdata".as_slice(), &length.to_le_bytes(), &gzip].concat()),
        ("zeros", vec![0; 4096]),
        ("no length", raw_disk(0, &gzip)),
        ("huge length", raw_disk(u64::MAX, &gzip)),
        ("length above the limit", raw_disk(MAX_COMPRESSED as u64 + 1, &vec![0; MAX_COMPRESSED + 1])),
        ("length below", raw_disk(length - 1, &gzip)),
        ("checksum", raw_disk(length, &flipped)),
        ("trailing bytes", raw_disk(length + 1, &trailed)),
        ("bomb", raw_disk(bomb.len() as u64, &bomb)),
        ("not UTF-8", raw_disk(not_text.len() as u64, &not_text)),
        ("not gzip", raw_disk(TEXT.len() as u64, TEXT.as_bytes())),
    ] {
        let result = InitData::from_disk(disk.as_slice());
        assert!(matches!(result, Err(Error::InitData(_))), "{what}");
    }
    assert!(InitData::from_disk(raw_disk(length, &gzip).as_slice()).is_ok());
}

#[test]
fn hostile_annotations_are_refused() {
    let good = InitData::parse(TEXT).unwrap().to_annotation().unwrap();
    let bomb = b64::std_encode(&raw_gzip(&vec![b'#'; 64 * MAX_TEXT]));
    for bad in ["", "!", &good[1..], &format!("{good}\n"), TEXT, &bomb, &"A".repeat(2 * MAX_COMPRESSED)] {
        assert!(matches!(InitData::from_annotation(bad), Err(Error::InitData(_))), "{bad:.40}");
    }
}

#[test]
fn host_data_is_cut_or_padded() {
    let counting: Vec<u8> = (1..=64).collect();
    assert_eq!(host_data(&counting), counting[..32]);
    assert_eq!(host_data(&counting[..32]), counting[..32]);
    assert_eq!(host_data(&[7, 8])[..4], [7, 8, 0, 0]);
    assert_eq!(host_data(&[]), [0; 32]);
}

#[test]
fn reads_a_disk_made_by_kata() {
    let path = vectors().join("initdata/kata-initdata.img");
    let Ok(image) = std::fs::read(&path) else {
        println!("skipped: no vector kata-initdata.img");
        return;
    };
    assert_eq!(read_disk(image.as_slice()).unwrap(), "some content");
    // It is a disk, but no initdata document.
    assert!(matches!(InitData::from_disk(image.as_slice()), Err(Error::InitData(_))));
}

proptest! {
    #[test]
    fn what_is_written_reads_back(data: BTreeMap<String, String>, tricky in "['\"\\\\\r\n\t\u{0}\u{7f}x]{0,16}") {
        let mut data = data;
        data.insert("tricky".into(), tricky.clone());
        data.insert(tricky, "x".into());
        let initdata = InitData::new(HashAlgorithm::Sha384, data);
        prop_assert_eq!(&InitData::parse(initdata.text()).unwrap(), &initdata);
        prop_assert_eq!(&InitData::from_annotation(&initdata.to_annotation().unwrap()).unwrap(), &initdata);
        prop_assert_eq!(&InitData::from_disk(&*initdata.to_disk().unwrap()).unwrap(), &initdata);
    }

    #[test]
    fn never_panics(text: String, bytes: Vec<u8>) {
        let _ = InitData::parse(&text);
        let _ = InitData::from_annotation(&text);
        let _ = InitData::from_annotation(&b64::std_encode(&bytes));
        let _ = InitData::from_disk(bytes.as_slice());
        let _ = InitData::from_disk(raw_disk(bytes.len() as u64, &bytes).as_slice());
        let _ = InitData::from_disk(raw_disk(raw_gzip(&bytes).len() as u64, &raw_gzip(&bytes)).as_slice());
    }
}
