//! Policies whose signatures other tools made: what a guest accepts, what it refuses, and where a policy comes from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cocoon_image::Digest;
use cocoon_stage::Code;
use cocoon_tests::{Home, Outcome, Registry, make_busybox_image, missing, run};

fn image(registry: &Registry) -> (String, String) {
    let image = make_busybox_image(registry, "demo:signed", &["/bin/echo", "ran"]).unwrap();
    let raw =
        run("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{image}")]).unwrap();
    let by_digest = format!("{}@{}", image.rsplit_once(':').unwrap().0, Digest::sha256(&raw));
    (image, by_digest)
}

/// A tool that makes signatures, in a folder of its own.
fn tool(folder: &Path, program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(["HOME", "GNUPGHOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"].map(|name| (name, folder)))
        .env("COSIGN_PASSWORD", "")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn folder(home: &Home, name: &str) -> PathBuf {
    let folder = home.file(name);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// A policy of one requirement for everything.
fn policy(home: &Home, requirement: &str) -> String {
    fs::write(home.file("policy.json"), format!(r#"{{"default":[{requirement}]}}"#)).unwrap();
    home.file("policy.json").display().to_string()
}

fn accepted(home: &Home, args: &[&str]) {
    let outcome = home.run_vm(args).unwrap();
    assert_eq!((outcome.status, outcome.text().as_str()), (Some(0), "ran\n"), "{}", outcome.stderr);
}

fn refused(home: &Home, args: &[&str], code: Code) -> Outcome {
    let outcome = home.run_vm([&["--json"], args].concat()).unwrap();
    assert_eq!(outcome.json_refusal().unwrap().code, code.as_str(), "{}", outcome.stderr);
    assert_eq!(outcome.text(), "", "it ran");
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
    outcome
}

/// A folder's files over HTTP, one request a connection.
fn serve(folder: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let _ = answer(&mut tcp, &folder);
        }
    });
    address
}

fn answer(tcp: &mut TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').replace("%40", "@");
    let (status, body) = match fs::read(folder.join(path.replace("%3D", "="))) {
        Ok(body) => (200, body),
        Err(_) => (404, Vec::new()),
    };
    let length = body.len();
    write!(tcp, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
    tcp.write_all(&body)
}

#[test]
fn bundles_of_cosign() {
    let Some(home) = Home::open().unwrap() else { return };
    if missing(&["cosign"]).is_some() {
        println!("skipped: cosign is not installed");
        return;
    }
    let registry = Registry::start().unwrap();
    let (image, by_digest) = image(&registry);
    let (mine, other) = (folder(&home, "mine"), folder(&home, "other"));
    for keys in [&mine, &other] {
        tool(keys, "cosign", &["generate-key-pair"]);
        // No service is asked.
        let settings = r#"{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}"#;
        fs::write(keys.join("settings.json"), settings).unwrap();
    }
    let sign = |keys: &Path| {
        let how = ["sign", "--key", "cosign.key", "-y", "--allow-http-registry", "--signing-config"];
        tool(keys, "cosign", &[&how[..], &["settings.json", &by_digest]].concat());
    };
    let key = mine.join("cosign.pub").display().to_string();
    // A bundle of cosign's names no repository: it counts where a policy says that the digest is enough.
    let digest_only = format!(
        r#"{{"type":"sigstoreSigned","keyPath":"{key}","signedIdentity":{{"type":"matchDigestOnly"}}}}"#
    );
    let file = policy(&home, &digest_only);
    refused(&home, &["--policy", &file, &image], Code::ImageSignatureMissing);
    sign(&other);
    refused(&home, &["--policy", &file, &image], Code::ImageSignatureInvalid);
    sign(&mine);
    accepted(&home, &["--policy", &file, &image]);
    accepted(&home, &["--layers", "shared", "--policy", &file, &image]);
    refused(&home, &["--layers", "shared", "--require-signature", &key, &image], Code::ImageSignatureInvalid);
    let strict = format!(
        r#"{{"type":"sigstoreSigned","keyPath":"{key}","signedIdentity":{{"type":"matchRepository"}}}}"#
    );
    refused(&home, &["--policy", &policy(&home, &strict), &image], Code::ImageSignatureInvalid);
}

#[test]
fn envelopes_of_notation() {
    let Some(home) = Home::open().unwrap() else { return };
    if missing(&["notation"]).is_some() {
        println!("skipped: notation is not installed");
        return;
    }
    let registry = Registry::start().unwrap();
    let (image, by_digest) = image(&registry);
    let keys = folder(&home, "keys");
    for name in ["mine", "other"] {
        tool(&keys, "notation", &["cert", "generate-test", name]);
    }
    let root = keys.join("notation/truststore/x509/ca/mine/mine.crt").display().to_string();
    let requirement = |subject: &str| {
        format!(
            r#"{{"type":"notationSigned","trustStorePath":"{root}","trustedIdentities":["x509.subject: {subject}"]}}"#
        )
    };
    let mine = requirement("C=US, ST=WA, O=Notary, CN=mine");
    tool(&keys, "notation", &["sign", "--insecure-registry", "--key", "other", &by_digest]);
    refused(&home, &["--policy", &policy(&home, &mine), &image], Code::ImageSignatureInvalid);
    tool(&keys, "notation", &["sign", "--insecure-registry", "--key", "mine", &by_digest]);
    accepted(&home, &["--policy", &policy(&home, &mine), &image]);
    let third = requirement("C=US, ST=WA, O=Notary, CN=third");
    refused(&home, &["--policy", &policy(&home, &third), &image], Code::ImageSignatureInvalid);
}

#[test]
fn open_pgp_signatures_beside_the_registry() {
    let Some(home) = Home::open().unwrap() else { return };
    if missing(&["gpg"]).is_some() {
        println!("skipped: gpg is not installed");
        return;
    }
    let registry = Registry::start().unwrap();
    let (image, _) = image(&registry);
    let (keys, store) = (folder(&home, "g"), folder(&home, "signatures"));
    for name in ["mine@a.test", "other@a.test"] {
        let make = ["--batch", "--passphrase", "", "--quick-generate-key", name, "rsa2048", "sign", "never"];
        tool(&keys, "gpg", &make);
        tool(&keys, "gpg", &["--batch", "--output", &format!("{name}.gpg"), "--export", name]);
    }
    let lookaside = |name: &str, place: &str| {
        fs::write(home.file(name), format!("default-docker:\n  lookaside: {place}\n")).unwrap();
        home.file(name).display().to_string()
    };
    fs::create_dir(home.file("registries.d")).unwrap();
    lookaside("registries.d/x.yaml", &format!("file://{}", store.display()));
    let (configured, there) = (home.file("registries.d").display().to_string(), format!("docker://{image}"));
    let how = ["--insecure-policy", "--registries.d", &configured, "copy", "--src-tls-verify=false"];
    let what = ["--dest-tls-verify=false", "--sign-by", "mine@a.test", &there, &there];
    tool(&keys, "skopeo", &[&how[..], &what].concat());
    tool(&keys, "gpgconf", &["--kill", "gpg-agent"]);

    let file = lookaside("served.yaml", &format!("http://{}", serve(store.clone())));
    let by = |name: &str| {
        let key = keys.join(format!("{name}.gpg")).display().to_string();
        policy(&home, &format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{key}"}}"#))
    };
    accepted(&home, &["--policy", &by("mine@a.test"), "--lookaside", &file, &image]);
    refused(&home, &["--policy", &by("mine@a.test"), &image], Code::ImageSignatureMissing);
    refused(
        &home,
        &["--policy", &by("other@a.test"), "--lookaside", &file, &image],
        Code::ImageSignatureInvalid,
    );
}

#[test]
fn a_policy_in_trustee_reaches_the_guest_after_attestation() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let (image, _) = image(&registry);
    let args = ["--policy", "kbs:///default/security-policy/main", &image];
    // Nothing there is not a yes.
    refused(&home, &args, Code::ReleaseSecretMissing);
    let set = |text: &str| {
        fs::write(home.file("policy.json"), text).unwrap();
        let value = format!("@{}", home.file("policy.json").display());
        home.succeed(["secret", "set", "default/security-policy/main", &value]).unwrap();
    };
    set(r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    accepted(&home, &args);
    set(r#"{"default":[{"type":"reject"}]}"#);
    refused(&home, &args, Code::ImagePolicyRejected);
    refused(&home, &[&["--layers", "shared"], &args[..]].concat(), Code::ImagePolicyRejected);
    // The guest has no files of the owner's: a policy there carries its keys (`keyData`).
    for bad in ["", r#"{"default":[]}"#, r#"{"default":[{"type":"sigstoreSigned","keyPath":"/etc/passwd"}]}"#]
    {
        set(bad);
        refused(&home, &args, Code::ImagePolicyInvalid);
    }
}
