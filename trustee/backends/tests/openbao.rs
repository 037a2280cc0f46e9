//! A real OpenBao or Vault over TLS on loopback, where the machine has one: `bao` or `vault` on PATH, or the program
//! that `COCOON_OPENBAO` names.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cocoon_backends::{KvVersion, Vault, VaultConfig};
use cocoon_http::{Client, Options, Request, Roots};
use cocoon_release::{ResourcePath, SharedSource};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("COCOON_OPENBAO") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|p| [p.join("bao"), p.join("vault")]).find(|p| p.is_file())
}

fn post(client: &Client, url: &str, token: &str, body: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = Request::post(url).header("x-vault-token", token).body(body.to_owned().into()).unwrap();
        match client.send(request).await {
            Ok(response) => {
                let status = response.status.as_u16();
                (status, String::from_utf8(response.bytes(1 << 20).await.unwrap().to_vec()).unwrap())
            }
            Err(e) => (0, e.to_string()),
        }
    })
}

fn path(text: &str) -> ResourcePath {
    text.parse().unwrap()
}

fn story(vault: &dyn SharedSource) {
    assert_eq!(vault.list().unwrap(), Some(vec![]));
    assert!(vault.get(&path("a/b/c")).unwrap().is_none());
    assert!(!vault.delete(&path("a/b/c")).unwrap());
    for value in [&b"one"[..], b"", &[0, 255, 1], &vec![255; 50_000]] {
        vault.put(&path("a/b/c"), value).unwrap();
        assert_eq!(vault.get(&path("a/b/c")).unwrap().unwrap().as_slice(), value);
    }
    vault.put(&path("a/x/c.1"), b"two").unwrap();
    vault.put(&path("z/b/c"), b"three").unwrap();
    assert_eq!(vault.list().unwrap().unwrap(), ["a/b/c", "a/x/c.1", "z/b/c"]);
    assert!(vault.delete(&path("a/b/c")).unwrap());
    assert!(!vault.delete(&path("a/b/c")).unwrap());
    assert_eq!(vault.list().unwrap().unwrap(), ["a/x/c.1", "z/b/c"]);
}

#[test]
fn a_real_vault_over_tls() {
    let Some(program) = program() else {
        println!("skipped: neither bao nor vault is installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = Command::new(program)
        .args(["server", "-dev-tls", "-dev-root-token-id=root-token", "-dev-no-store-token"])
        .arg(format!("-dev-listen-address={free}"))
        .arg(format!("-dev-tls-cert-dir={}", folder.path().display()))
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(child);
    let url = format!("https://{free}");
    let ca = ca(folder.path());
    let roots = Roots::Pinned(vec![ca.clone()]);
    let client = Client::new(Options { roots, ..Options::default() }).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let mount = format!("{url}/v1/sys/mounts/one");
    let kv1 = r#"{"type":"kv","options":{"version":"1"}}"#;
    loop {
        let (status, text) = post(&client, &mount, "root-token", kv1);
        if status == 204 {
            break;
        }
        assert!(Instant::now() < until, "{status} {text}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "root-token\n").unwrap();
    std::fs::set_permissions(&token_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = VaultConfig {
        url: url.clone(),
        kv_version: KvVersion::V1,
        mount: "one".into(),
        prefix: String::new(),
        token_file: token_file.clone(),
        namespace: None,
        ca_pem: Some(ca),
        timeout: Duration::from_secs(10),
    };
    let v1 = Vault::new(config.clone()).unwrap();
    story(&v1);
    let secret = VaultConfig {
        mount: "secret".into(),
        kv_version: KvVersion::V2,
        prefix: "coco".into(),
        ..config.clone()
    };
    let v2 = Vault::new(secret).unwrap();
    // The dev server makes its version 2 engine a moment after it answers.
    while v2.list().is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    story(&v2);

    // As people write with the command line.
    let by_hand = format!("{url}/v1/secret/data/coco/h/a/nd");
    let body = r#"{"data":{"data":"AAH/","encoding":"base64"}}"#;
    assert_eq!(post(&client, &by_hand, "root-token", body).0, 200);
    assert_eq!(v2.read(&path("h/a/nd")).unwrap().unwrap().as_slice(), [0, 1, 255]);
    assert_eq!(post(&client, &by_hand, "root-token", r#"{"data":{"other":"x"}}"#).0, 200);
    assert!(v2.read(&path("h/a/nd")).unwrap_err().to_string().contains("no field `data`"));

    // The system's certificates do not know this server.
    let strangers = Vault::new(VaultConfig { ca_pem: None, ..config.clone() }).unwrap();
    assert!(strangers.read(&path("a/b/c")).unwrap_err().to_string().contains("not trusted"));
    std::fs::write(&token_file, "wrong").unwrap();
    let refused = Vault::new(config).unwrap();
    assert!(refused.read(&path("a/x/c.1")).unwrap_err().to_string().contains("refused the token"));
    std::fs::write(&token_file, "root-token").unwrap();
    assert!(refused.read(&path("a/x/c.1")).unwrap().is_some());
    assert_eq!(post(&client, &format!("{url}/v1/sys/seal"), "root-token", "").0, 204);
    assert!(v1.read(&path("a/x/c.1")).unwrap_err().to_string().contains("sealed"));
}

/// The certificate authority that the dev server makes for itself.
fn ca(folder: &Path) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            if name.ends_with("-ca.pem") && text.contains("END CERTIFICATE") {
                return text;
            }
        }
        assert!(Instant::now() < until, "the dev server made no certificate");
        std::thread::sleep(Duration::from_millis(50));
    }
}
