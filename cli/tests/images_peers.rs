//! Images that others encrypt open here, and ours open there: skopeo, and ctd-decoder of containerd's imgcrypt. The key
//! provider's gRPC as those call it, and as somebody hostile would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod images_support;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cocoon_image::encryption::{KeyProviderInput, KeyProviderOutput, PrivateOptions};
use cocoon_rpc::{Endpoint, Error, GrpcCode, KeyProviderClient};
use images_support::{LAYER, Layout, has, key_pair, tool};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::Home;
use zeroize::Zeroizing;

const KEY_ID: &str = "kbs:///default/image-key/app";
const TREASURE: &[u8] = b"the model weights, say";

fn source(home: &Home) -> Layout {
    let source = Layout::new(&home.path("source"));
    // Compressed, or skopeo would do it on the way.
    let gzip = |content: &[u8]| {
        let file = home.file("layer", content);
        tool("gzip", &["-nkf", &file]);
        std::fs::read(format!("{file}.gz")).unwrap()
    };
    let noise: Vec<u8> = (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let kind = format!("{LAYER}+gzip");
    source.tag("v1", source.image("amd64", &[(&kind, &gzip(TREASURE)), (&kind, &gzip(&noise))]));
    source
}

fn same(one: &Layout, other: &Layout, tag: &str) {
    assert_eq!(one.layers(&one.document("v1")), other.layers(&other.document(tag)));
}

#[test]
fn skopeo_and_jwe() {
    if !has("skopeo") || !has("openssl") {
        return;
    }
    let home = Home::new();
    let source = source(&home);
    let keys: Vec<(String, String)> =
        ["rsa", "p256", "p384"].iter().map(|k| key_pair(&home.path(""), k)).collect();
    let recipients: Vec<String> = keys.iter().map(|(public, _)| format!("jwe:{public}")).collect();
    let flags =
        |name: &'static str| recipients.iter().flat_map(move |r| [name, r.as_str()]).collect::<Vec<_>>();

    // Encrypted there: for one recipient at a time (flattened JSON), then for all (general JSON).
    let theirs = Layout::at(&home.path("theirs"));
    for (n, recipient) in recipients.iter().enumerate() {
        let name = theirs.name(&format!("one{n}"));
        tool(
            "skopeo",
            &["copy", "--insecure-policy", "--encryption-key", recipient, &source.name("v1"), &name],
        );
    }
    let copy = [&["copy", "--insecure-policy"], &flags("--encryption-key")[..]].concat();
    tool("skopeo", &[&copy[..], &[&source.name("v1"), &theirs.name("all")]].concat());
    for (n, (_, private)) in keys.iter().enumerate() {
        for tag in [format!("one{n}"), "all".to_owned()] {
            let opened = Layout::at(&home.path(&format!("opened{n}")));
            let names = [theirs.name(&tag), opened.name(&tag)];
            home.ok(&["image", "decrypt", "--no-trustee", "--key", private, &names[0], &names[1]]);
            same(&source, &opened, &tag);
        }
    }
    let unopened = Layout::at(&home.path("unopened")).name("x");
    let wrong = ["image", "decrypt", "--no-trustee", "--key", &keys[1].1, &theirs.name("one0"), &unopened];
    assert_ne!(home.run(&wrong).status, Some(0));
    let seen = home.json(&["image", "inspect", "--json", &theirs.name("all")]);
    assert_eq!(seen["images"][0]["layers"][0]["recipients"].as_array().unwrap().len(), 3);

    // Encrypted here.
    let ours = Layout::at(&home.path("ours"));
    let encrypt = [&["image", "encrypt"], &flags("--recipient")[..]].concat();
    home.ok(&[&encrypt[..], &[&source.name("v1"), &ours.name("all")]].concat());
    for (n, (_, private)) in keys.iter().enumerate() {
        let opened = Layout::new(&home.path(&format!("there{n}")));
        let names = [ours.name("all"), opened.name("x")];
        tool("skopeo", &["copy", "--insecure-policy", "--decryption-key", private, &names[0], &names[1]]);
        same(&source, &opened, "x");
    }
}

/// imgcrypt's payload: protobuf `Any` of a JSON text with the layer's descriptor and the keys.
fn payload(descriptor: &Value) -> Vec<u8> {
    let json = serde_json::json!({
        "DecryptConfig": {"Parameters": {}}, "Descriptor": descriptor,
    });
    let (url, json) = ("io.containerd.ocicrypt.v1.Payload".to_owned(), json.to_string());
    let field = |tag: u8, bytes: &[u8]| {
        let mut out = vec![tag << 3 | 2];
        let mut n = bytes.len();
        while n >= 128 {
            out.push(u8::try_from(n % 128).unwrap() | 128);
            n /= 128;
        }
        out.push(u8::try_from(n).unwrap());
        out.extend_from_slice(bytes);
        out
    };
    [field(1, url.as_bytes()), field(2, json.as_bytes())].concat()
}

/// What ctd-decoder makes of a layer; else what it said.
fn decode(
    home: &Home,
    descriptor: &Value,
    layer: &[u8],
    keys: Option<&str>,
    config: Option<&str>,
) -> Result<Vec<u8>, String> {
    let told = home.path("told");
    std::fs::write(&told, payload(descriptor)).unwrap();
    let arguments = keys.map(|dir| format!("--decryption-keys-path {dir}")).unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec ctd-decoder {arguments} 3<'{}'", told.display())]);
    command.env("HOME", home.path("home")).env("XDG_DATA_HOME", home.path("data"));
    if let Some(config) = config {
        command.env("OCICRYPT_KEYPROVIDER_CONFIG", config);
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, layer) = (child.stdin.take().unwrap(), layer.to_vec());
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&layer)));
    let done = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    if done.status.success() {
        Ok(done.stdout)
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

#[test]
fn ctd_decoder_and_jwe() {
    if !has("ctd-decoder") || !has("openssl") {
        return;
    }
    let home = Home::new();
    let source = source(&home);
    for kind in ["rsa", "p256"] {
        let folder = home.path(kind);
        std::fs::create_dir(&folder).unwrap();
        let (public, private) = key_pair(&home.path(""), kind);
        std::fs::copy(&private, folder.join("key.pem")).unwrap();
        let ours = Layout::at(&home.path(&format!("ours-{kind}")));
        home.ok(&[
            "image",
            "encrypt",
            "--recipient",
            &format!("jwe:{public}"),
            &source.name("v1"),
            &ours.name("v1"),
        ]);
        let manifest = ours.document("v1");
        let (layers, plain) = (ours.layers(&manifest), source.layers(&source.document("v1")));
        for (n, cipher) in layers.iter().enumerate() {
            let descriptor = &manifest["layers"][n];
            let keys = Some(folder.to_str().unwrap());
            assert_eq!(decode(&home, descriptor, cipher, keys, None).unwrap(), plain[n]);
            assert!(decode(&home, descriptor, cipher, None, None).is_err(), "without the key");
        }
    }
}

/// A served key provider; stopped when dropped.
struct Provider {
    child: Child,
    address: String,
}

impl Provider {
    fn start(home: &Home, listen: &str, more: &[&str]) -> Self {
        let args = [&["image", "keyprovider", "--listen", listen], more].concat();
        let mut child = home.command(&args).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("cocoon: key provider on ").unwrap_or_else(|| {
            let mut rest = String::new();
            let _ = stderr.read_to_string(&mut rest);
            panic!("{line}{rest}")
        });
        std::thread::spawn(move || drop(std::io::copy(&mut stderr, &mut std::io::sink())));
        Provider { address: address.to_owned(), child }
    }

    fn client(&self) -> KeyProviderClient {
        KeyProviderClient::connect(Endpoint {
            name: "key provider".into(),
            endpoint: format!("http://{}", self.address),
            ca_pem: None,
            identity: None,
            timeout: Duration::from_secs(20),
        })
        .unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn ctd_decoder_and_the_key_provider() {
    if !has("ctd-decoder") {
        return;
    }
    let home = Home::new();
    let source = source(&home);
    let ours = Layout::at(&home.path("ours"));
    home.ok(&["image", "encrypt", "--key-id", KEY_ID, &source.name("v1"), &ours.name("v1")]);
    let manifest = ours.document("v1");
    let (layers, plain) = (ours.layers(&manifest), source.layers(&source.document("v1")));
    let config = |entry: &str| {
        home.file("ocicrypt.json", format!(r#"{{"key-providers":{{"attestation-agent":{{{entry}}}}}}}"#))
    };
    let opens = |config: &str| decode(&home, &manifest["layers"][0], &layers[0], None, Some(config));

    let program = env!("CARGO_BIN_EXE_cocoon");
    let cmd = config(&format!(r#""cmd":{{"path":"{program}","args":["image","keyprovider"]}}"#));
    assert_eq!(opens(&cmd).unwrap(), plain[0]);

    let socket = home.path("s");
    let unix = Provider::start(&home, &format!("unix:{}", socket.display()), &["--allow-unwrap"]);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(opens(&config(&format!(r#""grpc":"unix:{}""#, socket.display()))).unwrap(), plain[0]);
    drop(unix);
    assert!(!socket.exists(), "its socket went with it");

    let tcp = Provider::start(&home, "127.0.0.1:0", &["--allow-unwrap"]);
    assert_eq!(opens(&config(&format!(r#""grpc":"{}""#, tcp.address))).unwrap(), plain[0]);
    let closed = Provider::start(&home, "127.0.0.1:0", &[]);
    let said = opens(&config(&format!(r#""grpc":"{}""#, closed.address))).unwrap_err();
    assert!(said.contains("allow-unwrap"), "{said}");
}

#[test]
fn our_own_commands_use_other_providers() {
    let mut home = Home::new();
    let source = source(&home);
    let elsewhere = Provider::start(&home, "127.0.0.1:0", &["--allow-unwrap"]);
    let config = home.file(
        "ocicrypt.json",
        format!(r#"{{"key-providers":{{"other":{{"grpc":"{}"}}}}}}"#, elsewhere.address),
    );
    home.env("OCICRYPT_KEYPROVIDER_CONFIG", &config);
    let (sealed, opened) = (Layout::at(&home.path("sealed")), Layout::at(&home.path("opened")));
    home.ok(&["image", "encrypt", "--recipient", "provider:other:x", &source.name("v1"), &sealed.name("v1")]);
    home.ok(&["image", "decrypt", "--no-trustee", &sealed.name("v1"), &opened.name("v1")]);
    same(&source, &opened, "v1");
    home.refused(
        "USAGE-INVALID",
        &["image", "encrypt", "--recipient", "provider:none:", &source.name("v1"), &sealed.name("x")],
    );
}

#[test]
fn layer_keys_leave_this_machine_to_no_provider() {
    let mut home = Home::new();
    let source = source(&home);
    let target = Layout::at(&home.path("target"));
    for address in ["192.0.2.1:50051", "keys.example.com:50051", "127.0.0.1.example.com:1"] {
        let entry = format!(r#"{{"key-providers":{{"other":{{"grpc":"{address}"}}}}}}"#);
        let config = home.file("ocicrypt.json", entry);
        home.env("OCICRYPT_KEYPROVIDER_CONFIG", &config);
        let names = [source.name("v1"), target.name("x")];
        home.refused(
            "IMAGE-KEY-UNAVAILABLE",
            &["image", "encrypt", "--recipient", "provider:other:x", &names[0], &names[1]],
        );
    }
}

#[tokio::test]
async fn layers_wrapped_at_once_under_a_new_key_elsewhere_all_open() {
    let home = Home::new();
    let server = home.serve("server", &[]);
    let provider =
        Provider::start(&home, "127.0.0.1:0", &support::with(&["--allow-unwrap"], &server.flags()));
    let options = PrivateOptions { symkey: Zeroizing::new([4; 32]), digest: String::new(), nonce: [1; 16] };
    let json = options.to_json().unwrap();
    let parameters = [("attestation-agent".to_owned(), vec![format!("keyid={KEY_ID}").into_bytes()])];
    let ask = KeyProviderInput::KeyWrap { options: json.clone(), parameters: parameters.into() };
    let ask = ask.to_json().unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, ask) = (provider.client(), ask.clone());
        calls.spawn(async move { client.wrap(&ask).await.unwrap() });
    }
    let mut answers = calls.join_all().await;
    answers.push(provider.client().wrap(&ask).await.unwrap());
    for answer in answers {
        let KeyProviderOutput::KeyWrap { annotation } = KeyProviderOutput::parse(&answer).unwrap() else {
            panic!()
        };
        let asked = KeyProviderInput::KeyUnwrap { annotation }.to_json().unwrap();
        let back = provider.client().unwrap(&asked).await.unwrap();
        let KeyProviderOutput::KeyUnwrap { options } = KeyProviderOutput::parse(&back).unwrap() else {
            panic!()
        };
        assert_eq!(options, json);
    }
    // Another process has not that key, and puts none in its place.
    let other = Provider::start(&home, "127.0.0.1:0", &support::with(&[], &server.flags()));
    assert_eq!(status(other.client().wrap(&ask).await.unwrap_err()), GrpcCode::InvalidArgument);
    server.stop();
}

fn status(error: Error) -> GrpcCode {
    match error {
        Error::Status { status, .. } => status,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_key_provider_withstands_its_callers() {
    let home = Home::new();
    home.ok(&["secret", "set", "default/secret/password", "not 32 bytes"]);
    home.ok(&["secret", "set", "default/secret/fitting", "exactly 32 bytes as a key has it"]);
    let served = Provider::start(&home, "127.0.0.1:0", &["--allow-unwrap"]);
    let client = served.client();
    let options =
        || PrivateOptions { symkey: Zeroizing::new([4; 32]), digest: String::new(), nonce: [1; 16] };
    let ask = |options: &[u8], parameters: &str| {
        let parameters = [("attestation-agent".to_owned(), vec![parameters.as_bytes().to_vec()])].into();
        KeyProviderInput::KeyWrap { options: Zeroizing::new(options.to_vec()), parameters }.to_json().unwrap()
    };
    let json = options().to_json().unwrap();

    // What is right works, both ways.
    let answer = client.wrap(&ask(&json, &format!("keyid={KEY_ID}"))).await.unwrap();
    assert!(answer.starts_with(br#"{"keywrapresults":{"annotation":["#), "bytes are number arrays");
    let KeyProviderOutput::KeyWrap { annotation } = KeyProviderOutput::parse(&answer).unwrap() else {
        panic!()
    };
    let unwrap = |annotation: Vec<u8>| KeyProviderInput::KeyUnwrap { annotation }.to_json().unwrap();
    let answer = client.unwrap(&unwrap(annotation.clone())).await.unwrap();
    let KeyProviderOutput::KeyUnwrap { options: back } = KeyProviderOutput::parse(&answer).unwrap() else {
        panic!()
    };
    assert_eq!(back, json);

    for (bad, expected) in [
        (b"".to_vec(), GrpcCode::InvalidArgument),
        (b"not json".to_vec(), GrpcCode::InvalidArgument),
        (b"[".repeat(100_000), GrpcCode::InvalidArgument),
        (vec![b' '; 2 << 20], GrpcCode::ResourceExhausted),
        (br#"{"op":"keyother"}"#.to_vec(), GrpcCode::InvalidArgument),
        (unwrap(annotation.clone()).to_vec(), GrpcCode::InvalidArgument),
        (ask(b"any secret", "").to_vec(), GrpcCode::InvalidArgument),
        (ask(&json, "sample=true").to_vec(), GrpcCode::InvalidArgument),
        (ask(&json, "keyid=kbs:///../../etc").to_vec(), GrpcCode::InvalidArgument),
        (ask(&json, "keyid=kbs:///default/secret/new").to_vec(), GrpcCode::InvalidArgument),
        (ask(&json, "keyid=kbs:///default/secret/password").to_vec(), GrpcCode::InvalidArgument),
    ] {
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(200)]).into_owned();
        assert_eq!(status(client.wrap(&bad).await.unwrap_err()), expected, "{shown}");
    }
    let paths = home.ok(&["secret", "list"]);
    assert!(!paths.contains("default/secret/new"), "{paths}");
    // Nobody learns on a port which secrets exist, or how long they are.
    let mut words = Vec::new();
    for path in ["secret/new", "secret/password", "secret/fitting"] {
        let asked = ask(&json, &format!("keyid=kbs:///default/{path}"));
        words.push(client.wrap(&asked).await.unwrap_err().to_string());
    }
    assert!(words.iter().all(|w| *w == words[0]), "{words:?}");

    // Nothing but a layer's options comes out, whatever unauthenticated packet goes in.
    let mut packet: Value = serde_json::from_slice(&annotation).unwrap();
    packet["wrap_type"] = "A256CTR".into();
    packet["iv"] = cocoon_protocol::b64::std_encode(&[0; 16]).into();
    for bad in [packet.to_string().into_bytes(), b"{}".to_vec(), b"x".to_vec()] {
        assert_eq!(status(client.unwrap(&unwrap(bad)).await.unwrap_err()), GrpcCode::InvalidArgument);
    }
    let mut missing: Value = serde_json::from_slice(&annotation).unwrap();
    missing["kid"] = "kbs:///default/image-key/none".into();
    let missing = unwrap(missing.to_string().into_bytes());
    assert_eq!(status(client.unwrap(&missing).await.unwrap_err()), GrpcCode::NotFound);
    assert_eq!(status(client.unwrap(&ask(&json, "")).await.unwrap_err()), GrpcCode::InvalidArgument);
    client.wrap(&ask(&json, "")).await.unwrap();

    for address in ["0.0.0.0:0", "[::]:0", "example.com:1", "nonsense"] {
        home.refused("USAGE-INVALID", &["image", "keyprovider", "--listen", address]);
    }
}
