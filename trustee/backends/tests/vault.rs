//! A Vault as a stand-in on loopback: its KV engines, and everything a Vault must not be trusted with.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use cocoon_backends::{KvVersion, Vault, VaultConfig};
use cocoon_release::{MAX_SECRET, ResourcePath, SharedSource};
use serde_json::{Value, json};

/// What the stand-in does instead of its work.
#[derive(Clone, Default)]
enum Mood {
    #[default]
    Works,
    Says(u16, String),
    Slow,
    Huge,
}

#[derive(Default)]
struct Inside {
    mood: Mood,
    token: String,
    /// Mount and path to versions; `None` is a deleted one. Version 1 keeps one.
    values: BTreeMap<String, Vec<Option<Value>>>,
    asked: Vec<(String, String)>,
    namespaces: Vec<String>,
}

type Shared = Arc<Mutex<Inside>>;

struct StandIn {
    inside: Shared,
    url: String,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl StandIn {
    fn start() -> Self {
        let inside = Shared::default();
        inside.lock().unwrap().token = "hvs.first".into();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let unlimited = axum::extract::DefaultBodyLimit::disable();
        let app = axum::Router::new().fallback(answer).layer(unlimited).with_state(inside.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        let folder = tempfile::tempdir().unwrap();
        write_token(&folder.path().join("token"), "hvs.first");
        StandIn { inside, url, folder, _runtime: runtime }
    }

    fn config(&self, kv_version: KvVersion) -> VaultConfig {
        config(&self.url, self.folder.path(), kv_version)
    }

    fn vault(&self, kv_version: KvVersion) -> Vault {
        Vault::new(self.config(kv_version)).unwrap()
    }

    fn asked(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.inside.lock().unwrap().asked)
    }

    fn mood(&self, mood: Mood) {
        self.inside.lock().unwrap().mood = mood;
    }
}

fn config(url: &str, folder: &Path, kv_version: KvVersion) -> VaultConfig {
    VaultConfig {
        url: url.into(),
        kv_version,
        mount: "secret".into(),
        prefix: "coco".into(),
        token_file: folder.join("token"),
        namespace: None,
        ca_pem: None,
        timeout: Duration::from_secs(30),
    }
}

fn write_token(path: &Path, token: &str) {
    std::fs::write(path, token).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn path(text: &str) -> ResourcePath {
    text.parse().unwrap()
}

fn reply(status: u16, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(StatusCode::from_u16(status).unwrap()).body(body.into()).unwrap()
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mood = {
        let mut inside = shared.lock().unwrap();
        inside.asked.push((method.to_string(), uri.to_string()));
        if let Some(namespace) = headers.get("x-vault-namespace") {
            inside.namespaces.push(namespace.to_str().unwrap().into());
        }
        inside.mood.clone()
    };
    match mood {
        Mood::Works => {}
        Mood::Says(status, text) => return reply(status, text),
        Mood::Slow => tokio::time::sleep(Duration::from_secs(20)).await,
        Mood::Huge => return reply(200, "a".repeat(8 * 1024 * 1024)),
    }
    let mut inside = shared.lock().unwrap();
    if headers.get("x-vault-token").is_none_or(|t| t.to_str().unwrap() != inside.token) {
        return reply(403, r#"{"errors":["permission denied"]}"#);
    }
    let path = uri.path().strip_prefix("/v1/").unwrap();
    let list = uri.query() == Some("list=true");
    if let Some(rest) = path.strip_prefix("two/data/") {
        kv2_data(&mut inside.values, &method, rest, &body)
    } else if let Some(rest) = path.strip_prefix("two/metadata/") {
        kv(&mut inside.values, "two/", &method, rest, list, &body)
    } else if let Some(rest) = path.strip_prefix("secret/") {
        kv(&mut inside.values, "secret/", &method, rest, list, &body)
    } else {
        reply(404, r#"{"errors":["no handler for route"]}"#)
    }
}

fn kv(
    values: &mut BTreeMap<String, Vec<Option<Value>>>,
    mount: &str,
    method: &Method,
    path: &str,
    list: bool,
    body: &[u8],
) -> Response<Body> {
    let key = format!("{mount}{path}");
    match method.as_str() {
        "GET" if list => {
            let mut keys: Vec<String> = values
                .keys()
                .filter_map(|k| k.strip_prefix(&key))
                .map(|k| k.split_inclusive('/').next().unwrap_or_default().to_owned())
                .collect();
            keys.dedup();
            if keys.is_empty() {
                return reply(404, r#"{"errors":[]}"#);
            }
            reply(200, json!({ "data": { "keys": keys } }).to_string())
        }
        "GET" => match values.get(&key).and_then(|v| v.last().cloned().flatten()) {
            Some(value) => reply(200, json!({ "request_id": "1", "data": value, "auth": null }).to_string()),
            None => reply(404, r#"{"errors":[]}"#),
        },
        "POST" => {
            values.insert(key, vec![Some(serde_json::from_slice(body).unwrap())]);
            reply(204, "")
        }
        "DELETE" => {
            values.remove(&key);
            reply(204, "")
        }
        _ => reply(405, ""),
    }
}

fn kv2_data(
    values: &mut BTreeMap<String, Vec<Option<Value>>>,
    method: &Method,
    path: &str,
    body: &[u8],
) -> Response<Body> {
    let versions = values.entry(format!("two/{path}")).or_default();
    match method.as_str() {
        "GET" => match versions.last() {
            Some(newest) => {
                let status = if newest.is_some() { 200 } else { 404 };
                let metadata = json!({ "version": versions.len() });
                reply(status, json!({ "data": { "data": newest, "metadata": metadata } }).to_string())
            }
            None => {
                values.remove(&format!("two/{path}"));
                reply(404, r#"{"errors":[]}"#)
            }
        },
        "POST" => {
            let body: Value = serde_json::from_slice(body).unwrap();
            versions.push(Some(body["data"].clone()));
            reply(200, json!({ "data": { "version": versions.len() } }).to_string())
        }
        _ => reply(405, ""),
    }
}

fn story(vault: &dyn SharedSource) {
    assert_eq!(vault.list().unwrap(), Some(vec![]));
    assert!(vault.get(&path("a/b/c")).unwrap().is_none());
    assert!(!vault.delete(&path("a/b/c")).unwrap());
    for value in [&b"one"[..], b"", &[0, 255, 1], &vec![255; MAX_SECRET]] {
        vault.put(&path("a/b/c"), value).unwrap();
        assert_eq!(vault.get(&path("a/b/c")).unwrap().unwrap().as_slice(), value);
    }
    vault.put(&path("a/x/c.1"), b"two").unwrap();
    vault.put(&path("z/b/c"), b"three").unwrap();
    assert_eq!(vault.list().unwrap().unwrap(), ["a/b/c", "a/x/c.1", "z/b/c"]);
    assert!(vault.delete(&path("a/b/c")).unwrap());
    assert!(!vault.delete(&path("a/b/c")).unwrap());
    assert!(vault.get(&path("a/b/c")).unwrap().is_none());
    assert_eq!(vault.list().unwrap().unwrap(), ["a/x/c.1", "z/b/c"]);
}

#[test]
fn version_1_keeps_secrets_in_upstreams_form() {
    let stand_in = StandIn::start();
    story(&stand_in.vault(KvVersion::V1));
    let inside = stand_in.inside.lock().unwrap();
    assert_eq!(inside.values["secret/coco/z/b/c"], [Some(json!({ "data": b"three" }))]);
}

#[test]
fn version_2_keeps_versions_and_deletes_all() {
    let stand_in = StandIn::start();
    let config = VaultConfig { mount: "two".into(), ..stand_in.config(KvVersion::V2) };
    let vault = Vault::new(config).unwrap();
    story(&vault);
    vault.write(&path("a/b/v"), b"1").unwrap();
    vault.write(&path("a/b/v"), b"2").unwrap();
    let key = "two/coco/a/b/v";
    assert_eq!(stand_in.inside.lock().unwrap().values[key].len(), 2);
    assert_eq!(vault.read(&path("a/b/v")).unwrap().unwrap().as_slice(), b"2");
    // Somebody deletes the newest version by hand: there is none then; a delete removes the others too.
    stand_in.inside.lock().unwrap().values.get_mut(key).unwrap().push(None);
    assert!(vault.read(&path("a/b/v")).unwrap().is_none());
    assert!(!vault.remove(&path("a/b/v")).unwrap());
    assert!(!stand_in.inside.lock().unwrap().values.contains_key(key));
}

#[test]
fn works_on_a_blocking_thread_of_a_runtime() {
    let stand_in = StandIn::start();
    let vault = stand_in.vault(KvVersion::V1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let done = runtime.block_on(async move {
        tokio::task::spawn_blocking(move || {
            vault.put(&path("a/b/c"), b"x").and_then(|()| vault.get(&path("a/b/c")))
        })
        .await
    });
    assert_eq!(done.unwrap().unwrap().unwrap().as_slice(), b"x");
}

#[test]
fn a_new_token_is_read_from_its_file_when_the_old_is_refused() {
    let stand_in = StandIn::start();
    let vault = stand_in.vault(KvVersion::V1);
    vault.write(&path("a/b/c"), b"x").unwrap();
    stand_in.inside.lock().unwrap().token = "hvs.second".into();
    stand_in.asked();
    let error = vault.read(&path("a/b/c")).unwrap_err().to_string();
    assert!(error.contains("refused the token") && !error.contains("hvs."), "{error}");
    assert_eq!(stand_in.asked().len(), 1, "the same token is not tried again");
    write_token(&stand_in.folder.path().join("token"), "hvs.second\n");
    assert!(vault.read(&path("a/b/c")).unwrap().is_some());
    vault.write(&path("a/b/c"), b"y").unwrap();
    assert_eq!(stand_in.asked().len(), 3, "the new token is kept");
    assert!(!format!("{vault:?}").contains("hvs"));
}

#[test]
fn refusals_say_what_they_mean_and_are_not_repeated() {
    let stand_in = StandIn::start();
    let vault = stand_in.vault(KvVersion::V1);
    for (status, words) in [
        (503, "sealed"),
        (473, "standby"),
        (472, "standby"),
        (429, "standby or limits"),
        (307, "active node"),
        (400, "status 400: bad thing"),
        (500, "status 500"),
        (405, "status 405"),
    ] {
        stand_in.mood(Mood::Says(status, r#"{"errors":["bad thing\n\u001b[31m"]}"#.into()));
        let error = vault.read(&path("a/b/c")).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\u{1b}'), "{status}: {error}");
        assert!(vault.write(&path("a/b/c"), b"s3cret").is_err());
        assert_eq!(stand_in.asked().len(), 2, "{status}");
    }
    stand_in.mood(Mood::Says(500, r#"{"errors":["token hvs.first is odd"]}"#.into()));
    assert!(!vault.read(&path("a/b/c")).unwrap_err().to_string().contains("hvs.first"));
    stand_in.mood(Mood::Says(404, r#"{"errors":["no handler"]}"#.into()));
    assert!(vault.write(&path("a/b/c"), b"x").unwrap_err().to_string().contains("no KV engine"));
}

#[test]
fn slow_huge_and_malformed_answers_are_bounded_errors() {
    let stand_in = StandIn::start();
    let hasty = VaultConfig { timeout: Duration::from_millis(300), ..stand_in.config(KvVersion::V1) };
    let hasty = Vault::new(hasty).unwrap();
    stand_in.mood(Mood::Slow);
    let begun = Instant::now();
    assert!(hasty.read(&path("a/b/c")).unwrap_err().to_string().contains("no answer within"));
    assert!(hasty.list().is_err());
    assert!(begun.elapsed() < Duration::from_secs(10));
    let vault = stand_in.vault(KvVersion::V1);
    stand_in.mood(Mood::Huge);
    assert!(vault.read(&path("a/b/c")).unwrap_err().to_string().contains("longer than"));
    for text in ["", "<html>", "{}", "[]", r#"{"data":{"data":"s3cret","encoding":1}}"#, &"[".repeat(5000)] {
        stand_in.mood(Mood::Says(200, text.into()));
        let error = vault.read(&path("a/b/c")).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        assert!(vault.list().is_err(), "{text}");
    }
    // A folder that contains itself without end is not followed past tags; odd names are no paths.
    stand_in.mood(Mood::Says(200, r#"{"data":{"keys":["a/","../","b","x y/","%2e%2e/"]}}"#.into()));
    assert_eq!(vault.list().unwrap().unwrap(), ["a/a/b"]);
}

#[test]
fn a_failed_connection_is_tried_once_more_for_reads_only() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    write_token(&folder.path().join("token"), "t");
    let vault = Vault::new(config(&url, folder.path(), KvVersion::V1)).unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        for round in 0..3 {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let _ = tcp.read(&mut buffer).unwrap();
            if round == 1 {
                tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\nconnection: close\r\n\r\n{\"data\":{\"data\":[1]}}").unwrap();
            }
        }
    });
    assert_eq!(vault.read(&path("a/b/c")).unwrap().unwrap().as_slice(), [1]);
    assert!(vault.write(&path("a/b/c"), b"x").is_err());
    server.join().unwrap();
    assert!(vault.read(&path("a/b/c")).unwrap_err().to_string().contains("no connection"));
}

#[test]
fn the_namespace_is_sent_and_settings_are_checked() {
    let stand_in = StandIn::start();
    let config = VaultConfig { namespace: Some("team/a".into()), ..stand_in.config(KvVersion::V1) };
    let vault = Vault::new(config.clone()).unwrap();
    assert!(vault.read(&path("a/b/c")).unwrap().is_none());
    assert_eq!(stand_in.inside.lock().unwrap().namespaces, ["team/a"]);
    for bad in [
        VaultConfig { url: "http://192.0.2.1".into(), ..config.clone() },
        VaultConfig { mount: "../sys".into(), ..config.clone() },
        VaultConfig { ca_pem: Some("nonsense".into()), ..config.clone() },
        VaultConfig { timeout: Duration::ZERO, ..config.clone() },
        VaultConfig { token_file: "/nowhere".into(), ..config },
    ] {
        assert!(Vault::new(bad).is_err());
    }
}
