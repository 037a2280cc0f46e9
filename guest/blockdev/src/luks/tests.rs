use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::format::{New, new};
use super::*;

const MIB: u64 = 1 << 20;
const DISK: u64 = 48 * MIB;

fn owners() -> Zeroizing<Vec<u8>> {
    Zeroizing::new((0..48).collect())
}

/// A disk with a new volume's header on it.
fn made(protection: Protection) -> (tempfile::NamedTempFile, New) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(DISK).unwrap();
    let new = new(&owners(), protection, DISK).unwrap();
    for (bytes, at) in [(&new.first[..], 0), (&new.second, new.second_at), (&new.slot, 32 << 10)] {
        file.as_file().write_all_at(bytes, at).unwrap();
    }
    (file, new)
}

fn start(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(header::MOST);
    bytes
}

fn header_of(bytes: &[u8]) -> Box<Header> {
    match find(bytes, DISK).unwrap_or_else(|Problem::Foreign(e)| panic!("{e}")) {
        Found::Header(header) => header,
        Found::Nothing => panic!("nothing"),
    }
}

fn refused(bytes: &[u8]) -> String {
    match find(bytes, DISK) {
        Err(Problem::Foreign(why)) => why,
        Ok(found) => panic!("{found:?}"),
    }
}

/// Runs cryptsetup, with this as its key.
fn cryptsetup(args: &[&str], path: &Path, key: &[u8]) -> Option<(bool, Vec<u8>, String)> {
    let mut child = Command::new("cryptsetup")
        .args(args)
        .args(["--key-file", "-"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .inspect_err(|_| println!("skipped: cryptsetup is not installed"))
        .ok()?;
    child.stdin.take().unwrap().write_all(key).unwrap();
    let out = child.wait_with_output().unwrap();
    Some((out.status.success(), out.stdout, String::from_utf8_lossy(&out.stderr).into_owned()))
}

#[test]
fn cryptsetup_reads_what_is_written_here() {
    for protection in [Protection::Secret, Protection::Authentic] {
        let (file, new) = made(protection);
        let Some((_, dump, said)) = cryptsetup(&["luksDump"], file.path(), b"") else { return };
        let dump = String::from_utf8_lossy(&dump).into_owned();
        assert!(dump.contains("Version:       \t2") && dump.contains("aes-xts"), "{dump}{said}");
        assert_eq!(dump.contains("hmac(sha256)"), protection == Protection::Authentic, "{dump}");
        let open = ["open", "--test-passphrase"];
        let (opened, _, said) = cryptsetup(&open, file.path(), &owners()).unwrap();
        assert!(opened, "{said}");
        assert!(!cryptsetup(&open, file.path(), b"another key").unwrap().0);
        let key = file.path().with_extension("key");
        let dump = ["luksDump", "-q", "--dump-volume-key", "--volume-key-file", key.to_str().unwrap()];
        let (dumped, _, said) = cryptsetup(&dump, file.path(), &owners()).unwrap();
        assert!(dumped, "{said}");
        assert_eq!(fs::read(&key).unwrap(), *new.key);
        fs::remove_file(key).unwrap();
    }
}

#[test]
fn what_cryptsetup_writes_is_read_here() {
    let format = |more: &[&str]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(DISK).unwrap();
        let usual = ["luksFormat", "-q", "--type", "luks2", "--pbkdf-force-iterations", "1000"];
        let (ok, _, said) = cryptsetup(&[&usual, more].concat(), file.path(), &owners())?;
        if said.contains("device-mapper") {
            println!("skipped: without the kernel's device-mapper cryptsetup has no {more:?}");
            return None;
        }
        assert!(ok, "{said}");
        Some(file)
    };
    let xts = ["--cipher", "aes-xts-plain64", "--key-size", "512", "--pbkdf", "pbkdf2"];
    let Some(file) = format(&xts) else { return };
    let header = header_of(&start(file.path()));
    assert_eq!((header.metadata.protection, header.metadata.offset), (Protection::Secret, 16 * MIB));
    let key = volume_key(file.as_file(), &header.metadata, &owners()).unwrap().expect("the key opens it");
    assert_eq!(key.len(), 64);
    assert!(volume_key(file.as_file(), &header.metadata, b"another key").unwrap().is_none());
    let dumped = file.path().with_extension("key");
    let dump = ["luksDump", "-q", "--dump-volume-key", "--volume-key-file", dumped.to_str().unwrap()];
    assert!(cryptsetup(&dump, file.path(), &owners()).unwrap().0);
    assert_eq!(fs::read(&dumped).unwrap(), *key);
    fs::remove_file(dumped).unwrap();

    let others: [(&[&str], &str); 4] = [
        (&["--cipher", "cipher_null-ecb", "--key-size", "256", "--pbkdf", "pbkdf2"], "another cipher"),
        (&["--cipher", "aes-cbc-essiv:sha256", "--key-size", "256", "--pbkdf", "pbkdf2"], "another cipher"),
        (&["--cipher", "aes-xts-plain64", "--key-size", "256", "--pbkdf", "pbkdf2"], "key size"),
        (
            &[
                "--cipher",
                "aes-xts-plain64",
                "--key-size",
                "512",
                "--pbkdf",
                "argon2id",
                "--pbkdf-memory",
                "32",
                "--pbkdf-force-iterations",
                "4",
            ],
            "another function",
        ),
    ];
    for (more, why) in others {
        let Some(file) = format(more) else { continue };
        let said = refused(&start(file.path()));
        assert!(said.contains(why), "{more:?}: {said}");
    }
    let luks1 = tempfile::NamedTempFile::new().unwrap();
    luks1.as_file().set_len(DISK).unwrap();
    let (ok, ..) = cryptsetup(
        &["luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000"],
        luks1.path(),
        &owners(),
    )
    .unwrap();
    assert!(ok && refused(&start(luks1.path())).contains("another kind than LUKS2"));
}

#[test]
fn a_copy_that_is_damaged_or_old_gives_way_to_the_other() {
    let (file, new) = made(Protection::Secret);
    let good = start(file.path());
    assert_eq!(header_of(&good).repair, header::Repair::None);
    for (damaged, repair) in [(5000, header::Repair::First), (16_384 + 5000, header::Repair::Second)] {
        let mut bytes = good.clone();
        bytes[damaged] ^= 1;
        let header = header_of(&bytes);
        assert_eq!(header.repair, repair);
        let (at, copy) = header.repaired().unwrap();
        let at = usize::try_from(at).unwrap();
        bytes[at..at + copy.len()].copy_from_slice(&copy);
        assert_eq!(header_of(&bytes).repair, header::Repair::None);
        assert_eq!(header_of(&bytes).metadata, new.metadata);
        // Cut off in the middle of a write.
        let mut torn = good.clone();
        torn[at + 512..at + 16_384].fill(0);
        assert_eq!(header_of(&torn).repair, repair);
    }
    let mut both = good.clone();
    both[5000] ^= 1;
    both[16_384 + 5000] ^= 1;
    assert!(refused(&both).contains("damaged"));
    // An older one in front: the newer counts.
    let newer = at_sequence(&good[16_384..32_768], 2);
    let mut bytes = good.clone();
    bytes[16_384..32_768].copy_from_slice(&newer);
    assert_eq!(header_of(&bytes).repair, header::Repair::First);
}

fn at_sequence(copy: &[u8], sequence: u64) -> Vec<u8> {
    let mut copy = copy.to_vec();
    copy[16..24].copy_from_slice(&sequence.to_be_bytes());
    resum(&mut copy);
    copy
}

fn resum(copy: &mut [u8]) {
    copy[448..512].fill(0);
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, copy);
    copy[448..480].copy_from_slice(sum.as_ref());
}

/// A header whose JSON was changed by one who can compute checksums, as the host can.
fn changed(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let (file, _) = made(Protection::Secret);
    let mut bytes = start(file.path());
    let json = bytes[4096..16_384].split(|b| *b == 0).next().unwrap().to_vec();
    let mut value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    change(&mut value);
    for at in [0, 16_384] {
        let copy = &mut bytes[at..at + 16_384];
        copy[4096..].fill(0);
        let text = value.to_string();
        copy[4096..4096 + text.len()].copy_from_slice(text.as_bytes());
        resum(copy);
    }
    bytes
}

#[test]
fn a_header_of_the_hosts_making_is_refused() {
    use serde_json::json;
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 20] = [
        ("cipher", |v| v["segments"]["0"]["encryption"] = json!("cipher_null-ecb")),
        ("cipher", |v| v["segments"]["0"]["encryption"] = json!("aes-xts-random")),
        ("another kind", |v| v["segments"]["0"]["type"] = json!("linear")),
        ("another kind", |v| v["segments"]["0"]["sector_size"] = json!(1024)),
        ("another kind", |v| v["segments"]["0"]["iv_tweak"] = json!("8")),
        ("another kind", |v| v["segments"]["0"]["flags"] = json!(["backup-final"])),
        ("within the disk", |v| v["segments"]["0"]["offset"] = json!("18446744073709547520")),
        ("within the disk", |v| v["segments"]["0"]["offset"] = json!("16777217")),
        ("within the disk", |v| v["segments"]["0"]["size"] = json!("18446744073709547520")),
        ("one segment", |v| v["segments"]["1"] = v["segments"]["0"].clone()),
        ("one segment", |v| v["segments"] = json!({})),
        ("key slot is", |v| v["keyslots"]["0"]["area"]["encryption"] = json!("cipher_null-ecb")),
        ("key slot is", |v| v["keyslots"]["0"]["key_size"] = json!(1)),
        ("key slot is", |v| v["keyslots"]["0"]["af"]["stripes"] = json!(1)),
        ("outside", |v| v["keyslots"]["0"]["area"]["offset"] = json!("4096")),
        ("outside", |v| v["keyslots"]["0"]["area"]["size"] = json!("16777216")),
        ("function", |v| v["keyslots"]["0"]["kdf"]["iterations"] = json!(4_000_000_000_u32)),
        ("function", |v| v["digests"]["0"]["iterations"] = json!(1)),
        ("32 bytes", |v| v["digests"]["0"]["digest"] = json!("")),
        ("requirements", |v| v["config"]["requirements"] = json!({"mandatory": ["online-reencrypt"]})),
    ];
    for (why, change) in changes {
        let said = refused(&changed(change));
        assert!(said.contains(why), "{why}: {said}");
    }
    assert_eq!(header_of(&changed(|_| ())).repair, header::Repair::None, "the test's own doing is none");
}

#[test]
fn sizes_are_bounded_before_they_are_used() {
    let (file, _) = made(Protection::Secret);
    let good = start(file.path());
    for size in [0, 4096, 8192, 16_385, 4 << 20, u64::MAX] {
        let mut bytes = good[..16_384].to_vec();
        bytes[8..16].copy_from_slice(&size.to_be_bytes());
        assert!(refused(&bytes).contains("damaged"), "{size}");
    }
    for length in [0, 5, 6, 100, 4095, 4096, 16_383] {
        let cut = find(&good[..length], DISK);
        assert!(!matches!(cut, Ok(Found::Header(_))), "{length}");
    }
    assert!(matches!(find(&[0; 65_536], DISK), Ok(Found::Nothing)));
}

#[test]
fn only_an_empty_disk_is_empty() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(DISK).unwrap();
    assert!(is_empty(file.as_file(), DISK).unwrap());
    for at in [0, 1080, 65_600, 16 * MIB, 17 * MIB - 1, DISK - MIB, DISK - 1] {
        file.as_file().write_all_at(b"x", at).unwrap();
        assert!(!is_empty(file.as_file(), DISK).unwrap(), "{at}");
        file.as_file().write_all_at(&[0], at).unwrap();
    }
}

#[test]
fn what_cannot_be_opened_is_left_as_it_is() {
    let disk = |path: &Path| Disk {
        path: path.to_owned(),
        number: "0:0".into(),
        bytes: fs::metadata(path).unwrap().len(),
        read_only: false,
    };
    let open = |path: &Path, key: &[u8], protection| {
        open_encrypted("x", &disk(path), &Zeroizing::new(key.to_vec()), protection).unwrap_err()
    };
    let (file, _) = made(Protection::Secret);
    let before = fs::read(file.path()).unwrap();
    let wrong = open(file.path(), &[7; 32], Protection::Secret);
    assert!(matches!(wrong, Error::WrongKey(_)) && wrong.code() == cocoon_stage::Code::VolumeKeyWrong);
    let lesser = open(file.path(), &owners(), Protection::Authentic);
    assert!(matches!(&lesser, Error::Foreign { why, .. } if why.contains("no integrity")), "{lesser}");
    assert_eq!(fs::read(file.path()).unwrap(), before);

    let other = tempfile::NamedTempFile::new().unwrap();
    other.as_file().set_len(DISK).unwrap();
    crate::make_ext4(other.path(), DISK).unwrap();
    let before = fs::read(other.path()).unwrap();
    let foreign = open(other.path(), &owners(), Protection::Secret);
    assert_eq!(foreign.code(), cocoon_stage::Code::VolumeForeign, "{foreign}");
    assert_eq!(fs::read(other.path()).unwrap(), before);

    let empty = tempfile::NamedTempFile::new().unwrap();
    empty.as_file().set_len(DISK).unwrap();
    let short = open(empty.path(), b"hunter2", Protection::Secret);
    assert!(short.to_string().contains("could be guessed"), "{short}");
    assert!(is_empty(empty.as_file(), DISK).unwrap());
}
