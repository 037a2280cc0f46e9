//! Secrets and keys in a real PKCS#11 module: SoftHSM with a token of the test's own.
//!
//! SoftHSM finds its token by an environment variable, so the test runs itself again with that variable set.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cocoon_backends::{
    Error, KeyProtector, KeyWrapping, Pkcs11Key, Pkcs11KeyConfig, Pkcs11Source, Pkcs11Wrap, RsaMechanism,
    Token, TokenConfig, TokenSelector,
};
use cocoon_release::{MAX_SECRET, ResourcePath, SharedSource};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use cryptoki::types::{AuthPin, Ulong};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const CHILD: &str = "COCOON_TEST_TOKEN_FOLDER";

/// Runs `story` in a process of its own with a fresh token labelled `trustee`, user PIN 1234.
fn in_child(test: &str, story: fn(&Path)) {
    if let Some(folder) = std::env::var_os(CHILD) {
        return story(Path::new(&folder));
    }
    if !Path::new(MODULE).exists() {
        assert!(std::env::var_os("CI").is_none(), "softhsm2 is not installed");
        println!("skipped: softhsm2 not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let settings = folder.path().join("softhsm2.conf");
    std::fs::write(&settings, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    write_pin(folder.path(), "1234");
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "trustee", "--pin", "1234", "--so-pin", "567890"])
        .env("SOFTHSM2_CONF", &settings)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("SOFTHSM2_CONF", &settings)
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && told.contains("1 passed"),
        "{told}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

fn write_pin(folder: &Path, pin: &str) {
    let file = pin_file(folder);
    std::fs::write(&file, pin).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn pin_file(folder: &Path) -> PathBuf {
    folder.join("pin")
}

fn config(folder: &Path) -> TokenConfig {
    TokenConfig {
        module: MODULE.into(),
        token: TokenSelector::Label("trustee".into()),
        pin_file: pin_file(folder),
    }
}

fn token(folder: &Path) -> Arc<Token> {
    Token::open(config(folder)).unwrap()
}

/// Another user of the same token in this process.
fn other_session() -> Session {
    let module = Pkcs11::new(MODULE).unwrap();
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let session = module.open_rw_session(module.get_slots_with_initialized_token().unwrap()[0]).unwrap();
    let _ = session.login(UserType::User, Some(&AuthPin::from("1234".to_owned())));
    session
}

fn path(text: &str) -> ResourcePath {
    text.parse().unwrap()
}

#[test]
fn secrets_are_data_objects() {
    in_child("secrets_are_data_objects", |folder| {
        let source = Pkcs11Source::new(token(folder));
        assert_eq!(source.list().unwrap(), Some(vec![]));
        assert!(source.get(&path("a/b/c")).unwrap().is_none());
        assert!(!source.delete(&path("a/b/c")).unwrap());
        for value in [&b"one"[..], &[0, 255, 1], &vec![7; 100_000], b"short again"] {
            source.put(&path("a/b/c"), value).unwrap();
            assert_eq!(source.get(&path("a/b/c")).unwrap().unwrap().as_slice(), value);
        }
        source.put(&path("a/b/d"), b"two").unwrap();
        assert_eq!(source.list().unwrap().unwrap(), ["a/b/c", "a/b/d"]);
        assert!(matches!(source.write(&path("a/b/c"), &vec![0; MAX_SECRET + 1]), Err(Error::TooLarge(_))));

        // A second object with the label, as a crash may leave it: refused, until it is set again.
        let session = other_session();
        let twin = [
            Attribute::Class(cryptoki::object::ObjectClass::DATA),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Label(b"a/b/c".to_vec()),
            Attribute::Value(b"other".to_vec()),
        ];
        session.create_object(&twin).unwrap();
        assert!(source.get(&path("a/b/c")).unwrap_err().contains("several"));
        source.put(&path("a/b/c"), b"one").unwrap();
        assert_eq!(source.get(&path("a/b/c")).unwrap().unwrap().as_slice(), b"one");

        assert!(source.delete(&path("a/b/c")).unwrap());
        assert!(source.get(&path("a/b/c")).unwrap().is_none());
        assert_eq!(source.list().unwrap().unwrap(), ["a/b/d"]);
    });
}

#[test]
fn a_lost_session_is_opened_again() {
    in_child("a_lost_session_is_opened_again", |folder| {
        let source = Pkcs11Source::new(token(folder));
        source.put(&path("a/b/c"), b"one").unwrap();
        for _ in 0..2 {
            // All sessions of the process end, as when the token is pulled.
            Pkcs11::new(MODULE).unwrap().finalize().unwrap();
            assert_eq!(source.get(&path("a/b/c")).unwrap().unwrap().as_slice(), b"one");
        }
        // Somebody logs the process out.
        other_session().logout().unwrap();
        source.put(&path("a/b/c"), b"two").unwrap();
        assert_eq!(source.get(&path("a/b/c")).unwrap().unwrap().as_slice(), b"two");
    });
}

#[test]
fn a_wrong_pin_is_tried_once() {
    in_child("a_wrong_pin_is_tried_once", |folder| {
        let source = Pkcs11Source::new(token(folder));
        source.put(&path("a/b/c"), b"one").unwrap();
        write_pin(folder, "9999");
        Pkcs11::new(MODULE).unwrap().finalize().unwrap();
        let first = source.get(&path("a/b/c")).unwrap_err();
        assert!(!first.contains("9999") && !first.contains("not tried again"), "{first}");
        assert!(source.get(&path("a/b/c")).unwrap_err().contains("not tried again"));
        assert!(source.put(&path("a/b/c"), b"two").unwrap_err().contains("not tried again"));
        write_pin(folder, "1234\n");
        assert_eq!(source.get(&path("a/b/c")).unwrap().unwrap().as_slice(), b"one");

        write_pin(folder, "9999");
        Pkcs11::new(MODULE).unwrap().finalize().unwrap();
        assert!(matches!(Token::open(config(folder)), Err(Error::Token(_))));
        write_pin(folder, "1234");
        for bad in [
            TokenConfig { token: TokenSelector::Label("other".into()), ..config(folder) },
            TokenConfig { token: TokenSelector::Serial("0".into()), ..config(folder) },
            TokenConfig { token: TokenSelector::Index(9), ..config(folder) },
            TokenConfig { module: "/nowhere.so".into(), ..config(folder) },
            TokenConfig { module: "/bin/sh".into(), ..config(folder) },
        ] {
            assert!(matches!(Token::open(bad), Err(Error::Token(_))));
        }
        assert!(Token::open(TokenConfig { token: TokenSelector::Index(0), ..config(folder) }).is_ok());
        let relative = TokenConfig { module: "libsofthsm2.so".into(), ..config(folder) };
        assert!(matches!(Token::open(relative), Err(Error::Config(_))));
    });
}

fn key_config(wrapping: KeyWrapping, create: bool) -> Pkcs11KeyConfig {
    Pkcs11KeyConfig { label: "seal".into(), wrapping, create }
}

#[test]
fn a_data_key_opens_with_the_tokens_key_only() {
    in_child("a_data_key_opens_with_the_tokens_key_only", |folder| {
        let token = token(folder);
        let make = |wrapping, create| Pkcs11Key::new(token.clone(), key_config(wrapping, create)).unwrap();
        let never = make(KeyWrapping::AesGcm, false);
        assert!(never.seal_key(None).unwrap_err().to_string().contains("there is none"));
        assert!(never.seal_key(Some(&[1, 1, 0])).is_err());
        for wrapping in [KeyWrapping::AesGcm, KeyWrapping::AesKeyWrap, KeyWrapping::AesKeyWrapPad] {
            let (key, blob) = make(wrapping, true).seal_key(None).unwrap();
            assert!(blob.len() < 80 && !blob.windows(32).any(|w| w == key.as_slice()));
            // Whatever is set for new keys, a stored one is unwrapped as it was wrapped.
            let (again, same) = never.seal_key(Some(&blob)).unwrap();
            assert_eq!((*again, &same), (*key, &blob));
            assert_ne!(*make(wrapping, true).seal_key(None).unwrap().0, *key);
            for at in 0..blob.len() {
                let mut bent = blob.clone();
                bent[at] ^= 1;
                assert!(never.seal_key(Some(&bent)).is_err(), "{wrapping:?} byte {at}");
            }
            for cut in 0..blob.len() {
                assert!(never.seal_key(Some(&blob[..cut])).is_err());
            }
            assert_eq!(*never.seal_key(Some(&blob)).unwrap().0, *key);
        }
    });
}

#[test]
fn the_key_is_made_fit_and_an_unfit_one_is_refused() {
    in_child("the_key_is_made_fit_and_an_unfit_one_is_refused", |folder| {
        let token = token(folder);
        let protector = Pkcs11Key::new(token.clone(), key_config(KeyWrapping::AesGcm, true)).unwrap();
        let (_, blob) = protector.seal_key(None).unwrap();
        let session = other_session();
        let label = || Attribute::Label(b"seal".to_vec());
        let made = session.find_objects(&[label()]).unwrap();
        assert_eq!(made.len(), 1);
        let value = session.get_attribute_info(made[0], &[cryptoki::object::AttributeType::Value]).unwrap();
        assert!(!matches!(value[0], cryptoki::object::AttributeInfo::Available(_)), "{value:?}");

        session.destroy_object(made[0]).unwrap();
        // Never a new key for an old blob.
        assert!(protector.seal_key(Some(&blob)).is_err());
        assert!(session.find_objects(&[label()]).unwrap().is_empty());
        let leaky = session.generate_key(
            &Mechanism::AesKeyGen,
            &[
                label(),
                Attribute::Token(true),
                Attribute::ValueLen(Ulong::new(32)),
                Attribute::Extractable(true),
            ],
        );
        let leaky = leaky.unwrap();
        assert!(protector.seal_key(None).unwrap_err().to_string().contains("not extractable"));
        session.destroy_object(leaky).unwrap();
        assert!(protector.seal_key(None).is_ok());
        // With another key of the same name the blob does not open.
        assert!(matches!(protector.seal_key(Some(&blob)), Err(Error::Blob(_))));
    });
}

#[test]
fn values_are_wrapped_with_the_rsa_key() {
    in_child("values_are_wrapped_with_the_rsa_key", |folder| {
        let token = token(folder);
        let session = other_session();
        let label = || Attribute::Label(b"wrap".to_vec());
        let public = [
            label(),
            Attribute::Token(true),
            Attribute::ModulusBits(Ulong::new(2048)),
            Attribute::PublicExponent(vec![1, 0, 1]),
            Attribute::Encrypt(true),
        ];
        let private = [label(), Attribute::Token(true), Attribute::Private(true), Attribute::Decrypt(true)];
        session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).unwrap();

        let wrap = Pkcs11Wrap::new(token.clone(), "wrap".into(), RsaMechanism::OaepSha1);
        let wrapped = wrap.wrap(b"value").unwrap();
        assert_eq!(wrapped.len(), 256);
        assert_ne!(wrapped, wrap.wrap(b"value").unwrap());
        assert_eq!(wrap.unwrap(&wrapped).unwrap().as_slice(), b"value");
        let mut bent = wrapped.clone();
        bent[100] ^= 1;
        let refused = [wrap.unwrap(&bent), wrap.unwrap(&wrapped[1..]), wrap.unwrap(b"x")]
            .map(|r| r.unwrap_err().to_string());
        assert!(refused.iter().all(|r| *r == refused[0]), "{refused:?}");
        for bad in [&[][..], &[0; 2049]] {
            assert!(matches!(wrap.wrap(bad), Err(Error::Request(_))));
            assert!(matches!(wrap.unwrap(bad), Err(Error::Request(_))));
        }
        assert!(matches!(wrap.wrap(&[1; 250]), Err(Error::Request(_))));
        assert_eq!(wrap.unwrap(&wrapped).unwrap().as_slice(), b"value");
        // This module knows OAEP with SHA-1 only: an error, never another padding.
        let modern = Pkcs11Wrap::new(token.clone(), "wrap".into(), RsaMechanism::default());
        assert!(matches!(modern.wrap(b"value"), Err(Error::Token(_))));
        let other = Pkcs11Wrap::new(token, "other".into(), RsaMechanism::OaepSha1);
        assert!(other.wrap(b"value").unwrap_err().to_string().contains("no RSA key"));
    });
}
