//! Registries that are not where their names say: mirrors that are dead, lie or work, blocked names, proxies, further
//! authorities. All stands in the plan, and a guest does as its owner did.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cocoon_image::{Digest, Manifest};
use cocoon_stage::Code;
use cocoon_tests::{Home, Layout, Registry, missing, run};

const SAID: &str = "as the image says";

fn layout() -> Layout {
    Layout::busybox(&["/bin/cat", "/data/said"], &[("/data/said", SAID.as_bytes())]).unwrap()
}

fn layer(reference: &str) -> Digest {
    let raw = run("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    Manifest::parse(&raw.unwrap()).unwrap().layers[0].digest
}

/// A port on which nobody listens.
fn dead() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A registries.conf with these mirrors of a registry.
fn mirrors(home: &Home, of: &Registry, mirrors: &[String]) -> String {
    let mut text = format!("[[registry]]\nlocation = \"{}\"\n", of.address());
    for mirror in mirrors {
        text.push_str(&format!("[[registry.mirror]]\nlocation = \"{mirror}\"\n"));
    }
    fs::write(home.file("registries.conf"), text).unwrap();
    home.file("registries.conf").display().to_string()
}

#[test]
fn mirrors_may_be_dead_and_may_lie_and_one_that_works_is_enough() {
    let Some(home) = Home::open().unwrap() else { return };
    let [original, liar, good] = [(); 3].map(|()| Registry::start().unwrap());
    let layout = layout();
    let image = layout.push(&original, "demo:mirrored").unwrap();
    for mirror in [&liar, &good] {
        layout.push(mirror, "demo:mirrored").unwrap();
    }
    let layer = layer(&image);
    liar.alter(&layer).unwrap();
    original.lose(&layer).unwrap();

    for way in ["guest", "shared"] {
        let all = mirrors(&home, &original, &[dead(), liar.address(), good.address()]);
        let pulled = home.run_vm(["--layers", way, "--registries", &all, &image]).unwrap();
        assert_eq!((pulled.status, pulled.text()), (Some(0), SAID.to_owned()), "{way}: {}", pulled.stderr);
        home.succeed(["layers", "prune"]).unwrap();
        fs::remove_dir_all(home.data().join("roots")).ok();
    }
    // The last place that is asked is the original.
    let liars = mirrors(&home, &original, &[dead(), liar.address()]);
    let refused = home.run_vm(["--json", "--registries", &liars, &image]).unwrap();
    assert_eq!(refused.json_refusal().unwrap().code, Code::ImageNotFound.as_str());
    assert_eq!(refused.text(), "");
    // Alone, what a liar gives is known for what it is.
    let lie = home.run_vm(["--json", &liar.reference("demo:mirrored")]).unwrap();
    assert_eq!(lie.json_refusal().unwrap().code, Code::ImageDigestMismatch.as_str());
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
}

#[test]
fn a_blocked_registry_is_not_asked() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = layout().push(&registry, "demo:blocked").unwrap();
    let text = format!("[[registry]]\nlocation = \"{}\"\nblocked = true\n", registry.address());
    fs::write(home.file("registries.conf"), text).unwrap();
    let file = home.file("registries.conf").display().to_string();
    let refused = home.cocoon(["run", "--json", "--registries", &file, &image]).unwrap();
    let refusal = refused.json_refusal().unwrap();
    assert_eq!(
        (refusal.code.as_str(), refusal.stage.as_str()),
        (Code::PlanImageUnavailable.as_str(), "plan")
    );
    assert!(refusal.reason.contains("blocked"), "{refusal:?}");
    assert_eq!(home.left(Duration::ZERO).unwrap(), Vec::<String>::new());
}

/// A proxy on loopback that knows names which nobody else does. What it is asked for goes into the log.
struct Proxy {
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `names`: `host:port` as in requests, and the port of loopback that it stands for.
    fn start(names: Vec<(String, u16)>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy { port: listener.local_addr().unwrap().port(), log: Arc::default() };
        let (log, names) = (Arc::clone(&proxy.log), Arc::new(names));
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (log, names) = (Arc::clone(&log), Arc::clone(&names));
                std::thread::spawn(move || serve(tcp, &names, &log));
            }
        });
        proxy
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// One connection: a tunnel, or requests in absolute form, which a registry understands as they are.
fn serve(mut tcp: TcpStream, names: &[(String, u16)], log: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&head).lines().next()?.to_owned();
    log.lock().unwrap().push(line.clone());
    let target = line.split(' ').nth(1)?;
    let target = target.strip_prefix("http://").unwrap_or(target).split('/').next()?;
    let Some((_, port)) = names.iter().find(|(name, _)| name == target) else {
        return tcp.write_all(b"HTTP/1.1 502 Who\r\ncontent-length: 0\r\n\r\n").ok();
    };
    let mut server = TcpStream::connect(("127.0.0.1", *port)).ok()?;
    if line.starts_with("CONNECT ") {
        tcp.write_all(b"HTTP/1.1 200 Yes\r\n\r\n").ok()?;
    } else {
        server.write_all(&head).ok()?;
    }
    let (mut from, mut to) = (tcp.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    std::io::copy(&mut server, &mut tcp).ok()?;
    tcp.shutdown(std::net::Shutdown::Both).ok()
}

/// An authority and a certificate by it for `registry.test`: `ca.pem`, `tls.pem`, `tls.key` in the home.
fn certify(home: &Home) {
    let path = |name: &str| home.file(name).display().to_string();
    let make = |text: String| run("openssl", text.split(' ')).unwrap();
    fs::write(home.file("leaf.ext"), "subjectAltName=DNS:registry.test\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    make(format!("req -x509 {new} -subj /CN=ca -days 2 -keyout {} -out {}", path("ca.key"), path("ca.pem")));
    make(format!("req {new} -subj /CN=registry.test -keyout {} -out {}", path("tls.key"), path("tls.csr")));
    make(format!(
        "x509 -req -in {} -CA {} -CAkey {} -CAcreateserial -days 2 -extfile {} -out {}",
        path("tls.csr"),
        path("ca.pem"),
        path("ca.key"),
        path("leaf.ext"),
        path("tls.pem")
    ));
}

#[test]
fn a_guest_pulls_through_the_proxy_and_trusts_the_authority_of_its_plan_only() {
    let Some(home) = Home::open().unwrap() else { return };
    if let Some(tool) = missing(&["openssl"]) {
        println!("skipped: {tool} is not installed");
        return;
    }
    certify(&home);
    let secure = Registry::start_tls(&home.file("tls.pem"), &home.file("tls.key")).unwrap();
    let plain = Registry::start().unwrap();
    for registry in [&secure, &plain] {
        layout().push(registry, "demo:far").unwrap();
    }
    let proxy = Proxy::start(vec![
        ("registry.test:443".into(), secure.port()),
        ("plain.test:5000".into(), plain.port()),
    ]);
    let (url, authority) = (proxy.url(), home.file("ca.pem").display().to_string());

    let image = "registry.test/demo:far";
    let args = ["--proxy", &url, "--ca-certificate", &authority, image];
    for way in ["guest", "shared"] {
        let pulled = home.run_vm([&["--layers", way], &args[..]].concat()).unwrap();
        assert_eq!((pulled.status, pulled.text()), (Some(0), SAID.to_owned()), "{way}: {}", pulled.stderr);
        let asked = proxy.asked();
        // The owner's connection and, where it pulls, the guest's: tunnels, in which the proxy sees no request.
        assert!(asked.iter().all(|l| l == "CONNECT registry.test:443 HTTP/1.1"), "{asked:?}");
        assert!(asked.len() >= if way == "guest" { 2 } else { 1 }, "{asked:?}");
    }
    let early = |args: &[&str]| {
        let outcome = home.cocoon([&["run", "--json"], args].concat()).unwrap();
        (outcome.json_refusal().unwrap(), outcome)
    };
    let (refusal, _) = early(&["--proxy", &url, image]);
    assert_eq!(refusal.code, Code::PlanImageUnavailable.as_str());
    assert!(refusal.reason.contains("certificate"), "{refusal:?}");
    // Without its proxy the name is nobody's.
    let (refusal, _) = early(&["--proxy", &url, "--no-proxy", "registry.test", image]);
    assert_eq!(refusal.code, Code::PlanImageUnavailable.as_str());

    // Plain HTTP only where it is named, port and all.
    let image = "plain.test:5000/demo:far";
    proxy.asked();
    let named = home.run_vm(["--proxy", &url, "--plain-http", "plain.test:5000", image]).unwrap();
    assert_eq!((named.status, named.text()), (Some(0), SAID.to_owned()), "{}", named.stderr);
    let asked = proxy.asked();
    assert!(asked.iter().all(|l| l.starts_with("GET http://plain.test:5000/v2/")), "{asked:?}");
    let (refusal, _) = early(&["--proxy", &url, "--plain-http", "plain.test", image]);
    assert_eq!(refusal.code, Code::PlanImageUnavailable.as_str());
    assert!(proxy.asked().iter().all(|l| l.starts_with("CONNECT ")), "plain HTTP without leave");
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
}
