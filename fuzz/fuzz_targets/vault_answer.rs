//! Answers of a Vault, which is another's machine. The first byte chooses status and KV version, the rest is the body.
#![no_main]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use cocoon_backends::{KvVersion, Vault, VaultConfig};
use cocoon_trustee::ResourcePath;
use libfuzzer_sys::fuzz_target;

static ANSWER: Mutex<(u16, Vec<u8>)> = Mutex::new((200, Vec::new()));

static VAULTS: LazyLock<[Vault; 2]> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| {
            std::thread::spawn(move || answer(stream));
        })
    });
    let folder = tempfile::tempdir().expect("a folder");
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "s.token\n").expect("it can be written");
    private(&token_file);
    [KvVersion::V1, KvVersion::V2].map(|kv_version| {
        let config = VaultConfig {
            url: url.clone(),
            kv_version,
            mount: "secret".into(),
            prefix: "kbs".into(),
            token_file: token_file.clone(),
            namespace: None,
            ca_pem: None,
            timeout: Duration::from_secs(5),
        };
        Vault::new(config).expect("good settings")
    })
});

fn private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
}

/// Answers every request of a connection with what the input says.
fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        let (status, body) = ANSWER.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        text.extend_from_slice(&body);
        if stream.write_all(&text).is_err() {
            return;
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, body)) = bytes.split_first() else { return };
    let status = [200, 200, 200, 404, 403, 500, 204, 307][usize::from(choice & 7)];
    let body = if status == 204 { &[] } else { body };
    *ANSWER.lock().unwrap_or_else(PoisonError::into_inner) = (status, body.to_vec());
    let path: ResourcePath = "default/key/1".parse().expect("a path");
    let vault = &VAULTS[usize::from(choice >> 3 & 1)];
    if choice & 16 == 0 {
        if let Ok(Some(value)) = vault.read(&path) {
            assert!(value.len() <= 1 << 20);
        }
    } else if let Ok(paths) = vault.paths() {
        assert!(paths.iter().all(|path| path.parse::<ResourcePath>().is_ok()), "{paths:?}");
    }
});
