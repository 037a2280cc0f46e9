//! Simple signing against GnuPG: keys of each kind, subkeys, expiry, revocation, and messages that were tampered with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use cocoon_image::Digest;
use cocoon_signature::simple::{Keyring, verify};

/// 2026-01-01, when keys are made.
const MADE: u64 = 1_767_225_600;
const DAY: u64 = 86_400;

/// A GnuPG home of its own, whose agent ends with it.
struct Gpg(tempfile::TempDir);

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).status();
    }
}

impl Gpg {
    fn new() -> Option<Gpg> {
        if Command::new("gpg").arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: no gpg");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Some(Gpg(home))
    }

    /// Output of a command at a time, its input given.
    fn run(&self, time: u64, args: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("gpg")
            .args([
                "--batch",
                "--yes",
                "--quiet",
                "--no-tty",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
            ])
            .args(["--trust-model", "always", "--allow-weak-key-signatures"])
            .arg("--homedir")
            .arg(self.0.path())
            .arg(format!("--faked-system-time={time}"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let out = child.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    /// A key's fingerprint.
    fn key(&self, name: &str, algorithm: &str, usage: &str, expires: &str) -> String {
        self.run(MADE, &["--quick-generate-key", name, algorithm, usage, expires], b"");
        let listed = self.run(MADE, &["--with-colons", "--list-keys", name], b"");
        let listed = String::from_utf8(listed).unwrap();
        let line = listed.lines().find(|l| l.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    fn export(&self, names: &[&str]) -> Keyring {
        let mut args = vec!["--export"];
        args.extend(names);
        Keyring::parse(&self.run(MADE, &args, b"")).unwrap()
    }

    fn sign(&self, name: &str, payload: &[u8], more: &[&str]) -> Vec<u8> {
        let mut args = vec!["-u", name];
        args.extend(more);
        args.push("--sign");
        self.run(MADE + DAY, &args, payload)
    }
}

fn payload() -> Vec<u8> {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"a.example/b:1"}},"image":{{"docker-manifest-digest":"{}"}},"type":"atomic container signature"}},"optional":{{}}}}"#,
        Digest::sha256(b"manifest")
    )
    .into_bytes()
}

fn refusal(keyring: &Keyring, message: &[u8], now: u64) -> String {
    verify(keyring, message, now).unwrap_err().to_string()
}

#[test]
fn keys_of_each_kind_verify() {
    let Some(gpg) = Gpg::new() else { return };
    for algorithm in ["rsa2048", "rsa3072", "ed25519", "nistp256", "nistp384", "nistp521"] {
        let fingerprint = gpg.key(algorithm, algorithm, "sign", "never");
        let keyring = gpg.export(&[algorithm]);
        for more in [
            &[][..],
            &["--compress-algo", "none"],
            &["--compress-algo", "zlib"],
            &["--digest-algo", if algorithm == "nistp521" { "SHA512" } else { "SHA384" }],
            &["--armor"],
        ] {
            let message = gpg.sign(algorithm, &payload(), more);
            let claim = verify(&keyring, &message, MADE + 2 * DAY)
                .unwrap_or_else(|e| panic!("{algorithm} {more:?}: {e}"));
            assert_eq!(claim.reference, "a.example/b:1");
            assert_eq!(claim.digest, Digest::sha256(b"manifest"));
            assert_eq!(claim.signer, fingerprint);
        }
    }
    // One keyring, binary or armored, may hold several keys.
    let all = gpg.run(MADE, &["--armor", "--export"], b"");
    let keyring = Keyring::parse(&all).unwrap();
    assert_eq!(keyring.fingerprints().len(), 6);
    let message = gpg.sign("nistp384", &payload(), &[]);
    verify(&keyring, &message, MADE + 2 * DAY).unwrap();
    let e = refusal(&gpg.export(&["ed25519"]), &message, MADE + 2 * DAY);
    assert!(e.contains("no key of the keyring"), "{e}");
}

#[test]
fn weak_algorithms_are_refused_by_name() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("strong", "rsa2048", "sign", "never");
    let keyring = gpg.export(&["strong"]);
    let message = gpg.sign("strong", &payload(), &["--digest-algo", "SHA1"]);
    assert!(refusal(&keyring, &message, MADE + 2 * DAY).contains("SHA-1"));
    let message = gpg.sign("strong", &payload(), &["--compress-algo", "bzip2"]);
    assert!(refusal(&keyring, &message, MADE + 2 * DAY).contains("bzip2"));
    let message = gpg.sign("strong", &payload(), &["--textmode"]);
    assert!(verify(&keyring, &message, MADE + 2 * DAY).is_err());

    gpg.key("weak", "rsa1024", "sign", "never");
    let e = Keyring::parse(&gpg.run(MADE, &["--export", "weak"], b"")).unwrap_err().to_string();
    assert!(e.contains("RSA of 2048"), "{e}");
    let old = ["--cert-digest-algo", "SHA1", "--quick-generate-key", "old", "ed25519", "sign", "never"];
    gpg.run(MADE, &old, b"");
    let message = gpg.sign("old", &payload(), &[]);
    let e = refusal(&gpg.export(&["old"]), &message, MADE + 2 * DAY);
    assert!(e.contains("no self-signature") && e.contains("SHA-1"), "{e}");
}

#[test]
fn subkeys_sign_where_both_keys_say_so() {
    let Some(gpg) = Gpg::new() else { return };
    let primary = gpg.key("owner", "ed25519", "cert", "never");
    let alone = gpg.export(&["owner"]);
    gpg.run(MADE, &["--quick-add-key", &primary, "ed25519", "sign", "seconds=864000"], b"");
    gpg.run(MADE, &["--quick-add-key", &primary, "cv25519", "encr", "never"], b"");
    let bytes = gpg.run(MADE, &["--export", "owner"], b"");
    let keyring = Keyring::parse(&bytes).unwrap();
    let message = gpg.sign("owner", &payload(), &[]);
    assert_eq!(verify(&keyring, &message, MADE + 2 * DAY).unwrap().signer, primary);
    assert!(refusal(&alone, &message, MADE + 2 * DAY).contains("no key of the keyring"));
    assert!(refusal(&keyring, &message, MADE + 11 * DAY).contains("subkey that has expired"));

    // No altered byte of the keyring makes another key the signer, and none makes it panic.
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x40;
        if let Ok(keyring) = Keyring::parse(&altered)
            && let Ok(claim) = verify(&keyring, &message, MADE + 2 * DAY)
        {
            assert_eq!(claim.signer, primary, "byte {at}");
        }
    }
    // Without the back signature, which is in the unhashed part, the subkey is a stranger's.
    let found: Vec<usize> = (0..bytes.len() - 3).filter(|i| bytes[*i..*i + 3] == [4, 0x19, 22]).collect();
    assert_eq!(found.len(), 1, "one back signature");
    let mut altered = bytes.clone();
    altered[found[0] + 1] = 0x18;
    let e = refusal(&Keyring::parse(&altered).unwrap(), &message, MADE + 2 * DAY);
    assert!(e.contains("not for signing"), "{e}");
}

#[test]
fn what_is_over_or_revoked_is_refused() {
    let Some(gpg) = Gpg::new() else { return };
    let short = gpg.key("short", "ed25519", "cert,sign", "seconds=864000");
    let message = gpg.sign("short", &payload(), &[]);
    let keyring = gpg.export(&["short"]);
    verify(&keyring, &message, MADE + 9 * DAY).unwrap();
    assert!(refusal(&keyring, &message, MADE + 11 * DAY).contains("has expired"));
    // Not before it was made, a skewed clock aside.
    verify(&keyring, &message, MADE + DAY - 200).unwrap();
    assert!(refusal(&keyring, &message, MADE + DAY - 400).contains("future"));
    // A longer life is the newer word.
    gpg.run(MADE + DAY, &["--quick-set-expire", &short, "seconds=8640000"], b"");
    verify(&gpg.export(&["short"]), &message, MADE + 11 * DAY).unwrap();

    let brief = gpg.sign("short", &payload(), &["--default-sig-expire", "seconds=86400"]);
    let keyring = gpg.export(&["short"]);
    verify(&keyring, &brief, MADE + DAY + 1000).unwrap();
    assert!(refusal(&keyring, &brief, MADE + 3 * DAY).contains("signature has expired"));

    let certificate = gpg.0.path().join(format!("openpgp-revocs.d/{short}.rev"));
    let certificate = std::fs::read_to_string(certificate).unwrap().replace(":-----BEGIN", "-----BEGIN");
    gpg.run(MADE + DAY, &["--import"], certificate.as_bytes());
    let e = refusal(&gpg.export(&["short"]), &message, MADE + 2 * DAY);
    assert!(e.contains("is revoked"), "{e}");
}

#[test]
fn a_message_is_whole_and_alone() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("aa", "ed25519", "sign", "never");
    gpg.key("bb", "ed25519", "sign", "never");
    let keyring = gpg.export(&[]);
    for more in [&["--compress-algo", "none"][..], &[]] {
        let message = gpg.sign("aa", &payload(), more);
        verify(&keyring, &message, MADE + 2 * DAY).unwrap();
        for length in 0..message.len() {
            assert!(verify(&keyring, &message[..length], MADE + 2 * DAY).is_err(), "cut to {length}");
        }
        let mut longer = message.clone();
        longer.push(0);
        assert!(verify(&keyring, &longer, MADE + 2 * DAY).is_err());
        let twice = [&message[..], &message].concat();
        assert!(verify(&keyring, &twice, MADE + 2 * DAY).is_err());
        let mut survivors = Vec::new();
        for at in 0..message.len() {
            for bit in 0..8 {
                let mut altered = message.clone();
                altered[at] ^= 1 << bit;
                if let Ok(claim) = verify(&keyring, &altered, MADE + 2 * DAY) {
                    assert_eq!(claim.digest, Digest::sha256(b"manifest"), "byte {at}");
                    survivors.push(at);
                }
            }
        }
        // Not signed are the key id in the header, file name and date of the data, and padding of compressed data.
        assert!(survivors.len() < 200, "{survivors:?}");
    }
    // Two signatures, a detached one, a clear text, data alone.
    for args in [
        &["-u", "aa", "-u", "bb", "--sign"][..],
        &["-u", "aa", "--detach-sign"],
        &["-u", "aa", "--clearsign"],
        &["--store"],
    ] {
        let message = gpg.run(MADE + DAY, args, &payload());
        assert!(verify(&keyring, &message, MADE + 2 * DAY).is_err(), "{args:?}");
    }
    let bomb = gpg.sign("aa", &vec![b' '; 10 << 20], &["--compress-algo", "zlib"]);
    assert!(bomb.len() < 64 * 1024);
    assert!(refusal(&keyring, &bomb, MADE + 2 * DAY).contains("when unpacked"));
    let other = gpg.sign("aa", br#"{"critical":{}}"#, &[]);
    assert!(refusal(&keyring, &other, MADE + 2 * DAY).contains("payload is malformed"));
    let secret = gpg.run(MADE, &["--export-secret-keys", "aa"], b"");
    assert!(Keyring::parse(&secret).unwrap_err().to_string().contains("secret key"));
    assert!(Keyring::parse(b"").is_err() && Keyring::parse(b"nonsense").is_err());
}

#[test]
fn a_revocation_counts_in_any_copy() {
    let Some(gpg) = Gpg::new() else { return };
    let owner = gpg.key("owner", "ed25519", "cert,sign", "never");
    gpg.key("other", "ed25519", "sign", "never");
    let export = |name: &str| gpg.run(MADE, &["--export", name], b"");
    let (good, other) = (export("owner"), export("other"));
    let message = gpg.sign("owner", &payload(), &[]);
    let by_other = gpg.sign("other", &payload(), &[]);
    let text = gpg.0.path().join(format!("openpgp-revocs.d/{owner}.rev"));
    let text = std::fs::read_to_string(text).unwrap().replace(":-----BEGIN", "-----BEGIN");
    let armored = &text[text.find("-----BEGIN").unwrap()..];
    gpg.run(MADE + DAY, &["--import"], text.as_bytes());
    let revoked = export("owner");
    // What was added to the key: the revocation packet, right after the key's own.
    let added = revoked.len() - good.len();
    let at = good.iter().zip(&revoked).take_while(|(a, b)| a == b).count();
    let packet = (0..=at).rev().map(|at| &revoked[at..at + added]).find(|p| p[0] == 0x88 && p[3] == 0x20);
    let packet = packet.expect("a revocation").to_vec();

    let now = MADE + 2 * DAY;
    let all = |files: &[&[u8]]| Keyring::parse_all(files);
    verify(&all(&[&good, &other]).unwrap(), &message, now).unwrap();
    for files in [
        &[&good[..], &revoked][..],
        &[&revoked, &good],
        &[&[&good[..], &revoked].concat()],
        &[&[&revoked[..], &good].concat()],
        // The revocation alone: after its key, after another, before it, in a file of its own.
        &[&[&good[..], &packet].concat()],
        &[&[&good[..], &other, &packet].concat()],
        &[&[&packet[..], &good, &other].concat()],
        &[&good, &other, &packet],
        &[&packet, &good, &other],
        &[armored.as_bytes(), &good, &other],
    ] {
        let keyring = all(files).unwrap();
        assert!(refusal(&keyring, &message, now).contains("is revoked"));
        // And no other key's.
        if keyring.fingerprints().len() == 2 {
            verify(&keyring, &by_other, now).unwrap();
        }
    }
    for orphan in [&[&[&other[..], &packet].concat()[..]][..], &[&other, &packet], &[&packet, &other]] {
        let e = all(orphan).unwrap_err().to_string();
        assert!(e.contains("is not there"), "{e}");
    }
    assert!(all(&[&packet]).is_err() && all(&[]).is_err());
    // Without its maker's name it is nobody's; where it follows a key it is that key's.
    let mut nameless = packet.clone();
    for i in 1..nameless.len() - 1 {
        // Subpackets "issuer fingerprint" and "issuer" become others of no meaning.
        if (nameless[i], nameless[i + 1]) == (33, 4) || (nameless[i - 1], nameless[i]) == (9, 16) {
            nameless[i] = 100;
        }
    }
    assert!(all(&[&[&good[..], &nameless].concat()]).unwrap_err().to_string().contains("names no key"));
    let key_length = 2 + usize::from(good[1]);
    let direct = [&good[..key_length], &nameless, &good[key_length..]].concat();
    assert!(refusal(&all(&[&direct]).unwrap(), &message, now).contains("is revoked"));
}

#[test]
fn a_revoked_subkey_counts_in_any_copy() {
    let Some(gpg) = Gpg::new() else { return };
    let owner = gpg.key("owner", "ed25519", "cert", "never");
    gpg.run(MADE, &["--quick-add-key", &owner, "ed25519", "sign", "never"], b"");
    let message = gpg.sign("owner", &payload(), &[]);
    let export = || gpg.run(MADE, &["--export", &owner], b"");
    let good = export();
    let now = MADE + 3 * DAY;
    verify(&Keyring::parse(&good).unwrap(), &message, now).unwrap();
    let args = ["--command-fd", "0", "--no-batch", "--expert", "--edit-key", &owner];
    gpg.run(MADE + DAY, &args, b"key 1\nrevkey\ny\n0\n\ny\nsave\n");
    let revoked = export();
    assert!(revoked.len() > good.len());
    for files in [[&revoked[..], &good], [&good, &revoked]] {
        assert!(refusal(&Keyring::parse_all(&files).unwrap(), &message, now).contains("is revoked"));
        assert!(refusal(&Keyring::parse(&files.concat()).unwrap(), &message, now).contains("is revoked"));
    }
}
